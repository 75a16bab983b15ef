//! What is known of a device at a time.

use serde::{Deserialize, Serialize};

use super::{
    Confirm, DeviceRule, Episode, Evidence, Kind, Machine, Moment, Sample, Turn,
    detectors::{Detector, Seen},
    episode::Track,
    state::Walked,
};

/// What a device said last, what its detectors remember, and what was made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct DeviceStand {
    /// Where it was not heard yet: since when it is expected, if it is.
    heard: Sample,
    /// What only some devices have.
    apart: Option<Box<Apart>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Apart {
    silence: Track,
    watches: Vec<Watch>,
    /// When it was heard since its last word, and said nothing new, in Unix milliseconds.
    again: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watch {
    detector: Detector,
    track: Track,
}

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    heard: Option<Sample>,
    /// Since when the device is expected, where it was expected before it was heard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since: Option<i64>,
    #[serde(default)]
    silence: Track,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    watches: Vec<Watch>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    again: Option<i64>,
}

impl Default for DeviceStand {
    fn default() -> Self {
        Self { heard: Sample::NONE, apart: None }
    }
}

impl From<Stored> for DeviceStand {
    fn from(Stored { heard, since, silence, watches, again }: Stored) -> Self {
        let heard = heard.or(since.map(Sample::none_since)).unwrap_or(Sample::NONE);
        let plain = silence.is_new() && watches.is_empty() && again.is_none();
        Self { heard, apart: (!plain).then(|| Box::new(Apart { silence, watches, again })) }
    }
}

impl From<DeviceStand> for Stored {
    fn from(stand: DeviceStand) -> Self {
        let expected = stand.heard != Sample::NONE && stand.heard.said().is_none();
        let since = expected.then_some(stand.heard.at);
        let Apart { silence, watches, again } = stand.apart.map(|it| *it).unwrap_or_default();
        Self { heard: stand.heard.said(), since, silence, watches, again }
    }
}

impl DeviceStand {
    /// A device that was not heard yet, and is expected since then (Unix milliseconds).
    pub fn expected(since: i64) -> Self {
        Self { heard: Sample::none_since(since), apart: None }
    }

    /// Since when it was not heard.
    fn since(&self) -> Option<i64> {
        (self.heard != Sample::NONE).then_some(self.heard.at).max(self.again())
    }

    /// When it was heard since its last word.
    fn again(&self) -> Option<i64> {
        self.apart.as_ref().and_then(|it| it.again)
    }

    /// Has the silence before `at` told, if there was one.
    fn hear_silence(&mut self, rule: &DeviceRule, at: i64, ended: &mut Vec<Episode>) -> bool {
        let (Some(since), Some(most)) = (self.since(), rule.silence) else { return false };
        let silent = since.saturating_add(most);
        if silent >= at {
            return false;
        }
        let evidence = Evidence { current: self.heard.said(), ..Evidence::default() };
        let turn = Turn { at: silent, evidence };
        let silence = &mut self.apart.get_or_insert_default().silence;
        silence.answer(&for_silence(rule), &Some(Kind::Silence).into(), turn, ended)
    }

    /// One detector for each part of the rule.
    fn watch(&mut self, rule: &DeviceRule) {
        let watches = &mut self.apart.get_or_insert_default().watches;
        watches.retain(|it| it.detector.is_wanted(rule));
        for detector in Detector::of(rule) {
            let at = watches.partition_point(|it| it.detector.kind() < detector.kind());
            if watches.get(at).is_none_or(|it| it.detector.kind() != detector.kind()) {
                watches.insert(at, Watch { detector, track: Track::default() });
            }
        }
        self.apart = self.apart.take().filter(|it| **it != Apart::default());
    }

    fn watches(&self) -> &[Watch] {
        self.apart.as_ref().map_or(&[], |it| it.watches.as_slice())
    }

    /// The bytes of its tables of seasons.
    pub(super) fn seasons(&self) -> usize {
        self.watches().iter().map(|it| it.detector.seasons()).sum()
    }

    /// Ends the silence before now, if there was one.
    fn end_silence(&mut self, rule: &DeviceRule, turn: Turn, ended: &mut Vec<Episode>) -> bool {
        let was_silent = self.hear_silence(rule, turn.at, ended);
        if was_silent {
            let silence = &mut self.apart.get_or_insert_default().silence;
            silence.answer(&for_silence(rule), &None.into(), turn, ended);
        }
        was_silent
    }

    /// Hears a duplicate, which is a word for silence alone.
    fn hear_again(&mut self, rule: &DeviceRule, turn: Turn, ended: &mut Vec<Episode>) -> bool {
        let changed = self.end_silence(rule, turn, ended);
        if rule.silence.is_some() && Some(turn.at) > self.since() {
            self.apart.get_or_insert_default().again = Some(turn.at);
        }
        changed
    }

    fn take(&mut self, rule: &DeviceRule, now: Sample, ended: &mut Vec<Episode>) -> bool {
        let turn = heard(now);
        let mut changed = self.end_silence(rule, turn, ended);
        if self.again().is_some() {
            self.apart.iter_mut().for_each(|it| it.again = None);
            self.apart = self.apart.take().filter(|it| **it != Apart::default());
        }
        for Watch { detector, track } in self.apart.iter_mut().flat_map(|it| &mut it.watches) {
            let seen = Seen { now, before: self.heard.said(), open: track.kind().is_some() };
            let found = detector.look(rule, seen).then(|| detector.kind());
            changed |= track.answer(&rule.confirm, &found.into(), turn, ended);
        }
        self.heard = now;
        changed
    }
}

/// What a device's own word decides.
fn heard(now: Sample) -> Turn {
    Turn { at: now.at, evidence: Evidence { current: Some(now), ..Evidence::default() } }
}

/// A silence counts at once.
fn for_silence(rule: &DeviceRule) -> Confirm {
    Confirm { flap: rule.confirm.flap, ..Confirm::default() }
}

impl Machine for DeviceStand {
    type Rule = DeviceRule;
    const HEARS_AGAIN: bool = true;
    /// What a device says twice at one time needs a walk.
    type Front = Self;

    fn step(&mut self, rule: &DeviceRule, said: &[Moment], ended: &mut Vec<Episode>) -> bool {
        if self.watches().len() != Detector::count(rule) {
            self.watch(rule);
        }
        let mut changed = false;
        for moment in said {
            let now = Sample { at: moment.at, filling: moment.filling };
            changed |= match moment.again {
                true => self.hear_again(rule, heard(now), ended),
                false => self.take(rule, now, ended),
            };
        }
        changed
    }

    fn lasting(&self, rule: &DeviceRule, clock: i64, found: &mut Vec<Episode>) {
        let silence = self.apart.as_ref().map(|it| it.silence.clone()).unwrap_or_default();
        let apart = Some(Box::new(Apart { silence, watches: Vec::new(), again: self.again() }));
        let mut silent = Self { heard: self.heard, apart };
        silent.hear_silence(rule, clock, found);
        found.extend(silent.apart.iter().flat_map(|it| it.silence.lasting()));
        found.extend(self.watches().iter().flat_map(|it| it.track.lasting()));
    }

    fn quiet_until(&self, rule: &DeviceRule) -> Option<i64> {
        rule.silence.and_then(|most| Some(self.since()?.saturating_add(most)))
    }

    fn front(walked: &Walked<Self>) -> Self {
        walked.end.clone()
    }

    fn hear(front: &mut Self, rule: &DeviceRule, moment: Moment) -> bool {
        let last = front.heard.said().map(|it| it.at).max(front.again());
        let is_old = last.is_some_and(|last| moment.at <= last);
        !is_old && !front.step(rule, &[moment], &mut Vec::new())
    }

    fn bytes(&self) -> usize {
        let watch = |it: &Watch| size_of::<Watch>() + it.track.bytes();
        let apart = |it: &Apart| {
            size_of::<Apart>() + it.silence.bytes() + it.watches.iter().map(watch).sum::<usize>()
        };
        self.apart.as_ref().map_or(0, |it| apart(it))
    }

    fn bytes_of(front: &Self) -> usize {
        front.bytes()
    }
}
