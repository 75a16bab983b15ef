//! What this process saw first, for as long as no row has it.

use std::collections::{HashMap, HashSet};

use aws_sdk_autoscaling::types::LifecycleState;

use super::{fleet::Rows, group::Described};
use crate::observed::Millis;

/// One that only watches writes no row, so it remembers here when it first saw an instance; and a row
/// that cannot be removed, or is not its own to remove, tells of a loss once.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// When each was first seen, and whether it may have come out of the warm pool.
    first: HashMap<String, (Millis, bool)>,
    /// When each was first seen to be ready.
    ready: HashMap<String, Millis>,
    lost: HashSet<String>,
    /// Those that wait in their terminating hook for a worker that is drained.
    drained: HashSet<String>,
    /// Instances of the warm pool at the last look.
    pool: Option<u32>,
}

impl Sightings {
    /// Notes the warm pool; says whether an instance that is new now may have come out of it: then
    /// nobody knows how long one boots that does not.
    pub(super) fn see_pool(&mut self, group: &Described) -> bool {
        let before = self.pool.replace(group.pooled);
        group.pooled > 0 || before.map_or(group.warm.is_some(), |before| before > 0)
    }

    /// Fills in when each instance was first seen outside of the warm pool, where its row does not say.
    pub(super) fn fill_in(
        &mut self,
        group: &Described,
        rows: &mut Rows,
        pooled: bool,
        now: Millis,
    ) {
        let members = group.members.iter().filter(|it| !it.is_warm());
        let there: HashSet<&str> = members.map(|it| it.id.as_str()).collect();
        self.first.retain(|id, _| there.contains(id.as_str()));
        for id in there {
            let (first, pooled) = *self.first.entry(id.to_owned()).or_insert((now, pooled));
            let row = rows.instances.entry(id.to_owned()).or_default();
            row.seen_at.get_or_insert(first);
            row.pooled |= pooled;
        }
    }

    /// Takes each worker to have been ready by the time that it was first seen to be: one whose clock is
    /// ahead would teach that a boot takes as much longer.
    pub(super) fn see_ready(&mut self, rows: &mut Rows, now: Millis) {
        self.ready.retain(|id, _| rows.instances.contains_key(id));
        for (id, row) in &mut rows.instances {
            if let Some(told) = row.first_ready_at.or(row.ready_at) {
                let seen = *self.ready.entry(id.clone()).or_insert(now);
                row.first_ready_at = Some(told.min(seen));
            }
        }
    }

    /// Instances that wait in their terminating hook, and whose workers said that they are drained; each
    /// once, since another hook may hold it on.
    pub(super) fn newly_drained(&mut self, group: &Described, rows: &Rows) -> Vec<String> {
        let drained = |id: &str| rows.instances.get(id).is_some_and(|row| row.drained.is_some());
        let waits = group
            .members
            .iter()
            .filter(|it| it.lifecycle == LifecycleState::TerminatingWait && drained(&it.id));
        let waits: HashSet<String> = waits.map(|it| it.id.clone()).collect();
        let mut new: Vec<String> = waits.difference(&self.drained).cloned().collect();
        new.sort_unstable();
        self.drained = waits;
        new
    }

    /// Has these told of again at the next look: their hook could not be completed.
    pub(super) fn not_released(&mut self, instances: &[String]) {
        self.drained.retain(|id| !instances.contains(id));
    }

    /// How many of these losses were not counted yet.
    pub(super) fn newly_lost(&mut self, lost: Vec<String>) -> u32 {
        let lost: HashSet<String> = lost.into_iter().collect();
        let new = lost.difference(&self.lost).count();
        self.lost = lost;
        u32::try_from(new).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{
        fleet::Row,
        group::{Member, WarmPool},
    };

    fn group(ids: &[&str]) -> Described {
        let (lifecycle, kind) = (LifecycleState::InService, String::new());
        let member = |id: &&str| {
            let (lifecycle, kind) = (lifecycle.clone(), kind.clone());
            Member { id: (*id).to_owned(), lifecycle, kind }
        };
        let members = ids.iter().map(member).collect();
        Described { desired: 1, min: 0, max: 9, members, warm: None, pooled: 0, protects: true }
    }

    #[test]
    fn an_instance_was_first_seen_once_though_no_row_says_so() {
        let mut sightings = Sightings::default();
        let mut seen = |ids: &[&str], now| {
            let mut rows = Rows::default();
            sightings.fill_in(&group(ids), &mut rows, false, now);
            rows.instances.get("i-1").and_then(|row| row.seen_at)
        };
        assert_eq!([seen(&["i-1"], 10), seen(&["i-1", "i-2"], 20)], [Some(10); 2]);
        assert_eq!(seen(&["i-2"], 30), None);
        assert_eq!(seen(&["i-1"], 40), Some(40), "it was gone meanwhile");
    }

    #[test]
    fn what_is_new_may_be_of_a_pool_that_had_somebody_at_this_look_or_the_last() {
        let warm = Some(WarmPool { least: 1, prepared: 3 });
        let seen = |sightings: &mut Sightings, pooled| {
            sightings.see_pool(&Described { warm, pooled, ..group(&[]) })
        };
        let (mut fresh, mut sightings) = (Sightings::default(), Sightings::default());
        assert!(seen(&mut fresh, 0), "nobody knows what was there before");
        assert!(!sightings.see_pool(&group(&["i-1"])), "there is no pool");
        let told = [0, 1, 1, 0, 0].map(|pooled| seen(&mut sightings, pooled));
        assert_eq!(told, [false, true, true, true, false]);
    }

    #[test]
    fn one_in_the_pool_is_seen_once_it_is_out_of_it() {
        let (mut sightings, mut rows) = (Sightings::default(), Rows::default());
        let mut pool = group(&["i-1"]);
        pool.members[0].lifecycle = LifecycleState::WarmedStopped;
        sightings.fill_in(&pool, &mut rows, true, 10);
        assert!(rows.instances.is_empty());
        sightings.fill_in(&group(&["i-1"]), &mut rows, true, 9_000);
        sightings.fill_in(&group(&["i-1"]), &mut rows, false, 9_500);
        let row = &rows.instances["i-1"];
        assert_eq!((row.seen_at, row.pooled), (Some(9_000), true));
    }

    #[test]
    fn a_worker_whose_clock_is_ahead_was_ready_when_it_was_seen_to_be() {
        let mut sightings = Sightings::default();
        let mut ready = |ready_at, now| {
            let row = Row { ready_at, ..Row::default() };
            let instances = [("i-1".to_owned(), row)].into();
            let mut rows = Rows { instances, ..Rows::default() };
            sightings.see_ready(&mut rows, now);
            rows.instances["i-1"].first_ready_at
        };
        assert_eq!(ready(None, 10_000), None);
        let ahead = [20_000, 25_000, 900_000].map(|now| ready(Some(620_000), now));
        assert_eq!(ahead, [Some(20_000); 3]);
        assert_eq!(
            ready(Some(12_000), 905_000),
            Some(12_000),
            "its own word, where that is earlier"
        );
    }

    #[test]
    fn of_those_that_wait_in_their_hook_each_whose_worker_is_drained_is_told_of_until_it_is_released()
     {
        let mut group = group(&["i-1", "i-2", "i-3"]);
        group.members[..2].iter_mut().for_each(|it| it.lifecycle = LifecycleState::TerminatingWait);
        let row = |drained| Row { drained, ..Row::default() };
        let rows = [("i-1", None), ("i-2", Some(5)), ("i-3", Some(6))];
        let instances = rows.map(|(id, drained)| (id.to_owned(), row(drained))).into();
        let (rows, mut sightings) = (Rows { instances, ..Rows::default() }, Sightings::default());
        assert_eq!(sightings.newly_drained(&group, &rows), ["i-2"]);
        assert!(sightings.newly_drained(&group, &rows).is_empty());
        sightings.not_released(&["i-2".to_owned()]);
        assert_eq!(sightings.newly_drained(&group, &rows), ["i-2"]);
    }

    #[test]
    fn a_loss_counts_once() {
        let mut sightings = Sightings::default();
        let mut count =
            |ids: &[&str]| sightings.newly_lost(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!([count(&["i-1"]), count(&["i-1", "i-2"]), count(&["i-2"])], [1, 1, 0]);
    }
}
