//! Episodes: a problem from its opening to its end.

use serde::{Deserialize, Serialize};

use super::{Kind, Rule};

/// What a sensor said at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Event time, in Unix milliseconds.
    pub at: i64,
    /// The level.
    #[serde(with = "exact")]
    pub filling: f64,
}

/// The readings that decided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The last of the current sensor.
    pub current: Sample,
    /// The last of the following sensor.
    pub following: Sample,
}

/// A change of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Event time, in Unix milliseconds.
    pub at: i64,
    /// What decided.
    pub evidence: Pair,
}

/// A problem from its opening to its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What is wrong.
    pub kind: Kind,
    /// Since when. No two episodes of an edge open at one time.
    pub opened: Turn,
    /// Until when, if it has ended.
    pub resolved: Option<Turn>,
}

/// Where an edge stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Stand {
    pub(super) current: Option<Sample>,
    pub(super) following: Option<Sample>,
    pub(super) open: Option<Episode>,
}

impl Stand {
    /// Compares at a time; gives the episode that ended there.
    pub(super) fn compare(&mut self, rule: &Rule, at: i64) -> Option<Episode> {
        let evidence = Pair { current: self.current?, following: self.following? };
        let found = rule.compare(evidence.current.filling, evidence.following.filling);
        if found == self.open.map(|episode| episode.kind) {
            return None;
        }
        let turn = Turn { at, evidence };
        let ended = self.open.map(|open| Episode { resolved: Some(turn), ..open });
        self.open = found.map(|kind| Episode { kind, opened: turn, resolved: None });
        ended
    }
}

/// A level as text: what JSON's numbers are read back as may differ in the last bit.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
