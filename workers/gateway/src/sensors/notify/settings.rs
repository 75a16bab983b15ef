//! Who is notified of what, and when: a file in TOML.
//!
//! ```toml
//! dedup = "30m"                # a problem that comes back within this time waits for its end
//!
//! [[targets]]                  # the first is told at once, the next if nobody acknowledges
//! name = "on-call"
//! webhook = "https://pager.example.org/flotilla"
//! secret_env = "ONCALL_SECRET" # where the secret is that signs what is sent
//! after = "1m"                 # a problem that lasts so long is told
//! kinds = ["OBSTRUCTION"]      # zones, prefixes and devices choose too
//! quiet = { from = "22:00", to = "06:00", zone = "Europe/Prague" }
//!
//! [[targets]]
//! name = "chief"
//! sns = "arn:aws:sns:eu-central-1:000000000000:flotilla"
//! after = "15m"                # not acknowledged so long after the target before was told
//! ended = false                # is not told that it ended
//! ```

use std::{collections::HashSet, fmt};

use jiff::{Timestamp, ToSpan, civil::Time, tz::TimeZone};
use schedule_executor::schedule::zone;
use serde::Deserialize;

use crate::sensors::{
    buckets::duration,
    subscription::{Subscription, Wanted},
};

/// The most targets.
const TARGETS: usize = 20;

/// Who is told of a problem, one after the other.
#[derive(Debug, Clone)]
pub(in super::super) struct Policy {
    /// How long after a problem was told it is not told again, in milliseconds.
    pub(super) dedup: i64,
    pub(super) targets: Vec<Target>,
}

/// Who is told.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) way: Way,
    /// How long to wait before, in milliseconds.
    pub(super) after: i64,
    pub(super) ended: bool,
    pub(super) chosen: Subscription,
    pub(super) quiet: Option<Quiet>,
}

/// How somebody is told.
#[derive(Clone)]
pub(super) enum Way {
    /// A POST to an address of the operator's, signed where there is a secret.
    Webhook { url: String, secret: Option<String> },
    /// A message to a topic.
    Sns(String),
}

impl fmt::Debug for Way {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An address may be a secret as well.
            Self::Webhook { .. } => write!(to, "webhook"),
            Self::Sns(topic) => write!(to, "sns {topic}"),
        }
    }
}

/// When nobody is to be woken.
#[derive(Debug, Clone)]
pub(super) struct Quiet {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Quiet {
    /// When the quiet ends that is at this time, if it is quiet; both in Unix milliseconds.
    pub(super) fn ends(&self, at: i64) -> Option<i64> {
        let local = Timestamp::from_millisecond(at).ok()?.to_zoned(self.zone.clone());
        let (now, today) = (local.time(), local.date());
        let ends = match self.from < self.to {
            true if now >= self.from && now < self.to => today,
            false if now >= self.from => today.checked_add(1.day()).ok()?,
            false if now < self.to => today,
            _ => return None,
        };
        let ends = ends.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?;
        // Where the clock is set forward, the end of the quiet may be before now.
        Some(ends.timestamp().as_millisecond()).filter(|ends| *ends > at)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dedup: Option<String>,
    #[serde(default)]
    targets: Vec<Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    webhook: Option<String>,
    sns: Option<String>,
    secret_env: Option<String>,
    after: Option<String>,
    ended: Option<bool>,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    zones: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    devices: Vec<String>,
    quiet: Option<WrittenQuiet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQuiet {
    from: Time,
    to: Time,
    zone: String,
}

impl Policy {
    /// Reads a policy; `env` gives the secrets.
    ///
    /// # Errors
    /// Says what is wrong, and with which target.
    pub(in super::super) fn parse(
        text: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        if !(1..=TARGETS).contains(&file.targets.len()) {
            return Err(format!("there are {} targets: 1 to {TARGETS}", file.targets.len()));
        }
        let mut names = HashSet::new();
        let mut targets = Vec::new();
        for written in file.targets {
            let name = written.name.clone();
            if !names.insert(name.clone()) {
                return Err(format!("there are two targets {name:?}"));
            }
            targets.push(written.target(&env).map_err(|why| format!("target {name:?}: {why}"))?);
        }
        let dedup = file.dedup.as_deref().map_or(Ok(0), duration)?;
        Ok(Self { dedup, targets })
    }
}

impl Written {
    fn target(self, env: &impl Fn(&str) -> Option<String>) -> Result<Target, String> {
        let secret = match self.secret_env {
            Some(name) => Some(env(&name).ok_or_else(|| format!("{name} is not set"))?),
            None => None,
        };
        let way = match (self.webhook, self.sns) {
            (Some(url), None) => {
                let parsed = url.parse::<hyper::Uri>().ok();
                let scheme = parsed.as_ref().and_then(hyper::Uri::scheme_str);
                if !matches!(scheme, Some("http" | "https")) {
                    return Err("webhook must be an address that begins with http:// or https://"
                        .to_owned());
                }
                Way::Webhook { url, secret }
            }
            (None, Some(topic)) if secret.is_none() => Way::Sns(topic),
            _ => return Err("it has either webhook, or sns without secret_env".to_owned()),
        };
        let quiet = match self.quiet {
            Some(WrittenQuiet { from, to, .. }) if from == to => {
                return Err("quiet begins when it ends".to_owned());
            }
            Some(it) => {
                let zone = zone(&it.zone).map_err(|e| e.to_string())?;
                Some(Quiet { from: it.from, to: it.to, zone })
            }
            None => None,
        };
        let chosen = Subscription::new(Wanted {
            kinds: self.kinds,
            zones: self.zones,
            prefixes: self.prefixes,
            devices: self.devices,
            ..Wanted::default()
        })?;
        let after = self.after.as_deref().map_or(Ok(0), duration)?;
        Ok(Target { name: self.name, way, after, ended: self.ended.unwrap_or(true), chosen, quiet })
    }
}
