//! The policy and the prices, from the settings.

use flotilla_runtime::config::Reader;

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
    let policy = text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
    let policy = policy.and_then(|policy| sound(policy, urls));
    policy.unwrap_or_else(|why| {
        settings.mistake(format!("FLOTILLA_POLICY={path}: {why}"));
        Policy::for_queue("", 0)
    })
}

/// A policy that can be kept with these queues.
fn sound(policy: Policy, urls: &[String]) -> Result<Policy, String> {
    let known: Vec<&str> = urls.iter().map(|url| queue_name(url)).collect();
    if let Some(queue) = policy.queues.iter().find(|it| !known.contains(&it.name.as_str())) {
        let name = &queue.name;
        return Err(format!("queue {name:?} is none of FLOTILLA_QUEUE_URLS: {}", known.join(", ")));
    }
    if policy.min > policy.max {
        return Err(format!("min ({}) is above max ({})", policy.min, policy.max));
    }
    Ok(policy)
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
