//! What is known of an edge at a time.

use serde::{Deserialize, Serialize};

use super::{
    Episode, Evidence, Kind, Machine, Moment, Rule, Sample, Turn,
    episode::{Answer, Track, exact},
    state::Walked,
};

/// What both sensors of an edge said last, and what was made of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct EdgeStand {
    last: Ends,
    track: Track,
}

/// What each sensor said last, if anything.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ends {
    current: Sample,
    following: Sample,
    /// How much each has moved within the time that clocks may be apart.
    moved: [f32; 2],
}

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    last: Evidence,
    #[serde(flatten)]
    track: Track,
    #[serde(with = "exact", skip_serializing_if = "is_zero", default)]
    current_moved: f64,
    #[serde(with = "exact", skip_serializing_if = "is_zero", default)]
    following_moved: f64,
}

fn is_zero(moved: &f64) -> bool {
    *moved == 0.0
}

impl Default for Ends {
    fn default() -> Self {
        Self { current: Sample::NONE, following: Sample::NONE, moved: [0.0; 2] }
    }
}

impl From<Stored> for EdgeStand {
    fn from(stored: Stored) -> Self {
        let Stored { last, track, current_moved, following_moved } = stored;
        let [current, following] =
            [last.current, last.following].map(|it| it.unwrap_or(Sample::NONE));
        let moved = [current_moved as f32, following_moved as f32];
        Self { last: Ends { current, following, moved }, track }
    }
}

impl From<EdgeStand> for Stored {
    fn from(EdgeStand { last, track }: EdgeStand) -> Self {
        let [current_moved, following_moved] = last.moved.map(f64::from);
        Self { last: last.evidence(), track, current_moved, following_moved }
    }
}

impl Ends {
    fn evidence(self) -> Evidence {
        let [current, following] = [self.current, self.following].map(Sample::said);
        Evidence { current, following, heard: None }
    }

    /// When who speaks now spoke before (Unix milliseconds, at the following sensor), if that is not too
    /// long ago to tell what began meanwhile.
    fn spoke_before(&self, rule: &Rule, said: &[Moment]) -> Option<i64> {
        let most = Some(rule.confirm.between).filter(|it| *it > 0)?;
        let before = |it: &Moment| match it.of_current {
            true => self.current.said().map(|last| last.at + rule.delay),
            false => self.following.said().map(|last| last.at),
        };
        said.iter().filter_map(|it| before(it).filter(|last| it.at - last <= most)).max()
    }

    fn hear(&mut self, rule: &Rule, moment: &Moment) {
        if rule.clock > 0 {
            let end = usize::from(!moment.of_current);
            let last = if moment.of_current { self.current } else { self.following };
            self.moved[end] = moved_on(self.moved[end], rule.clock, last, said(rule, moment));
        }
        self.replace(rule, moment);
    }

    /// The same without what each has moved.
    fn replace(&mut self, rule: &Rule, moment: &Moment) {
        let last = if moment.of_current { &mut self.current } else { &mut self.following };
        *last = said(rule, moment);
    }

    /// By how much more levels may differ, since clocks may be apart: as both have moved the same way.
    fn slack(&self, rule: &Rule) -> f64 {
        let [current, following] = self.moved.map(f64::from);
        let current = rule.ratio * current;
        if current * following > 0.0 { current.abs().min(following.abs()) } else { 0.0 }
    }

    /// Whether nothing is wrong, or it cannot be told, where nothing was wrong before: whatever
    /// levels may differ by for the clocks' sake, and however old they are.
    #[inline]
    fn is_quiet(&self, rule: &Rule) -> bool {
        let [current, following] = [self.current.filling, self.following.filling];
        let said = current.is_finite() && following.is_finite();
        !said || rule.gap(current, following, 0.0).answer(None).is_none()
    }

    /// What is wrong now, where this was wrong before; none where it cannot be told.
    fn compare(&self, rule: &Rule, open: Option<Kind>, at: i64) -> Option<Answer> {
        self.compare_within(rule, rule.stale, open, at)
    }

    /// The same where words may be so old: current, following.
    fn compare_within(
        &self,
        rule: &Rule,
        stale: [Option<i64>; 2],
        open: Option<Kind>,
        at: i64,
    ) -> Option<Answer> {
        let (current, following) = (self.current.said()?, self.following.said()?);
        let ages = [at - rule.delay - current.at, at - following.at];
        if ages.iter().zip(stale).any(|(age, most)| most.is_some_and(|most| *age > most)) {
            return None;
        }
        let gap = rule.gap(current.filling, following.filling, self.slack(rule));
        Some(Answer::of_levels(gap, open))
    }
}

fn said(rule: &Rule, moment: &Moment) -> Sample {
    let delay = if moment.of_current { rule.delay } else { 0 };
    Sample { at: moment.at - delay, filling: moment.filling }
}

/// How far a level is from an exponentially weighted mean over a time (milliseconds), where it was so
/// far at its last word. A level that moves on and on gets as far from it as it moves in that time.
fn moved_on(moved: f32, time: i64, last: Sample, now: Sample) -> f32 {
    let Some(last) = last.said() else { return 0.0 };
    let (time, passed) = (time as f64, now.at.saturating_sub(last.at).max(0) as f64);
    let moved = (f64::from(moved) + now.filling - last.filling) * (time / (time + passed));
    // Levels can be anything finite, and so must be what is stored.
    moved.clamp(-FARTHEST, FARTHEST) as f32
}

/// What has moved further than this has moved so far.
const FARTHEST: f64 = 1e30;

impl EdgeStand {
    /// Where one end's word is too old to be compared, but not so old that nothing is dated by it, it lets
    /// guess since when there was what the next words tell.
    fn guess(&mut self, rule: &Rule, turn: Turn) {
        let between = rule.confirm.between;
        if between == 0 {
            return;
        }
        let (last, open) = (&self.last, self.track.kind());
        let may = |at| last.compare_within(rule, [Some(between); 2], open, at);
        let found = turn.evidence.heard.and_then(may);
        self.track.guess(&rule.confirm, found.map(|it| it.found()), turn);
    }
}

impl Machine for EdgeStand {
    type Rule = Rule;
    type Front = EdgeFront;

    fn delay(rule: &Rule) -> i64 {
        rule.delay
    }

    fn step(&mut self, rule: &Rule, said: &[Moment], ended: &mut Vec<Episode>) -> bool {
        let Some(Moment { at, .. }) = said.last().copied() else { return false };
        let before = self.last;
        said.iter().for_each(|it| self.last.hear(rule, it));
        if self.track.is_calm() && self.last.is_quiet(rule) {
            return false;
        }
        let turn = Turn { at, evidence: self.last.evidence() };
        let turn = turn.dated_since(before.spoke_before(rule, said));
        match self.last.compare(rule, self.track.kind(), at) {
            Some(found) => self.track.answer(&rule.confirm, &found, turn, ended),
            None => {
                self.guess(rule, turn);
                false
            }
        }
    }

    fn lasting(&self, _: &Rule, _: i64, found: &mut Vec<Episode>) {
        found.extend(self.track.lasting());
    }

    fn front(walked: &Walked<Self>) -> EdgeFront {
        EdgeFront::of(walked)
    }

    fn hear(front: &mut EdgeFront, rule: &Rule, moment: Moment) -> bool {
        front.hear(rule, moment)
    }

    fn bytes(&self) -> usize {
        self.track.bytes()
    }

    fn bytes_of(front: &EdgeFront) -> usize {
        front.before.track.bytes()
    }
}

/// An edge at its newest time: where it stood before, and what was said since. So what the other
/// sensor says at the very same time can still be heard together with it.
#[derive(Debug, Clone, Default)]
pub struct EdgeFront {
    before: EdgeStand,
    at: i64,
    /// What each said at that time; infinite where nothing was. Not a number where what is said at
    /// that time, too, needs a walk.
    said: [f64; 2],
}

/// Nothing was said.
const NOTHING: [f64; 2] = [f64::INFINITY; 2];
/// Nothing more is heard at this time.
const CLOSED: [f64; 2] = [f64::NAN; 2];

impl EdgeFront {
    fn of(walked: &Walked<EdgeStand>) -> Self {
        let at = walked.moments.last().map_or(-1, |it| it.at);
        let (mut said, mut closed) = (NOTHING, walked.turned || at < 0);
        for moment in walked.moments.iter().rev().take_while(|it| it.at == at) {
            let word = &mut said[usize::from(!moment.of_current)];
            closed |= word.is_finite();
            *word = moment.filling;
        }
        match closed {
            true => Self { before: walked.end.clone(), at, said: CLOSED },
            false => Self { before: walked.before.clone(), at, said },
        }
    }

    /// What was said at the newest time.
    fn words(&self) -> impl Iterator<Item = Moment> {
        let (at, all) = (self.at, [true, false].into_iter().zip(self.said));
        all.filter(|it| it.1.is_finite()).map(move |(of_current, filling)| Moment {
            at,
            of_current,
            again: false,
            filling,
        })
    }

    fn hear(&mut self, rule: &Rule, moment: Moment) -> bool {
        let end = usize::from(!moment.of_current);
        if moment.at > self.at {
            self.settle(rule);
            self.at = moment.at;
        } else if moment.at < self.at || self.said[end] != f64::INFINITY {
            return false;
        }
        self.said[end] = moment.filling;
        let mut last = self.before.last;
        self.words().for_each(|it| last.replace(rule, &it));
        self.before.track.is_calm() && last.is_quiet(rule) || !self.turns(rule)
    }

    /// Whether anything opens or ends at the newest time.
    fn turns(&self, rule: &Rule) -> bool {
        let (mut last, track) = (self.before.last, &self.before.track);
        self.words().for_each(|it| last.hear(rule, &it));
        let found = last.compare(rule, track.kind(), self.at);
        found.is_some_and(|it| track.turns(&rule.confirm, &it, self.at))
    }

    /// Nothing more is said at the newest time.
    fn settle(&mut self, rule: &Rule) {
        let mut words = [Moment { at: self.at, of_current: true, again: false, filling: 0.0 }; 2];
        let mut count = 0;
        for word in self.words() {
            words[count] = word;
            count += 1;
        }
        self.before.step(rule, &words[..count], &mut Vec::new());
        self.said = NOTHING;
    }
}
