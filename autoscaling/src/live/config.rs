//! The autoscaler's settings.

use std::{path::PathBuf, time::Duration};

use flotilla_runtime::config::{Reader, default_worker_id};

use crate::{
    observed::Millis,
    policy::{Policy, QueuePolicy},
};

/// What the autoscaler needs to know.
#[derive(Debug, Clone)]
pub struct AutoscalerConfig {
    /// `FLOTILLA_GROUP`: the Auto Scaling group.
    pub group: String,
    /// `FLOTILLA_QUEUE_URLS`: the queues that it serves, with commas between.
    pub queue_urls: Vec<String>,
    /// `FLOTILLA_PRICES`: what an instance costs an hour in dollars, by type, such as
    /// `c7g.large=0.0725,c7g.large:spot=0.0281`; in millionths of a dollar here. A spot instance
    /// without a price of its own costs what others of its type do.
    pub prices: Vec<(String, u64)>,
    /// `FLOTILLA_FLEET_TABLE`: where the workers tell of themselves.
    pub fleet_table: String,
    /// `FLOTILLA_WORKER_ID`: unique among autoscalers; by default host, process and a random number.
    pub id: String,
    /// `FLOTILLA_DECIDE_SECONDS`: how often it decides (default 5 s).
    pub every: Duration,
    /// `FLOTILLA_LEASE_SECONDS`: after how long a silent owner is replaced (default 30 s).
    pub lease: Duration,
    /// `FLOTILLA_SILENT_SECONDS`: a worker that did not tell of itself for so long is taken to be
    /// at work, since nobody knows (default 30 s); one that was ordered to drain is given up after
    /// twenty times as long.
    pub silent: Duration,
    /// `FLOTILLA_COUNT_LAG_SECONDS`: how late SQS's counts may be (default 60 s).
    pub count_lag: Duration,
    /// `FLOTILLA_CLOUDWATCH_SECONDS`: how often CloudWatch is asked (default 60 s); `None` for 0, never.
    pub cloudwatch: Option<Duration>,
    /// `AWS_ENDPOINT_URL_CLOUDWATCH`: another endpoint for it.
    pub cloudwatch_url: Option<String>,
    /// `FLOTILLA_DECISION_LOG`: the file that every decision is appended to, a JSON line each; the
    /// standard output unless told.
    pub log: Option<PathBuf>,
    /// `FLOTILLA_SHADOW`: whether it only watches a group that another policy sizes, and counts what
    /// it would have cost (default false).
    pub shadow: bool,
    /// `FLOTILLA_HTTP_ADDR`: where `/metrics`, `/healthz` and `/readyz` listen.
    pub http_addr: String,
    /// What is wanted: `FLOTILLA_POLICY`, a JSON file of a [`Policy`] as in the log; or
    /// `FLOTILLA_MAX_INSTANCES` with `FLOTILLA_MIN_INSTANCES` (0), `FLOTILLA_SPARE_INSTANCES` (0),
    /// `FLOTILLA_WAIT_TARGET_SECONDS` (0), `FLOTILLA_DOLLARS_PER_HOUR` (for each queue; no limit),
    /// `FLOTILLA_PRICE_DOLLARS_PER_HOUR` (0.1), `FLOTILLA_BOOT_SECONDS` (120, until seen),
    /// `FLOTILLA_SERVICE_SECONDS` (10, until seen), `FLOTILLA_MINIMUM_BILLED_SECONDS` (60) and
    /// `FLOTILLA_DELAYED_OFF_BOOTS` (1); and, as parts from 0 to 1, `FLOTILLA_READINESS` (0),
    /// `FLOTILLA_REUSE` (1), `FLOTILLA_PREDICTION` (0) and `FLOTILLA_WARM` (0: no warm pool is
    /// touched); and `FLOTILLA_COUNTED_QUEUES`, the names of queues all of whose senders count what
    /// they send (none).
    pub policy: Policy,
}

impl AutoscalerConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Reader) -> Self {
        let urls = settings.required("FLOTILLA_QUEUE_URLS");
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let queue_urls: Vec<String> = urls.map(str::to_owned).collect();
        let addr = settings.optional("FLOTILLA_HTTP_ADDR");
        let lease = settings.seconds("FLOTILLA_LEASE_SECONDS", 30.0, (1.0, 3600.0));
        let every = settings.seconds("FLOTILLA_DECIDE_SECONDS", 5.0, (0.1, 600.0));
        if every * 2 > lease {
            settings
                .mistake("FLOTILLA_LEASE_SECONDS must be twice FLOTILLA_DECIDE_SECONDS or more");
        }
        Self {
            group: settings.required("FLOTILLA_GROUP"),
            fleet_table: settings.required("FLOTILLA_FLEET_TABLE"),
            id: settings.optional("FLOTILLA_WORKER_ID").unwrap_or_else(own_id),
            every,
            lease,
            silent: settings.seconds("FLOTILLA_SILENT_SECONDS", 30.0, (0.5, 3600.0)),
            count_lag: settings.seconds("FLOTILLA_COUNT_LAG_SECONDS", 60.0, (0.0, 3600.0)),
            cloudwatch: Some(cloudwatch(settings)).filter(|every| !every.is_zero()),
            cloudwatch_url: settings.optional("AWS_ENDPOINT_URL_CLOUDWATCH"),
            log: settings.optional("FLOTILLA_DECISION_LOG").map(PathBuf::from),
            http_addr: addr.unwrap_or_else(|| "127.0.0.1:9100".to_owned()),
            shadow: settings.parsed("FLOTILLA_SHADOW", false),
            prices: prices(settings),
            policy: policy(settings, &queue_urls),
            queue_urls,
        }
    }
}

/// Two containers on a host's network may both be its process 1.
fn own_id() -> String {
    format!("{}-{:x}", default_worker_id(), rand::random::<u64>())
}

fn cloudwatch(settings: &mut Reader) -> Duration {
    settings.seconds("FLOTILLA_CLOUDWATCH_SECONDS", 60.0, (0.0, 86_400.0))
}

/// A queue's name is the last part of its URL.
pub(super) fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn policy(settings: &mut Reader, urls: &[String]) -> Policy {
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
    let max = settings.required("FLOTILLA_MAX_INSTANCES");
    Policy {
        queues: urls.iter().map(named).collect(),
        max: if max.is_empty() { 0 } else { settings.parsed("FLOTILLA_MAX_INSTANCES", 0) },
        min: settings.parsed("FLOTILLA_MIN_INSTANCES", 0),
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

fn prices(settings: &mut Reader) -> Vec<(String, u64)> {
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
    use super::*;

    #[test]
    fn every_mistake_is_reported_with_its_name() {
        let pairs = [
            ("FLOTILLA_DECIDE_SECONDS", "20"),
            ("FLOTILLA_MIN_INSTANCES", "few"),
            ("FLOTILLA_PRICES", "c7g.large"),
            ("FLOTILLA_COUNTED_QUEUES", "elsewhere"),
        ];
        let mut settings = Reader::from_pairs(pairs);
        AutoscalerConfig::read(&mut settings);
        let report = settings.finish().unwrap_err().to_string();
        let names = [
            "GROUP",
            "QUEUE_URLS",
            "FLEET_TABLE",
            "LEASE_SECONDS",
            "MAX_INSTANCES",
            "MIN_INSTANCES",
            "PRICES",
            "COUNTED_QUEUES",
        ];
        for name in names {
            assert!(report.contains(&format!("FLOTILLA_{name}")), "{name} is not in {report}");
        }
    }

    #[test]
    fn each_queue_gets_a_policy_under_its_name() {
        let pairs = [
            ("FLOTILLA_QUEUE_URLS", "http://q/1/a, http://q/1/b"),
            ("FLOTILLA_GROUP", "g"),
            ("FLOTILLA_FLEET_TABLE", "t"),
            ("FLOTILLA_MAX_INSTANCES", "7"),
            ("FLOTILLA_DOLLARS_PER_HOUR", "1.5"),
            ("FLOTILLA_COUNTED_QUEUES", "b"),
            ("FLOTILLA_PRICES", "c7g.large=0.0725, m7g.large = 0.0816"),
        ];
        let mut settings = Reader::from_pairs(pairs);
        let config = AutoscalerConfig::read(&mut settings);
        settings.finish().unwrap();
        let names: Vec<&str> = config.policy.queues.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((names, config.policy.max), (vec!["a", "b"], 7));
        let counted: Vec<bool> = config.policy.queues.iter().map(|it| it.counted).collect();
        assert_eq!(counted, [false, true]);
        let price = |kind: &str, price| (kind.to_owned(), price);
        assert_eq!(config.prices, [price("c7g.large", 72_500), price("m7g.large", 81_600)]);
        assert_eq!(config.policy.queues[1].money_per_hour, Some(1_500_000));
    }
}
