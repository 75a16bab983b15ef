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
    /// An answer that does not count yet, and another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    candidate: Option<Box<Candidate>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    beside: Option<Box<Candidate>>,
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
    /// How often it was given; 0 where it was only guessed.
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

/// Of the two answers that differ from what is open each may be about to count.
type Candidates = [Option<Candidate>; 2];

/// What one word says of an edge or a device.
type Said = [Option<Option<Kind>>; 2];

/// Adds a candidate for this answer, unless there is one.
fn add(to: &mut Candidates, new: impl FnOnce() -> Candidate, answer: Option<Kind>) {
    let known = to.iter().flatten().any(|it| it.answer == answer);
    if let Some(free) = to.iter_mut().find(|it| it.is_none()).filter(|_| !known) {
        *free = Some(new());
    }
}

/// What is wrong, if anything is, and the levels that tell, if they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    found: Option<Kind>,
    gap: Option<Gap>,
}

impl Answer {
    /// What is wrong, if anything is.
    pub(super) fn found(&self) -> Option<Kind> {
        self.found
    }

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
        self.0.as_ref().is_none_or(|it| it.open.is_none() && it.candidates().next().is_none())
    }

    /// The bytes that it takes beside its own.
    pub(super) fn bytes(&self) -> usize {
        let Some(history) = &self.0 else { return 0 };
        let episodes = [&history.open, &history.last].into_iter().flatten().count();
        size_of::<History>()
            + episodes * size_of::<Episode>()
            + history.candidates().count() * size_of::<Candidate>()
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
        let new = History::default();
        let history = self.0.as_deref().unwrap_or(&new);
        let said = history.says(confirm, answer.found);
        let candidates = history.heard(confirm, answer, turn).into_iter().flatten();
        candidates.filter(|it| it.is_one_of(said)).any(|it| it.is_enough(confirm, at))
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
            self.doubt_candidates(confirm, answer);
            return false;
        }
        let history = self.0.get_or_insert_default();
        let said = history.says(confirm, answer.found);
        history.set_candidates(history.heard(confirm, answer, turn));
        let mut turned = false;
        // What was wrong may be over, and the other wrong since then.
        while let Some(it) = history.take_enough(confirm, said, turn.heard_at()) {
            history.turn(confirm, it, ended);
            turned = true;
        }
        turned
    }

    /// Takes what an old word lets guess, if anything: it tells when what is answered later began, and no more.
    pub(super) fn guess(&mut self, confirm: &Confirm, found: Option<Option<Kind>>, turn: Turn) {
        let found = found.filter(|it| *it != self.kind());
        if self.0.is_none() && found.is_none() {
            return;
        }
        let history = self.0.get_or_insert_default();
        history.set_candidates(history.guessed(confirm, found, turn));
        self.forget_nothing();
    }

    /// All is as it was: what was about to count counts for less, or for nothing.
    fn doubt_candidates(&mut self, confirm: &Confirm, answer: &Answer) {
        let Some(history) = self.0.as_mut().filter(|it| it.candidates().next().is_some()) else {
            return;
        };
        let doubted = |it: Candidate| it.doubted(confirm, answer, answer.found);
        let candidates = history.candidates_now().map(|it| it.and_then(doubted));
        history.set_candidates(candidates);
        self.forget_nothing();
    }

    fn forget_nothing(&mut self) {
        self.0 = self.0.take().filter(|it| **it != History::default());
    }
}

impl Candidate {
    /// An answer that nothing was said for yet.
    fn new(answer: Option<Kind>, since: Turn) -> Self {
        Self { answer, since, count: 0, sum: 0.0 }
    }

    /// Whether it counts, at this time (Unix milliseconds).
    fn is_enough(&self, confirm: &Confirm, at: i64) -> bool {
        self.count >= confirm.count
            && at - self.since.heard_at() >= confirm.debounce
            && self.sum >= confirm.sum
    }

    /// Whether it is among what an answer says.
    fn is_one_of(&self, said: Said) -> bool {
        said.contains(&Some(self.answer))
    }

    /// The same after an answer for it. What was guessed is dated by the guess, where the answer is dated
    /// before it was told, and heard now; but by no guess that goes back further than one may.
    fn said(self, confirm: &Confirm, turn: Turn, speaks: f64) -> Self {
        let near = |heard: i64| heard - self.since.at <= confirm.between;
        let since = match self.count {
            0 if turn.evidence.heard.is_some_and(near) => Turn { at: self.since.at, ..turn },
            0 => turn,
            _ => self.since,
        };
        Self { since, count: self.count + 1, sum: self.sum + speaks, ..self }
    }

    /// The same after an answer against it, if anything is left.
    fn doubted(self, confirm: &Confirm, answer: &Answer, open: Option<Kind>) -> Option<Self> {
        let sum = self.sum + answer.speaks_for(confirm, self.answer, open);
        (sum > 0.0).then_some(Self { sum, ..self })
    }
}

impl History {
    fn kind(&self) -> Option<Kind> {
        self.open.as_ref().map(|it| it.kind)
    }

    fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        [&self.candidate, &self.beside].into_iter().flatten().map(|it| &**it)
    }

    fn candidates_now(&self) -> Candidates {
        [&self.candidate, &self.beside].map(|it| it.as_deref().copied())
    }

    fn set_candidates(&mut self, candidates: Candidates) {
        let mut left = candidates.into_iter().flatten().map(Box::new);
        (self.candidate, self.beside) = (left.next(), left.next());
    }

    /// What an answer says, beside itself: where answers add up, what is wrong otherwise says as well that
    /// what was wrong is over.
    fn says(&self, confirm: &Confirm, found: Option<Kind>) -> Said {
        let is_over = confirm.sum > 0.0 && self.open.is_some() && found.is_some();
        [is_over.then_some(None), Some(found)]
    }

    /// What may be about to count after an answer that differs from what is open.
    fn heard(&self, confirm: &Confirm, answer: &Answer, turn: Turn) -> Candidates {
        let (open, said) = (self.kind(), self.says(confirm, answer.found));
        let speaks = |of| answer.speaks_for(confirm, of, open);
        let dated = turn.after(self.turned);
        let mut next = self.candidates_now().map(|it| match it {
            Some(it) if it.is_one_of(said) => Some(it.said(confirm, dated, speaks(it.answer))),
            Some(it) if confirm.sum > 0.0 => it.doubted(confirm, answer, open),
            _ => None,
        });
        for of in said.into_iter().flatten() {
            add(&mut next, || Candidate::new(of, dated).said(confirm, dated, speaks(of)), of);
        }
        next
    }

    /// The same after a guess, or none.
    fn guessed(&self, confirm: &Confirm, found: Option<Option<Kind>>, turn: Turn) -> Candidates {
        let said = found.map_or([None, None], |it| self.says(confirm, it));
        let stays = |it: &Candidate| it.count > 0 || it.is_one_of(said);
        let mut next = self.candidates_now().map(|it| it.filter(stays));
        for of in said.into_iter().flatten() {
            add(&mut next, || Candidate::new(of, turn.after(self.turned)), of);
        }
        next
    }

    /// Takes a candidate that counts at this time (Unix milliseconds) and of which that was just said: first
    /// that all is well.
    fn take_enough(&mut self, confirm: &Confirm, said: Said, at: i64) -> Option<Candidate> {
        let candidates = self.candidates_now();
        let spoken_for = candidates.into_iter().flatten().filter(|it| it.is_one_of(said));
        let enough = spoken_for.filter(|it| it.is_enough(confirm, at));
        let first = enough.min_by_key(|it| it.answer)?;
        let others = candidates.map(|it| it.filter(|it| it.answer != first.answer));
        // What was against another problem is not against this one.
        self.set_candidates(if first.answer.is_none() { others } else { [None, None] });
        Some(first)
    }

    /// Has an answer hold from when it began.
    fn turn(&mut self, confirm: &Confirm, it: Candidate, ended: &mut Vec<Episode>) {
        let Candidate { answer, since, .. } = it;
        if confirm.between > 0 {
            self.turned = since.at;
        }
        if let Some(mut open) = self.open.take() {
            open.resolved = Some(since);
            ended.push(*open);
            self.last = (confirm.flap > 0).then_some(open);
        }
        if let Some(kind) = answer {
            self.open = Some(self.begin(confirm, kind, since));
        }
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
