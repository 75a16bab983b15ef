//! A stage waits until those before it are ready.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};

use super::{Hands, case::is_held_back};
use crate::{
    arn::Target,
    handlers::{AnyHandler, Handler},
    message::{Batch, Gate},
    plan::Action,
    rows::{Service, stage_of},
    schedule::Power,
    store::Waiting,
};

/// The pause between two looks: it doubles from the first up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A stage that waits is looked at within so many seconds.
const LOOKED: i64 = 900;

impl Hands {
    /// Waits for the stages before that of a batch: databases before what uses them, and the other
    /// way around for a stop. Gives what it waits for still, in words; nothing where it may go on: those
    /// are ready, or it waits for as long as the limit since the first time.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub(super) async fn gated(&self, batch: &Batch) -> Result<Option<String>, Failure> {
        let power = match (batch.dry_run, batch.action) {
            (true, _) | (_, Action::ModClass) => return Ok(None),
            (_, Action::Start) => Power::On,
            (_, Action::Stop) => Power::Off,
        };
        let Some(gate) = &batch.gate else { return Ok(None) };
        let first = self.before(batch, gate).await?;
        let (key, wait) = waiting(batch, gate);
        let known = self.store.waiting(&key).await?;
        let limit = i64::try_from(self.stage_limit.as_secs()).unwrap_or(i64::MAX);
        let wait = gone_on(known.as_ref(), wait, limit);
        let is_over = wait.seen - wait.since >= limit;
        // Who waits has a slot, and most of them are for what can be done now.
        let seat = self.seats.try_acquire().ok().filter(|_| !is_over);
        let patience = if seat.is_some() { self.stage_wait } else { Duration::ZERO };
        match self.await_ready(&first, power, patience).await {
            None if known.is_some() => self.store.waits_no_more(&key).await.map(|()| None),
            None => Ok(None),
            Some(why) => {
                self.store.waits(&key, &wait).await?;
                Ok(Some(why).filter(|_| !is_over))
            }
        }
    }

    /// Looks until they are ready, or for so long; gives what is not.
    async fn await_ready(
        &self,
        first: &[Target],
        power: Power,
        patience: Duration,
    ) -> Option<String> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let left = self.not_yet(first, power).await;
            if left.is_none() || start.elapsed() + pause > patience {
                return left;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The resources of the stages that come first, without those that nobody switches, or that their
    /// own override keeps as they are.
    async fn before(&self, batch: &Batch, gate: &Gate) -> Result<Vec<Target>, Failure> {
        let Some(context) = self.store.context(&gate.context).await? else {
            return Ok(Vec::new());
        };
        let (row, settings) =
            (self.store.resources(&gate.context).await?, self.store.settings().await?);
        let changed = match &gate.undone {
            Some(bulk) => Some(self.audit.bulk(bulk).await?),
            None => None,
        };
        let counts = |target: &Target, id: &str| {
            settings.never_touched(target, id, &self.home.account).is_none()
                && changed.as_ref().is_none_or(|all| all.iter().any(|it| it.key == target.key()))
        };
        let mut first = Vec::new();
        for (service, list) in &row.lists {
            for (id, scheduled) in list.id.iter().zip(&list.scheduled) {
                let Ok(target) = self.home.target(*service, id) else { continue };
                let stage = stage_of(&context.stages, *service, id);
                let earlier = match batch.action {
                    Action::Start => stage < gate.stage,
                    _ => stage > gate.stage,
                };
                if *scheduled && earlier && counts(&target, id) {
                    first.push(target);
                }
            }
        }
        let keys: Vec<String> = first.iter().map(Target::key).collect();
        let held = self.store.held(&keys).await?;
        first.retain(|it| held.get(&it.key()).is_none_or(|held| !is_held_back(batch, held)));
        Ok(first)
    }

    /// The first of them that is not in a state yet. What cannot be looked at is not waited for:
    /// its own batch tells why.
    async fn not_yet(&self, targets: &[Target], power: Power) -> Option<String> {
        let mut places = BTreeMap::<(&str, &str, Service), Vec<&Target>>::new();
        for target in targets {
            let place = (target.account.as_str(), target.region.as_str(), target.service);
            places.entry(place).or_default().push(target);
        }
        for ((account, region, service), targets) in places {
            let Ok(sdk) = self.places.at(account, region).await else { continue };
            let caller = self.limits.caller(account, region, service);
            let handler = AnyHandler::new(service, &sdk, caller);
            for targets in targets.chunks(crate::message::BATCH) {
                let ids: Vec<String> = targets.iter().map(|it| it.id.clone()).collect();
                let Ok(seen) = handler.observe(&ids).await else { continue };
                let late = targets.iter().find_map(|target| {
                    let state = &seen.get(&target.id)?.state;
                    (!state.settled(power)).then(|| (target.key(), state.name().to_owned()))
                });
                if let Some((key, state)) = late {
                    return Some(format!("it waits for {key}, which is {state}"));
                }
            }
        }
        None
    }
}

/// The row of a stage that waits, and what it says from now on. A stage of another action, or of another
/// order, waits anew. A tick counts by the clock that it was planned for, an order, which comes again
/// until its stage may go on, by ours.
fn waiting(batch: &Batch, gate: &Gate) -> (String, Waiting) {
    let action = batch.action.name();
    let (what, clock) = match batch.actor.as_str() {
        "hand" => (format!("{action} {}", batch.bulk), Timestamp::now()),
        _ => (action.to_owned(), batch.at_after(SignedDuration::ZERO)),
    };
    let key = format!("stage/{}/{}/{}", batch.actor, gate.stage, gate.context);
    (key, Waiting { what, since: clock.as_second(), seen: clock.as_second() })
}

/// A wait that began before, where that was for the same and has gone on since. One that was broken off,
/// since its scheduler was stopped or somebody wanted the contrary, was another.
fn gone_on(known: Option<&Waiting>, now: Waiting, limit: i64) -> Waiting {
    let same = |it: &&Waiting| it.what == now.what && now.seen - it.seen <= limit.max(LOOKED);
    let since = known.filter(same).map_or(now.since, |it| it.since);
    Waiting { since, ..now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_was_broken_off_is_no_reason_to_go_on_at_once_the_next_time() {
        let at = |what: &str, since, seen| Waiting { what: what.to_owned(), since, seen };
        let since =
            |known: &Waiting, now, limit| gone_on(Some(known), at("START", now, now), limit);
        let monday = at("START", 1_000, 1_060);
        assert_eq!(since(&monday, 1_120, 900).since, 1_000, "it goes on");
        assert_eq!(since(&monday, 1_900, 900).since, 1_000, "a tick a quarter of an hour later");
        assert_eq!(since(&monday, 87_400, 900).since, 87_400, "the next day's is its own");
        assert_eq!(since(&monday, 1_120, 30).since, 1_000, "ticks may be rarer than the limit");
        assert_eq!(since(&at("STOP", 1_000, 1_060), 1_120, 900).since, 1_120);
    }
}
