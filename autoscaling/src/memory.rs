//! What one decision leaves for the next.

use serde::{Deserialize, Serialize};

use crate::{
    forecast::Rises,
    observed::{Instance, Millis, Observed, State},
    policy::Policy,
    prediction::Prediction,
};

/// How many boots are remembered.
const BOOTS: usize = 15;
/// How many parts of the time that counts are late are told apart.
const LOOKS: Millis = 12;
/// How many idle levels are: the memory is kept in a row of DynamoDB, which holds 400 KB. Of more idle
/// instances, these go first, and then there are levels for the next.
const LEVELS: usize = 5000;

/// What decisions remember. It goes in and comes out, so that a decision stays a function; it can
/// be lost at any time, which costs patience and no job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// How long the last boots took, oldest first.
    pub boots_ms: Vec<Millis>,
    /// The latest readiness that is among them.
    pub booted_until: Millis,
    /// Since when at least one instance is idle, at least two, and so on.
    ///
    /// SQS hands a message to any poller, so each instance works now and then and none is idle for
    /// long, although one fewer would do. Levels see it: the last level to become idle is the
    /// first that is used again, as if work always went to the first free instance.
    pub idle_levels: Vec<Millis>,
    /// Of each queue, by name: what has not stopped waiting.
    pub standing: Vec<Standing>,
    /// What the instances held and finished lately, oldest first: for as long as counts are late.
    #[serde(default)]
    pub work: Vec<Work>,
    /// By how much the demand rose within a boot lately.
    #[serde(default)]
    pub rises: Rises,
    /// What is expected to come within a boot, and how right that was lately.
    #[serde(default)]
    pub prediction: Prediction,
    /// Until when nothing more is asked for, after launches failed.
    pub paused_until: Millis,
    /// Whether anything was decided yet.
    pub begun: bool,
}

/// What the instances had in hand in a part of the time that counts may be late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// When it was first looked at.
    pub at: Millis,
    /// Messages in hand and runs that ended by then.
    pub begun: u64,
    /// The most messages in hand since then.
    pub held: u64,
}

/// What happened since the counts that are seen now may have been true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Since {
    /// Jobs that began.
    pub(crate) begun: u64,
    /// The most messages in hand at a time.
    pub(crate) held: u64,
}

/// Messages that wait on a queue at every look, so that some wait although all is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The queue's name.
    pub queue: String,
    /// Since when it is looked at.
    pub since: Millis,
    /// The fewest that waited at any look since then.
    pub least: u64,
}

impl Memory {
    /// What is remembered after this look.
    pub(crate) fn after(&self, seen: &Observed, policy: &Policy, now: Millis) -> Self {
        let instances = seen.instances.as_deref().unwrap_or_default();
        let mut next = self.clone();
        next.learn_boots(instances);
        next.see_idle(instances, now);
        next.begun = true;
        if seen.capacity_errors > 0 {
            next.paused_until = now.saturating_add(policy.capacity_pause_ms);
        }
        next
    }

    /// How long a boot takes: longer than three quarters of those seen.
    pub(crate) fn boot_ms(&self, policy: &Policy) -> Millis {
        let mut sorted = self.boots_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 3 / 4).copied().unwrap_or(policy.boot_ms)
    }

    /// Notes how many messages wait on a queue; says how many waited at every look of a whole
    /// `span` where one is over, and begins another.
    pub(crate) fn stood(&mut self, queue: &str, waiting: u64, span: Millis, now: Millis) -> u64 {
        let fresh = Standing { queue: queue.to_owned(), since: now, least: waiting };
        match self.standing.binary_search_by(|it| it.queue.as_str().cmp(queue)) {
            Err(place) => {
                self.standing.insert(place, fresh);
                0
            }
            Ok(place) => {
                let standing = &mut self.standing[place];
                standing.least = standing.least.min(waiting);
                if now.saturating_sub(standing.since) < span {
                    return 0;
                }
                std::mem::replace(standing, fresh).least
            }
        }
    }

    /// Notes what the instances hold and have `finished` altogether; says what was so since counts
    /// that are `lag` late may be from.
    pub(crate) fn since(&mut self, held: u64, finished: u64, lag: Millis, now: Millis) -> Since {
        let begun = held.saturating_add(finished);
        match self.work.last_mut() {
            Some(last) if now.saturating_sub(last.at) < lag / LOOKS => {
                last.held = last.held.max(held);
            }
            _ => self.work.push(Work { at: now, begun, held }),
        }
        let old = |it: &Work| now.saturating_sub(it.at) > lag;
        self.work.drain(..self.work.iter().take_while(|it| old(it)).count());
        let from = self.work.first().copied().unwrap_or(Work { at: now, begun, held });
        Since {
            begun: begun.saturating_sub(from.begun),
            held: self.work.iter().map(|it| it.held).fold(held, u64::max),
        }
    }

    fn learn_boots(&mut self, instances: &[Instance]) {
        let news = instances.iter().filter_map(|it| Some((it.ready_at?, it.launched_at)));
        let mut news: Vec<_> = news.filter(|(ready, _)| *ready > self.booted_until).collect();
        news.sort_unstable();
        for (ready, launched) in news {
            self.booted_until = ready;
            self.boots_ms.push(ready.saturating_sub(launched));
        }
        self.boots_ms.drain(..self.boots_ms.len().saturating_sub(BOOTS));
    }

    fn see_idle(&mut self, instances: &[Instance], now: Millis) {
        let idle = instances.iter().filter(|it| it.state == State::Idle);
        if self.begun {
            self.idle_levels.resize(idle.count().min(LEVELS), now);
            return;
        }
        // Nothing is remembered: the instances' own idle times are the best there is.
        self.idle_levels = idle.map(|it| it.since.min(now)).collect();
        self.idle_levels.sort_unstable();
        self.idle_levels.truncate(LEVELS);
    }
}
