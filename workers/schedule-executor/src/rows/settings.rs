//! The settings of the scheduler as a whole.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Service, yes};

/// The settings of the scheduler as a whole, in the row of [`ALL`](super::ALL).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it runs: it does until it is stopped.
    #[serde(rename = "isScheduled", default = "yes")]
    pub running: bool,
    /// How many seconds lie between two ticks that count; every one counts where it is not set.
    #[serde(rename = "tickSeconds", default, skip_serializing_if = "Option::is_none")]
    pub period: Option<i64>,
    /// The last tick that counted, in seconds since 1970.
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

    /// The entry of the never-touch list that a resource falls under.
    pub fn never_touched(&self, key: &str, id: &str, named: &str) -> Option<&str> {
        let found = self.never.iter().find(|it| [key, id, named].iter().any(|text| glob(it, text)));
        found.map(String::as_str)
    }

    /// What an hour of a resource costs, by the most exact entry.
    pub fn price(&self, service: Service, key: &str, id: &str) -> Option<f64> {
        [key, id, service.name()].iter().find_map(|name| self.prices.get(*name)).copied()
    }
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
