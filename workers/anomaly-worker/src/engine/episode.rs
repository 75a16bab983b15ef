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

impl Sample {
    /// Nothing was said. Levels are finite.
    pub(super) const NONE: Self = Self::none_since(i64::MIN);

    /// Nothing was said, though something was expected since then.
    pub(super) const fn none_since(at: i64) -> Self {
        Self { at, filling: f64::INFINITY }
    }

    /// What was said, if anything.
    pub(super) fn said(self) -> Option<Self> {
        self.filling.is_finite().then_some(self)
    }
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
    /// Whether both last at the same time, in part at least.
    pub fn lasts_with(&self, other: &Self) -> bool {
        let ends_before = |a: &Self, b: &Self| a.resolved.is_some_and(|it| it.at < b.opened.at);
        !ends_before(self, other) && !ends_before(other, self)
    }
}

/// The episodes of one kind of answer: a word of memory, as long as there was none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "History", into = "History")]
pub(super) struct Track(Option<Box<History>>);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct History {
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

impl From<History> for Track {
    fn from(history: History) -> Self {
        Self((history != History::default()).then(|| Box::new(history)))
    }
}

impl From<Track> for History {
    fn from(track: Track) -> Self {
        track.0.map(|it| *it).unwrap_or_default()
    }
}

impl Track {
    /// What is wrong now.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.0.as_ref()?.open.as_ref().map(|open| open.kind)
    }

    /// Whether there was never anything wrong.
    pub(super) fn is_new(&self) -> bool {
        self.0.is_none()
    }

    /// The bytes that it takes beside its own.
    pub(super) fn bytes(&self) -> usize {
        let Some(history) = &self.0 else { return 0 };
        let episodes = [&history.open, &history.last].into_iter().flatten().count();
        size_of::<History>()
            + episodes * size_of::<Episode>()
            + history.candidate.iter().count() * size_of::<Candidate>()
    }

    /// What lasts, and what may come back.
    pub(super) fn lasting(&self) -> impl Iterator<Item = Episode> {
        let all = self.0.iter().flat_map(|it| it.last.iter().chain(&it.open));
        all.map(|it| **it)
    }

    /// Whether an answer at this time (Unix milliseconds) opens or ends an episode.
    pub(super) fn turns(&self, confirm: &Confirm, found: Option<Kind>, at: i64) -> bool {
        if found == self.kind() {
            return false;
        }
        let candidate = self.0.as_ref().and_then(|it| it.candidate.as_ref());
        let (since, count) = match candidate {
            Some(it) if it.answer == found => (it.since.at, it.count + 1),
            _ => (at, 1),
        };
        confirm.is_enough(count, at - since)
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
            self.forget_candidate();
            return false;
        }
        let history = self.0.get_or_insert_default();
        let Some(turn) = history.confirmed(confirm, found, turn) else { return false };
        if let Some(mut open) = history.open.take() {
            open.resolved = Some(turn);
            ended.push(*open);
            history.last = (confirm.flap > 0).then_some(open);
        }
        if let Some(kind) = found {
            history.open = Some(history.begin(confirm, kind, turn));
        }
        true
    }

    fn forget_candidate(&mut self) {
        if let Some(history) = self.0.as_mut().filter(|it| it.candidate.is_some()) {
            history.candidate = None;
            if **history == History::default() {
                self.0 = None;
            }
        }
    }
}

impl Confirm {
    /// Whether an answer counts that was given so often, for so long (milliseconds).
    fn is_enough(&self, count: u32, lasting: i64) -> bool {
        count >= self.count && lasting >= self.debounce
    }
}

impl History {
    /// When an answer began, once it counts.
    fn confirmed(&mut self, confirm: &Confirm, found: Option<Kind>, turn: Turn) -> Option<Turn> {
        let (since, count) = match self.candidate.take() {
            Some(it) if it.answer == found => (it.since, it.count + 1),
            _ => (turn, 1),
        };
        if confirm.is_enough(count, turn.at - since.at) {
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
