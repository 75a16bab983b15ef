//! What is known of an edge at a time.

use serde::{Deserialize, Serialize};

use super::{Episode, Evidence, Machine, Moment, Rule, Sample, Turn, episode::Track};

/// What both sensors of an edge said last, and what was made of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EdgeStand {
    #[serde(flatten)]
    last: Evidence,
    #[serde(flatten)]
    track: Track,
}

impl Machine for EdgeStand {
    type Rule = Rule;

    fn delay(rule: &Rule) -> i64 {
        rule.delay
    }

    fn step(&mut self, rule: &Rule, said: &[Moment], ended: &mut Vec<Episode>) -> bool {
        let Some(Moment { at, .. }) = said.last().copied() else { return false };
        for moment in said {
            let sample = |at| Some(Sample { at, filling: moment.filling });
            match moment.of_current {
                true => self.last.current = sample(moment.at - rule.delay),
                false => self.last.following = sample(moment.at),
            }
        }
        let Evidence { current: Some(current), following: Some(following) } = self.last else {
            return false;
        };
        let ages = [at - rule.delay - current.at, at - following.at];
        if ages.iter().zip(rule.stale).any(|(age, most)| most.is_some_and(|most| *age > most)) {
            return false;
        }
        let found = rule.compare_after(self.track.kind(), current.filling, following.filling);
        self.track.answer(&rule.confirm, found, Turn { at, evidence: self.last }, ended)
    }

    fn lasting(&self, _: &Rule, _: i64, found: &mut Vec<Episode>) {
        found.extend(self.track.lasting());
    }
}
