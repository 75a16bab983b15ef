//! The settings of the scheduler as a whole.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Service, yes};
use crate::arn::{Arn, Target, canonical};

/// How far the clock of a tick may be ahead of ours, in seconds.
const AHEAD: i64 = 60;

/// The settings of the scheduler as a whole, in the row of [`ALL`](super::ALL).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it runs: it does until it is stopped.
    #[serde(rename = "isScheduled", default = "yes")]
    pub running: bool,
    /// How many seconds lie between two ticks that count; every one counts where it is not set.
    #[serde(rename = "tickSeconds", default, skip_serializing_if = "Option::is_none")]
    pub period: Option<i64>,
    /// The newest tick that was worked, in seconds since 1970.
    #[serde(rename = "lastTick", default)]
    pub last_tick: i64,
    /// Ids, ARNs or keys of resources that nothing may switch; `*` stands for any text.
    #[serde(rename = "neverTouch", default)]
    pub never: Vec<String>,
    /// Dollars an hour, by id, by key (`ec2:instance/eu-west-1/i-1`) or by kind (`ec2:instance`).
    #[serde(default)]
    pub prices: HashMap<String, f64>,
}

impl Settings {
    /// Whether a tick counts by the period: one in each span of it. A clock that was set back by
    /// over a period is believed.
    pub fn is_due(&self, tick: Timestamp) -> bool {
        let Some(period) = self.period.filter(|period| *period > 0) else { return true };
        let tick = tick.as_second();
        tick.div_euclid(period) > self.last_tick.div_euclid(period)
            || tick < self.last_tick - period
    }

    /// Whether a tick is older than one that was worked already: what it would bring back is past.
    /// A newest tick that lies ahead of the clock is no witness.
    pub fn is_past(&self, tick: Timestamp, now: Timestamp) -> bool {
        tick.as_second() < self.last_tick && self.last_tick <= now.as_second() + AHEAD
    }

    /// Whether the clock of a tick is further ahead of ours than two clocks can be apart: what its rules
    /// say is not so yet.
    pub fn is_ahead(tick: Timestamp, now: Timestamp) -> bool {
        tick.as_second() > now.as_second() + AHEAD
    }

    /// The entry of the never-touch list that a resource falls under, however either is spelled:
    /// as an id, a key or an ARN, with `*` for any text. `named` is how its source names it, and
    /// `own` the worker's own account.
    pub fn never_touched(&self, target: &Target, named: &str, own: &str) -> Option<&str> {
        if self.never.is_empty() {
            return None;
        }
        let place = Target { account: String::new(), ..target.clone() }.key();
        let (key, arn) = (target.key(), target.arn(own));
        let texts = [key.as_str(), &place, &target.id, named, &arn];
        let hit = |entry: &&String| {
            texts.iter().any(|text| glob(entry, text)) || is_named(entry, target, own)
        };
        self.never.iter().find(hit).map(String::as_str)
    }

    /// What an hour of a resource costs, by the most exact entry.
    pub fn price(&self, service: Service, key: &str, id: &str) -> Option<f64> {
        [key, id, service.name()].iter().find_map(|name| self.prices.get(*name)).copied()
    }
}

/// Whether an entry names a resource in another spelling than those that its texts have.
fn is_named(entry: &str, target: &Target, own: &str) -> bool {
    let Some((arn, (service, id))) = Arn::parse(entry).and_then(|arn| Some((arn, arn.parts()?)))
    else {
        return glob(&canonical(target.service, entry), &target.id);
    };
    let account = if target.account.is_empty() { own } else { &target.account };
    // What is not known is rather left alone.
    let there =
        |pattern: &str, text: &str| pattern.is_empty() || text.is_empty() || glob(pattern, text);
    service == target.service
        && there(arn.account, account)
        && there(arn.region, &target.region)
        && glob(&canonical(service, id), &target.id)
}

/// Whether a text is that of a pattern in which `*` stands for any text.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(tail)
}
