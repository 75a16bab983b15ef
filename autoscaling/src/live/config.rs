//! The autoscaler's settings.

use std::{path::PathBuf, time::Duration};

use flotilla_runtime::config::{Reader, default_worker_id};

use super::wanted::{policy, prices};
use crate::{policy::Policy, shadow::GAP};

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
    /// `FLOTILLA_WORKER_ID` (by default host and process), and a random number: two of one name are
    /// still two, of which one owns the group.
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
    /// `FLOTILLA_DECISION_LOG`: the file that every decision is appended to before it is carried out, a
    /// JSON line each, with a line after it of what was done, if anything was; the standard output
    /// unless told.
    pub log: Option<PathBuf>,
    /// `FLOTILLA_SHADOW`: whether it only watches a group that another policy sizes, and counts what
    /// it would have cost (default false).
    pub shadow: bool,
    /// `FLOTILLA_HTTP_ADDR`: where `/metrics`, `/healthz` and `/readyz` listen.
    pub http_addr: String,
    /// `FLOTILLA_TERMINATING_HOOK`: the group's lifecycle hook (default `terminating`), as its workers are
    /// told.
    pub hook: String,
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
        once_each(settings, &queue_urls);
        let lease = settings.seconds("FLOTILLA_LEASE_SECONDS", 30.0, (1.0, 3600.0));
        let every = settings.seconds("FLOTILLA_DECIDE_SECONDS", 5.0, (0.1, 600.0));
        if every * 2 > lease {
            settings
                .mistake("FLOTILLA_LEASE_SECONDS must be twice FLOTILLA_DECIDE_SECONDS or more");
        }
        let shadow = settings.parsed("FLOTILLA_SHADOW", false);
        // A turn takes its time beside.
        if shadow && every * 2 > Duration::from_millis(GAP) {
            settings.mistake(format!(
                "FLOTILLA_DECIDE_SECONDS must be {} or less with FLOTILLA_SHADOW: what is between turns \
                 too far apart is not counted",
                GAP / 2000
            ));
        }
        Self {
            group: settings.required("FLOTILLA_GROUP"),
            fleet_table: settings.required("FLOTILLA_FLEET_TABLE"),
            id: unique(settings.optional("FLOTILLA_WORKER_ID").unwrap_or_else(default_worker_id)),
            every,
            lease,
            silent: settings.seconds("FLOTILLA_SILENT_SECONDS", 30.0, (0.5, 3600.0)),
            count_lag: settings.seconds("FLOTILLA_COUNT_LAG_SECONDS", 60.0, (0.0, 3600.0)),
            cloudwatch: Some(cloudwatch(settings)).filter(|every| !every.is_zero()),
            cloudwatch_url: settings.optional("AWS_ENDPOINT_URL_CLOUDWATCH"),
            log: settings.optional("FLOTILLA_DECISION_LOG").map(PathBuf::from),
            http_addr: settings.address("FLOTILLA_HTTP_ADDR", "127.0.0.1:9100"),
            shadow,
            hook: settings
                .optional("FLOTILLA_TERMINATING_HOOK")
                .unwrap_or_else(|| "terminating".to_owned()),
            prices: prices(settings),
            policy: policy(settings, &queue_urls),
            queue_urls,
        }
    }
}

/// A queue that is named twice would ask for twice as many.
fn once_each(settings: &mut Reader, urls: &[String]) {
    for (place, url) in urls.iter().enumerate() {
        let name = queue_name(url);
        if urls[..place].iter().any(|other| queue_name(other) == name) {
            settings.mistake(format!("FLOTILLA_QUEUE_URLS: queue {name:?} is named twice"));
        }
    }
}

/// Two containers on a host's network may both be its process 1, and two hosts have the same settings.
fn unique(name: String) -> String {
    format!("{name}-{:x}", rand::random::<u64>())
}

fn cloudwatch(settings: &mut Reader) -> Duration {
    settings.seconds("FLOTILLA_CLOUDWATCH_SECONDS", 60.0, (0.0, 86_400.0))
}

/// A queue's name is the last part of its URL.
pub(super) fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
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
    fn a_shadow_that_would_count_nothing_is_refused() {
        let report = |seconds: &str, shadow: &str| {
            let pairs = [
                ("FLOTILLA_DECIDE_SECONDS", seconds),
                ("FLOTILLA_LEASE_SECONDS", "1200"),
                ("FLOTILLA_SHADOW", shadow),
            ];
            let mut settings = Reader::from_pairs(pairs);
            AutoscalerConfig::read(&mut settings);
            settings.finish().unwrap_err().to_string()
        };
        assert!(report("151", "true").contains("FLOTILLA_DECIDE_SECONDS"));
        for (seconds, shadow) in [("150", "true"), ("600", "false")] {
            let report = report(seconds, shadow);
            assert!(!report.contains("FLOTILLA_DECIDE_SECONDS"), "{report}");
        }
    }

    #[test]
    fn two_autoscalers_of_one_name_are_two() {
        let id = || {
            let mut settings = Reader::from_pairs([("FLOTILLA_WORKER_ID", "scaler")]);
            AutoscalerConfig::read(&mut settings).id
        };
        let (one, other) = (id(), id());
        assert!(one.starts_with("scaler-") && other.starts_with("scaler-"), "{one} {other}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_queue_named_twice_and_a_minimum_above_the_maximum_are_mistakes() {
        let pairs = [
            ("FLOTILLA_QUEUE_URLS", "http://q/1/a,http://q/1/b,http://elsewhere/2/a"),
            ("FLOTILLA_GROUP", "g"),
            ("FLOTILLA_FLEET_TABLE", "t"),
            ("FLOTILLA_MIN_INSTANCES", "5"),
            ("FLOTILLA_MAX_INSTANCES", "3"),
        ];
        let mut settings = Reader::from_pairs(pairs);
        AutoscalerConfig::read(&mut settings);
        let report = settings.finish().unwrap_err().to_string();
        for said in ["queue \"a\" is named twice", "FLOTILLA_MIN_INSTANCES (5) is above"] {
            assert!(report.contains(said), "{said} is not in {report}");
        }
        assert!(!report.contains("\"b\""), "{report}");
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
