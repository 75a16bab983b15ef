//! Episodes: a problem from its opening to its end.

use serde::{Deserialize, Serialize};

use super::{Confirm, Kind};

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
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The last of the current sensor, or of the device; none where it was never heard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current: Option<Sample>,
    /// The last of the following sensor.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub following: Option<Sample>,
}

/// A change of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Event time, in Unix milliseconds.
    pub at: i64,
    /// What decided.
    pub evidence: Evidence,
}

/// A problem from its opening to its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What is wrong.
    pub kind: Kind,
    /// Since when. No two episodes of an edge, or of a kind at a device, open at one time.
    pub opened: Turn,
    /// Until when, if it has ended.
    pub resolved: Option<Turn>,
    /// How often it had ended and came back so soon that it is still the same.
    #[serde(default)]
    pub flaps: u32,
    /// How many episodes there were before at the same edge, or of the same kind at the device.
    #[serde(default)]
    pub recurrences: u32,
    /// Whether no reading that is still in time can change what is told here.
    #[serde(default)]
    pub settled: bool,
}

impl Episode {
    /// The newest turn.
    pub(super) fn turned(&self) -> i64 {
        self.resolved.map_or(self.opened.at, |turn| turn.at)
    }
}

/// The episodes of one kind of answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Track {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    open: Option<Box<Episode>>,
    /// The one that ended last, where it may come back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    last: Option<Box<Episode>>,
    /// An answer that does not count yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    candidate: Option<Box<Candidate>>,
    #[serde(skip_serializing_if = "is_zero", default)]
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Candidate {
    answer: Option<Kind>,
    since: Turn,
    count: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Track {
    /// What is wrong now.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.open.as_ref().map(|open| open.kind)
    }

    /// What lasts, and what may come back.
    pub(super) fn lasting(&self) -> impl Iterator<Item = Episode> {
        self.last.iter().chain(&self.open).map(|it| **it)
    }

    /// Takes an answer; whether an episode opened or ended.
    pub(super) fn answer(
        &mut self,
        confirm: &Confirm,
        found: Option<Kind>,
        turn: Turn,
        ended: &mut Vec<Episode>,
    ) -> bool {
        if found == self.kind() {
            self.candidate = None;
            return false;
        }
        let Some(turn) = self.confirmed(confirm, found, turn) else { return false };
        if let Some(mut open) = self.open.take() {
            open.resolved = Some(turn);
            ended.push(*open);
            self.last = (confirm.flap > 0).then_some(open);
        }
        if let Some(kind) = found {
            self.open = Some(self.begin(confirm, kind, turn));
        }
        true
    }

    /// When an answer began, once it counts.
    fn confirmed(&mut self, confirm: &Confirm, found: Option<Kind>, turn: Turn) -> Option<Turn> {
        if confirm.count <= 1 && confirm.debounce <= 0 {
            return Some(turn);
        }
        let (since, count) = match self.candidate.take() {
            Some(it) if it.answer == found => (it.since, it.count + 1),
            _ => (turn, 1),
        };
        if count >= confirm.count && turn.at - since.at >= confirm.debounce {
            return Some(since);
        }
        self.candidate = Some(Box::new(Candidate { answer: found, since, count }));
        None
    }

    fn begin(&mut self, confirm: &Confirm, kind: Kind, turn: Turn) -> Box<Episode> {
        let again = |it: &Episode| {
            let gone = it.resolved.map_or(0, |end| turn.at - end.at);
            it.kind == kind && gone <= confirm.flap
        };
        if let Some(mut last) = self.last.take().filter(|it| again(it)) {
            last.resolved = None;
            last.flaps += 1;
            return last;
        }
        let recurrences = self.count;
        self.count += 1;
        let (resolved, flaps, settled) = (None, 0, false);
        Box::new(Episode { kind, opened: turn, resolved, flaps, recurrences, settled })
    }
}

/// A number as text: what JSON's numbers are read back as may differ in the last bit.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        value: &f64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.to_string())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
