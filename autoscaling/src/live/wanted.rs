//! The policy and the prices, from the settings.

use flotilla_runtime::config::Reader;
use serde_json::Value;

use super::config::queue_name;
use crate::{
    observed::Millis,
    policy::{Policy, QueuePolicy},
};

/// That of a file, or of settings one by one.
pub(super) fn policy(settings: &mut Reader, urls: &[String]) -> Policy {
    let Some(path) = settings.optional("FLOTILLA_POLICY") else {
        return policy_of_settings(settings, urls);
    };
    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
    let policy = text.and_then(|text| written(&text)).and_then(|policy| sound(policy, urls));
    policy.unwrap_or_else(|why| {
        settings.mistake(format!("FLOTILLA_POLICY={path}: {why}"));
        Policy::for_queue("", 0)
    })
}

/// The policy of a file, all of whose names are known: one that is misspelt would say nothing.
fn written(text: &str) -> Result<Policy, String> {
    let policy: Policy = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let given: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let known = serde_json::to_value(&policy).map_err(|e| e.to_string())?;
    match unknown(&given, &known) {
        Some(name) => Err(format!("a policy has no {name:?}")),
        None => Ok(policy),
    }
}

/// A name within `given` that is none of `known`.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().find_map(|(name, value)| match known.get(name) {
                Some(known) => unknown(value, known),
                None => Some(name.clone()),
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).find_map(|(given, known)| unknown(given, known))
        }
        _ => None,
    }
}

/// A policy that can be kept with these queues.
fn sound(policy: Policy, urls: &[String]) -> Result<Policy, String> {
    let Policy { min, max, .. } = policy;
    if min > max {
        return Err(format!("min ({min}) is above max ({max})"));
    }
    named_once(&policy, urls)?;
    let boots = ("delayed_off_boots", policy.delayed_off_boots, 1000.0);
    let parts = [
        ("anticipation", policy.anticipation),
        ("readiness", policy.readiness),
        ("prediction", policy.prediction),
        ("warm", policy.warm),
        ("reuse", policy.reuse),
    ];
    let all = parts.map(|(name, value)| (name, value, 1.0)).into_iter().chain([boots]);
    match all.into_iter().find(|(_, value, most)| !(0.0..=*most).contains(value)) {
        Some((name, value, most)) => Err(format!("{name} ({value}) is not from 0 to {most}")),
        None => Ok(policy),
    }
}

/// Whether each queue that is looked at has one policy, and no other has: one without asks for nothing.
fn named_once(policy: &Policy, urls: &[String]) -> Result<(), String> {
    let known: Vec<&str> = urls.iter().map(|url| queue_name(url)).collect();
    let named: Vec<&str> = policy.queues.iter().map(|it| it.name.as_str()).collect();
    if let Some(name) = named.iter().find(|name| !known.contains(*name)) {
        return Err(format!("queue {name:?} is none of FLOTILLA_QUEUE_URLS: {}", known.join(", ")));
    }
    if let Some(name) = known.iter().find(|name| !named.contains(*name)) {
        return Err(format!("queue {name:?} of FLOTILLA_QUEUE_URLS has no policy"));
    }
    match (1..named.len()).find(|place| named[..*place].contains(&named[*place])) {
        Some(place) => Err(format!("queue {:?} is named twice", named[place])),
        None => Ok(()),
    }
}

fn policy_of_settings(settings: &mut Reader, urls: &[String]) -> Policy {
    let base = Policy::for_queue("", 0);
    let queue = queue_policy(settings);
    let counted = counted(settings, urls);
    let named = |url: &String| {
        let name = queue_name(url).to_owned();
        QueuePolicy { counted: counted.contains(&name), name, ..queue.clone() }
    };
    let (min, max) = sizes(settings);
    Policy {
        queues: urls.iter().map(named).collect(),
        max,
        min,
        spare: settings.parsed("FLOTILLA_SPARE_INSTANCES", 0),
        boot_ms: millis(settings, "FLOTILLA_BOOT_SECONDS", 120.0),
        minimum_billed_ms: millis(settings, "FLOTILLA_MINIMUM_BILLED_SECONDS", 60.0),
        delayed_off_boots: settings.ranged("FLOTILLA_DELAYED_OFF_BOOTS", 1.0, 0.0..=1000.0),
        readiness: settings.ranged("FLOTILLA_READINESS", 0.0, 0.0..=1.0),
        prediction: settings.ranged("FLOTILLA_PREDICTION", 0.0, 0.0..=1.0),
        warm: settings.ranged("FLOTILLA_WARM", 0.0, 0.0..=1.0),
        reuse: settings.ranged("FLOTILLA_REUSE", 1.0, 0.0..=1.0),
        price_per_hour: micros(settings.ranged(
            "FLOTILLA_PRICE_DOLLARS_PER_HOUR",
            0.1,
            0.000_001..=10_000.0,
        )),
        ..base
    }
}

/// The least and the most instances.
fn sizes(settings: &mut Reader) -> (u32, u32) {
    let min = settings.parsed("FLOTILLA_MIN_INSTANCES", 0);
    if settings.required("FLOTILLA_MAX_INSTANCES").is_empty() {
        return (min, 0);
    }
    let max = settings.parsed("FLOTILLA_MAX_INSTANCES", 0);
    if min > max {
        let what =
            format!("FLOTILLA_MIN_INSTANCES ({min}) is above FLOTILLA_MAX_INSTANCES ({max})");
        settings.mistake(what);
    }
    (min, max)
}

/// The queues whose senders all count.
fn counted(settings: &mut Reader, urls: &[String]) -> Vec<String> {
    let text = settings.optional("FLOTILLA_COUNTED_QUEUES").unwrap_or_default();
    let names = text.split(',').map(|name| queue_name(name.trim())).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    for name in names.iter().filter(|name| urls.iter().all(|url| queue_name(url) != *name)) {
        settings
            .mistake(format!("FLOTILLA_COUNTED_QUEUES: {name:?} is none of FLOTILLA_QUEUE_URLS"));
    }
    names
}

/// What an instance costs an hour, by type, in millionths of a dollar.
pub(super) fn prices(settings: &mut Reader) -> Vec<(String, u64)> {
    let text = settings.optional("FLOTILLA_PRICES").unwrap_or_default();
    let mut prices = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let price = part.split_once('=').and_then(|(kind, price)| {
            let dollars: f64 = price.trim().parse().ok()?;
            (0.000_001..=10_000.0)
                .contains(&dollars)
                .then(|| (kind.trim().to_owned(), micros(dollars)))
        });
        match price {
            Some(price) => prices.push(price),
            None => settings.mistake(format!(
                "FLOTILLA_PRICES: {part:?} is no TYPE=DOLLARS from 0.000001 to 10000"
            )),
        }
    }
    prices
}

fn queue_policy(settings: &mut Reader) -> QueuePolicy {
    let limited = settings.optional("FLOTILLA_DOLLARS_PER_HOUR").is_some();
    let dollars = settings.ranged("FLOTILLA_DOLLARS_PER_HOUR", 0.0, 0.0..=1e9);
    QueuePolicy {
        name: String::new(),
        wait_target_ms: millis(settings, "FLOTILLA_WAIT_TARGET_SECONDS", 0.0),
        money_per_hour: limited.then(|| micros(dollars)),
        service_ms: millis(settings, "FLOTILLA_SERVICE_SECONDS", 10.0),
        counted: false,
    }
}

fn millis(settings: &mut Reader, name: &str, default: f64) -> Millis {
    settings.seconds(name, default, (0.0, 604_800.0)).as_millis() as Millis
}

/// Millionths of a dollar.
fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn why(change: impl FnOnce(&mut Value)) -> Result<Policy, String> {
        let mut policy = serde_json::to_value(Policy::for_queue("a", 7)).unwrap();
        change(&mut policy);
        written(&policy.to_string()).and_then(|it| sound(it, &["http://q/1/a".to_owned()]))
    }

    #[test]
    fn a_policy_of_a_log_is_one_of_a_file_and_what_cannot_be_kept_is_named() {
        assert_eq!(why(|_| ()), Ok(Policy::for_queue("a", 7)));
        let said = |why: Result<Policy, String>, word: &str| {
            let why = why.unwrap_err();
            assert!(why.contains(word), "{word} is not in {why}");
        };
        said(why(|it| it["readines"] = json!(0.5)), "no \"readines\"");
        said(why(|it| it["queues"][0]["wait_target"] = json!(9)), "no \"wait_target\"");
        said(why(|it| it["reuse"] = json!(1.5)), "reuse (1.5)");
        said(why(|it| it["delayed_off_boots"] = json!(-1.0)), "delayed_off_boots (-1)");
        said(why(|it| it["max"] = json!(-1)), "invalid value");
        said(why(|it| it["min"] = json!(8)), "min (8) is above max (7)");
        said(why(|it| it["queues"] = json!([])), "\"a\" of FLOTILLA_QUEUE_URLS has no policy");
        let twice = |it: &mut Value| {
            let one = it["queues"][0].clone();
            it["queues"].as_array_mut().unwrap().push(one);
        };
        said(why(twice), "named twice");
    }
}
