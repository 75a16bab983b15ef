//! What is known of an edge at a time.

use serde::{Deserialize, Serialize};

use super::{
    Episode, Evidence, Kind, Machine, Moment, Rule, Sample, Turn, episode::Track, state::Walked,
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
}

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    last: Evidence,
    #[serde(flatten)]
    track: Track,
}

impl Default for Ends {
    fn default() -> Self {
        Self { current: Sample::NONE, following: Sample::NONE }
    }
}

impl From<Stored> for EdgeStand {
    fn from(Stored { last, track }: Stored) -> Self {
        let [current, following] =
            [last.current, last.following].map(|it| it.unwrap_or(Sample::NONE));
        Self { last: Ends { current, following }, track }
    }
}

impl From<EdgeStand> for Stored {
    fn from(EdgeStand { last, track }: EdgeStand) -> Self {
        Self { last: last.evidence(), track }
    }
}

impl Ends {
    fn evidence(self) -> Evidence {
        Evidence { current: self.current.said(), following: self.following.said() }
    }

    fn hear(&mut self, rule: &Rule, moment: &Moment) {
        let Moment { at, of_current, filling } = *moment;
        match of_current {
            true => self.current = Sample { at: at - rule.delay, filling },
            false => self.following = Sample { at, filling },
        }
    }

    /// What is wrong now, where this was wrong before; none where it cannot be told.
    fn compare(&self, rule: &Rule, open: Option<Kind>, at: i64) -> Option<Option<Kind>> {
        let (current, following) = (self.current.said()?, self.following.said()?);
        let ages = [at - rule.delay - current.at, at - following.at];
        if ages.iter().zip(rule.stale).any(|(age, most)| most.is_some_and(|most| *age > most)) {
            return None;
        }
        Some(rule.compare_after(open, current.filling, following.filling))
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
        said.iter().for_each(|it| self.last.hear(rule, it));
        let Some(found) = self.last.compare(rule, self.track.kind(), at) else { return false };
        let turn = Turn { at, evidence: self.last.evidence() };
        self.track.answer(&rule.confirm, found, turn, ended)
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
    /// What each said at that time; infinite where nothing was.
    said: [f64; 2],
    /// Whether what is said at that time, too, needs a walk.
    closed: bool,
}

impl EdgeFront {
    fn of(walked: &Walked<EdgeStand>) -> Self {
        let at = walked.moments.last().map_or(-1, |it| it.at);
        let (mut said, mut closed) = ([f64::INFINITY; 2], walked.turned || at < 0);
        for moment in walked.moments.iter().rev().take_while(|it| it.at == at) {
            let word = &mut said[usize::from(!moment.of_current)];
            closed |= word.is_finite();
            *word = moment.filling;
        }
        match closed {
            true => Self { before: walked.end.clone(), at, said: [f64::INFINITY; 2], closed },
            false => Self { before: walked.before.clone(), at, said, closed },
        }
    }

    /// What was said at the newest time.
    fn words(&self) -> impl Iterator<Item = Moment> {
        let (at, all) = (self.at, [true, false].into_iter().zip(self.said));
        all.filter(|it| it.1.is_finite()).map(move |(of_current, filling)| Moment {
            at,
            of_current,
            filling,
        })
    }

    fn hear(&mut self, rule: &Rule, moment: Moment) -> bool {
        let end = usize::from(!moment.of_current);
        if moment.at > self.at {
            self.settle(rule);
            (self.at, self.closed) = (moment.at, false);
        } else if moment.at < self.at || self.closed || self.said[end].is_finite() {
            return false;
        }
        self.said[end] = moment.filling;
        let mut last = self.before.last;
        self.words().for_each(|it| last.hear(rule, &it));
        let track = &self.before.track;
        let found = last.compare(rule, track.kind(), self.at);
        found.is_none_or(|found| !track.turns(&rule.confirm, found, self.at))
    }

    /// Nothing more is said at the newest time.
    fn settle(&mut self, rule: &Rule) {
        let mut words = [Moment { at: self.at, of_current: true, filling: 0.0 }; 2];
        let mut count = 0;
        for word in self.words() {
            words[count] = word;
            count += 1;
        }
        self.before.step(rule, &words[..count], &mut Vec::new());
        self.said = [f64::INFINITY; 2];
    }
}
