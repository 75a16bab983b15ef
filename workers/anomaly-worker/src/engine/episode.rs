//! Episodes: a problem from its opening to its end.

use serde::{Deserialize, Serialize};

use super::{Confirm, Kind, rule::Gap};

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
    /// When they told it, in Unix milliseconds, where it is dated before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard: Option<i64>,
}

/// A change of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Event time, in Unix milliseconds.
    pub at: i64,
    /// What decided.
    pub evidence: Evidence,
}

impl Turn {
    /// When it was told, in Unix milliseconds of event time.
    pub(crate) fn heard_at(&self) -> i64 {
        self.evidence.heard.unwrap_or(self.at)
    }

    /// The same, dated in the middle of the time since then (Unix milliseconds).
    pub(super) fn dated_since(self, then: Option<i64>) -> Self {
        let Some(then) = then else { return self };
        let evidence = Evidence { heard: Some(self.at), ..self.evidence };
        Self { at: self.at - (self.at - then) / 2, evidence }
    }

    /// The same, not dated before another or with it.
    fn after(self, other: i64) -> Self {
        match self.evidence.heard {
            Some(_) => Self { at: self.at.max(other + 1), ..self },
            None => self,
        }
    }
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
    /// When the answer changed last (Unix milliseconds), where a change may be dated before it was told.
    #[serde(skip_serializing_if = "is_never", default)]
    turned: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Candidate {
    answer: Option<Kind>,
    since: Turn,
    count: u32,
    /// By how much levels have spoken for it.
    #[serde(with = "exact", skip_serializing_if = "is_nothing", default)]
    sum: f64,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_never(turned: &i64) -> bool {
    *turned == 0
}

fn is_nothing(sum: &f64) -> bool {
    *sum == 0.0
}

/// What is wrong, if anything is, and the levels that tell, if they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    found: Option<Kind>,
    gap: Option<Gap>,
}

impl Answer {
    /// What levels tell where this was wrong before.
    pub(super) fn of_levels(gap: Gap, open: Option<Kind>) -> Self {
        Self { found: gap.answer(open), gap: Some(gap) }
    }

    /// By how much it adds to another answer, or takes off from it: by no more than is wanted in all.
    fn speaks_for(&self, confirm: &Confirm, answer: Option<Kind>, open: Option<Kind>) -> f64 {
        let speaks = self.gap.map_or(0.0, |gap| gap.speaks_for(answer, open));
        speaks.max(-confirm.sum).min(confirm.sum)
    }
}

impl From<Option<Kind>> for Answer {
    fn from(found: Option<Kind>) -> Self {
        Self { found, gap: None }
    }
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

    /// Whether nothing is wrong, nor about to be.
    pub(super) fn is_calm(&self) -> bool {
        self.0.as_ref().is_none_or(|it| it.open.is_none() && it.candidate.is_none())
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
    pub(super) fn turns(&self, confirm: &Confirm, answer: &Answer, at: i64) -> bool {
        if answer.found == self.kind() {
            return false;
        }
        let turn = Turn { at, evidence: Evidence::default() };
        let candidate = match &self.0 {
            Some(history) => history.heard(confirm, answer, turn),
            None => History::default().heard(confirm, answer, turn),
        };
        candidate.is_enough(confirm, at)
    }

    /// Takes an answer; whether an episode opened or ended.
    pub(super) fn answer(
        &mut self,
        confirm: &Confirm,
        answer: &Answer,
        turn: Turn,
        ended: &mut Vec<Episode>,
    ) -> bool {
        if answer.found == self.kind() {
            self.doubt_candidate(confirm, answer);
            return false;
        }
        let history = self.0.get_or_insert_default();
        let Some(turn) = history.confirmed(confirm, answer, turn) else { return false };
        if confirm.between > 0 {
            history.turned = turn.at;
        }
        if let Some(mut open) = history.open.take() {
            open.resolved = Some(turn);
            ended.push(*open);
            history.last = (confirm.flap > 0).then_some(open);
        }
        if let Some(kind) = answer.found {
            history.open = Some(history.begin(confirm, kind, turn));
        }
        true
    }

    /// All is as it was: what was about to count counts for less, or for nothing.
    fn doubt_candidate(&mut self, confirm: &Confirm, answer: &Answer) {
        let Some(history) = &mut self.0 else { return };
        let Some(candidate) = &mut history.candidate else { return };
        candidate.sum += answer.speaks_for(confirm, candidate.answer, answer.found);
        if candidate.sum > 0.0 {
            return;
        }
        history.candidate = None;
        if **history == History::default() {
            self.0 = None;
        }
    }
}

impl Candidate {
    /// Whether it counts, at this time (Unix milliseconds).
    fn is_enough(&self, confirm: &Confirm, at: i64) -> bool {
        self.count >= confirm.count
            && at - self.since.heard_at() >= confirm.debounce
            && self.sum >= confirm.sum
    }
}

impl History {
    /// An answer that differs, with what was said for it before.
    fn heard(&self, confirm: &Confirm, answer: &Answer, turn: Turn) -> Candidate {
        let open = self.open.as_ref().map(|it| it.kind);
        let speaks = answer.speaks_for(confirm, answer.found, open);
        match self.candidate.as_deref() {
            Some(it) if it.answer == answer.found => {
                Candidate { count: it.count + 1, sum: it.sum + speaks, ..*it }
            }
            _ => {
                let since = turn.after(self.turned);
                Candidate { answer: answer.found, since, count: 1, sum: speaks }
            }
        }
    }

    /// When an answer began, once it counts.
    fn confirmed(&mut self, confirm: &Confirm, answer: &Answer, turn: Turn) -> Option<Turn> {
        let candidate = self.heard(confirm, answer, turn);
        let enough = candidate.is_enough(confirm, turn.heard_at());
        self.candidate = (!enough).then(|| Box::new(candidate));
        enough.then_some(candidate.since)
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
