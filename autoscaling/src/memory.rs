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
/// How many times are at which levels became idle: the memory is kept in a row of DynamoDB, which holds
/// 400 KB.
const TIMES: usize = 500;

/// What decisions remember. It goes in and comes out, so that a decision stays a function; it can
/// be lost at any time, which costs patience and no job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// How long the last boots took, oldest first.
    pub boots_ms: Vec<Millis>,
    /// The latest readiness that is among them.
    pub booted_until: Millis,
    /// Since when at least one instance is idle, at least two, and so on: each time with how many levels
    /// became idle then, oldest first.
    ///
    /// SQS hands a message to any poller, so each instance works now and then and none is idle for
    /// long, although one fewer would do. Levels see it: the last level to become idle is the
    /// first that is used again, as if work always went to the first free instance.
    pub idle_levels: Vec<(Millis, u64)>,
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
    /// Of these, runs that ended.
    #[serde(default)]
    pub finished: Option<u64>,
    /// The most messages in hand since then.
    pub held: u64,
}

/// What happened since the counts that are seen now may have been true.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Since {
    /// Jobs that began.
    pub(crate) begun: u64,
    /// Jobs that ended, a second.
    pub(crate) ended_per_s: f64,
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
        next.not_ahead(policy, now);
        next.learn_boots(instances, now);
        next.see_idle(instances, now);
        next.begun = true;
        if seen.capacity_errors > 0 {
            next.paused_until = now.saturating_add(policy.capacity_pause_ms);
        }
        next
    }

    /// What another process remembered. Its books began elsewhere: beside ours they would tell that
    /// thousands had ended between two looks.
    #[cfg(any(test, feature = "live"))]
    pub(crate) fn taken_over(self) -> Self {
        Self { work: Vec::new(), ..self }
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
        let this = Work { at: now, begun, finished: Some(finished), held };
        match self.work.last_mut() {
            Some(last) if now.saturating_sub(last.at) < lag / LOOKS => {
                last.held = last.held.max(held);
            }
            _ => self.work.push(this),
        }
        let old = |it: &Work| now.saturating_sub(it.at) > lag;
        self.work.drain(..self.work.iter().take_while(|it| old(it)).count());
        let from = self.work.first().copied().unwrap_or(this);
        let ended = from.finished.map_or(0, |then| finished.saturating_sub(then));
        let span = now.saturating_sub(from.at).max(1);
        Since {
            begun: begun.saturating_sub(from.begun),
            ended_per_s: ended as f64 * 1000.0 / span as f64,
            held: self.work.iter().map(|it| it.held).fold(held, u64::max),
        }
    }

    /// Takes times that have not come for the present one. A clock that was ahead leaves them, and
    /// nothing would be given up, learned or asked for until they come.
    fn not_ahead(&mut self, policy: &Policy, now: Millis) {
        self.paused_until = self.paused_until.min(now.saturating_add(policy.capacity_pause_ms));
        self.booted_until = self.booted_until.min(now);
        let (levels, standing) = (self.idle_levels.iter_mut(), self.standing.iter_mut());
        let (work, rises) = (self.work.iter_mut(), self.rises.demand.iter_mut());
        let times = levels.map(|(at, _)| at).chain(standing.map(|it| &mut it.since));
        let times = times.chain(work.map(|it| &mut it.at)).chain(rises.map(|(at, _)| at));
        let times = times.chain(self.prediction.recent.iter_mut().map(|(at, _)| at));
        times.for_each(|at| *at = now.min(*at));
    }

    fn learn_boots(&mut self, instances: &[Instance], now: Millis) {
        let news = instances.iter().filter_map(|it| Some((it.ready_at?, it.launched_at)));
        let new = |(ready, _): &(Millis, Millis)| *ready > self.booted_until && *ready <= now;
        let mut news: Vec<_> = news.filter(new).collect();
        news.sort_unstable();
        for (ready, launched) in news {
            self.booted_until = ready;
            self.boots_ms.push(ready.saturating_sub(launched));
        }
        self.boots_ms.drain(..self.boots_ms.len().saturating_sub(BOOTS));
    }

    fn see_idle(&mut self, instances: &[Instance], now: Millis) {
        let idle = instances.iter().filter(|it| it.state == State::Idle);
        if !self.begun {
            // Nothing is remembered: the instances' own idle times are the best there is.
            let mut since: Vec<Millis> = idle.map(|it| it.since.min(now)).collect();
            since.sort_unstable();
            self.idle_levels.clear();
            return since.into_iter().for_each(|since| self.more_idle(1, since));
        }
        let idle = idle.count() as u64;
        let levels = self.idle_levels.iter().fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
        match idle > levels {
            true => self.more_idle(idle - levels, now),
            false => drop_from(self.idle_levels.iter_mut().rev(), levels - idle),
        }
        self.idle_levels.retain(|(_, levels)| *levels > 0);
    }

    fn more_idle(&mut self, levels: u64, since: Millis) {
        match self.idle_levels.last_mut() {
            Some((at, all)) if *at == since => *all = all.saturating_add(levels),
            _ => self.idle_levels.push((since, levels)),
        }
        // Of too many times the first two become one, the later, so that none seems idle for longer.
        if self.idle_levels.len() > TIMES {
            let (_, levels) = self.idle_levels.remove(0);
            self.idle_levels[0].1 = self.idle_levels[0].1.saturating_add(levels);
        }
    }

    /// How many levels were idle for so long.
    pub(crate) fn idle_for(&self, span: Millis, now: Millis) -> u64 {
        let long = self.idle_levels.iter().filter(|(since, _)| now.saturating_sub(*since) >= span);
        long.fold(0, |sum, (_, levels)| sum.saturating_add(*levels))
    }

    /// Forgets as many levels, those that were idle for longest.
    pub(crate) fn give_up(&mut self, levels: u64) {
        drop_from(self.idle_levels.iter_mut(), levels);
        self.idle_levels.retain(|(_, levels)| *levels > 0);
    }
}

/// Takes as many levels off these, the first ones first.
fn drop_from<'a>(times: impl Iterator<Item = &'a mut (Millis, u64)>, levels: u64) {
    let mut left = levels;
    for (_, levels) in times {
        let gone = left.min(*levels);
        (left, *levels) = (left - gone, *levels - gone);
    }
}

#[cfg(test)]
mod tests;
