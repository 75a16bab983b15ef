//! Puts together what is seen.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_autoscaling::types::LifecycleState as Lifecycle;

use super::{
    config::queue_name,
    fleet::{Row, Rows},
    group::{Described, Member},
};
use crate::observed::{Instance, Millis, Observed, QueueSeen, Service, State};

/// What is seen of a group, its workers, those that are `silent`, and its queues. What could not be
/// seen is `None`.
pub(super) fn observed(
    group: Option<&Described>,
    rows: Option<&Rows>,
    mut queues: Vec<QueueSeen>,
    now: Millis,
    silent: &HashSet<String>,
) -> Observed {
    let members = group.zip(rows).map(|(group, rows)| {
        let member =
            |it: &Member| instance(it, rows.instances.get(&it.id), now, silent.contains(&it.id));
        group.members.iter().filter(|it| belongs(&it.lifecycle)).map(member).collect()
    });
    for queue in &mut queues {
        queue.services = services(rows, &queue.name);
    }
    Observed {
        queues,
        instances: members,
        desired: group.map(|group| group.desired),
        leaving: group.map_or(0, leaving),
        pooled: group.map_or(0, |group| group.pooled.saturating_sub(warmed(group))),
        ..Observed::empty_group()
    }
}

fn gone(lifecycle: &Lifecycle) -> bool {
    matches!(lifecycle, Lifecycle::Terminated | Lifecycle::Detached | Lifecycle::Detaching)
}

/// Whether an instance is one of those that the group sizes: on standby it is in somebody's hands, and
/// the desired capacity does not count it.
fn belongs(lifecycle: &Lifecycle) -> bool {
    !gone(lifecycle) && !matches!(lifecycle, Lifecycle::Standby | Lifecycle::EnteringStandby)
}

/// Instances that the group is ending: a hook may have them wait, but its capacity they are not.
fn leaving(group: &Described) -> u32 {
    group.members.iter().filter(|it| ends(&it.lifecycle)).count() as u32
}

fn ends(lifecycle: &Lifecycle) -> bool {
    !gone(lifecycle) && lifecycle.as_str().starts_with("Terminat")
}

fn warmed(group: &Described) -> u32 {
    group.members.iter().filter(|it| it.is_warm()).count() as u32
}

/// Instances that left the group with messages in hand: a spot instance taken back, a lost host.
pub(super) fn lost(group: Option<&Described>, rows: Option<&Rows>) -> Vec<String> {
    let Some((group, rows)) = group.zip(rows) else { return Vec::new() };
    let member = |id: &String| group.members.iter().any(|it| it.id == *id && !gone(&it.lifecycle));
    let rows = rows.instances.iter().filter(|(id, row)| row.held > 0 && !member(id));
    rows.map(|(id, _)| id.clone()).collect()
}

fn services(rows: Option<&Rows>, queue: &str) -> Vec<Service> {
    let mut kinds: BTreeMap<&str, (u64, Millis)> = BTreeMap::new();
    let rows = rows.into_iter().flat_map(|rows| rows.instances.values());
    for row in rows.filter(|row| serves(row, queue) && row.jobs > 0) {
        let sum = kinds.entry(&row.job).or_default();
        *sum = (sum.0.saturating_add(row.jobs), sum.1.saturating_add(row.total_ms));
    }
    let service =
        |(kind, (jobs, total_ms)): (&str, _)| Service { kind: kind.to_owned(), jobs, total_ms };
    kinds.into_iter().map(service).collect()
}

/// A worker may have several queues, told with commas between.
fn serves(row: &Row, queue: &str) -> bool {
    row.queue.split(',').any(|url| queue_name(url) == queue)
}

fn instance(member: &Member, row: Option<&Row>, now: Millis, silent: bool) -> Instance {
    let row = row.cloned().unwrap_or_default();
    let launched = row.seen_at.into_iter().chain(row.started_at).min();
    let state = state(&member.lifecycle, &row, silent);
    // Nobody knows whether a silent worker takes messages, so no message is left to it.
    let held = if silent { row.slots } else { row.held };
    Instance {
        id: member.id.clone(),
        state,
        since: if row.since > 0 { row.since } else { now },
        launched_at: launched.unwrap_or(now),
        ready_at: booted(&row),
        slots: row.slots,
        busy_slots: held,
        silent,
        kind: member.kind.clone(),
        spot: row.spot,
    }
}

/// When an instance had booted whose whole boot was seen. Of one that ran before anybody looked nobody
/// knows how long it took; a worker that starts again is no boot, nor is what was prepared in a warm pool
/// and is only started.
fn booted(row: &Row) -> Option<Millis> {
    if row.pooled {
        return None;
    }
    let ready = row.first_ready_at.or(row.ready_at)?;
    let started = row.started_at.unwrap_or(ready).min(ready);
    row.seen_at.filter(|seen| *seen <= started).map(|_| ready)
}

fn state(lifecycle: &Lifecycle, row: &Row, silent: bool) -> State {
    if ends(lifecycle) {
        return State::Draining;
    }
    let lifecycle = lifecycle.as_str();
    if lifecycle.starts_with("Warmed") {
        return State::Warm;
    }
    // Without an order, too: a worker that was stopped takes no more messages.
    if row.drain.is_some() || row.drained.is_some() {
        return State::Draining;
    }
    match (row.at, row.ready_at) {
        (0, _) if lifecycle.starts_with("Pending") => State::Pending,
        (0, _) | (_, None) => State::Booting,
        // Nobody knows what a silent one does.
        _ if silent => State::Busy,
        _ if row.held > 0 => State::Busy,
        _ => State::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000;

    fn idle() -> Row {
        Row { at: NOW, ready_at: Some(NOW - 50_000), slots: 2, ..Row::default() }
    }

    #[test]
    fn an_instance_is_idle_only_while_its_worker_says_so() {
        let told = |row: Row| state(&Lifecycle::InService, &row, false);
        assert_eq!(told(idle()), State::Idle);
        assert_eq!(told(Row { held: 1, ..idle() }), State::Busy);
        assert_eq!(state(&Lifecycle::InService, &idle(), true), State::Busy);
        assert_eq!(told(Row { ready_at: None, ..idle() }), State::Booting);
        assert_eq!(told(Row { drain: Some(NOW), ..idle() }), State::Draining);
        assert_eq!(told(Row { drained: Some(NOW), ..idle() }), State::Draining);
        assert_eq!(told(Row::default()), State::Booting);
    }

    #[test]
    fn the_group_says_what_starts_and_what_ends() {
        let seen = |lifecycle| state(&lifecycle, &Row::default(), false);
        assert_eq!(seen(Lifecycle::PendingWait), State::Pending);
        assert_eq!(seen(Lifecycle::WarmedStopped), State::Warm);
        assert_eq!(state(&Lifecycle::TerminatingWait, &idle(), false), State::Draining);
    }

    fn seen(row: &Row, silent: bool) -> Instance {
        let (id, lifecycle, kind) = ("i-1".to_owned(), Lifecycle::InService, String::new());
        instance(&Member { id, lifecycle, kind }, Some(row), NOW, silent)
    }

    #[test]
    fn no_message_is_left_to_a_worker_that_is_silent() {
        assert_eq!(seen(&idle(), false).busy_slots, 0);
        assert_eq!(seen(&idle(), true).busy_slots, 2);
    }

    #[test]
    fn a_worker_that_starts_again_is_no_boot() {
        let first = Some(NOW - 900_000);
        let row = Row { seen_at: Some(NOW - 1_000_000), first_ready_at: first, ..idle() };
        assert_eq!((seen(&row, false).ready_at, row.ready_at > first), (first, true));
    }

    #[test]
    fn of_an_instance_that_ran_before_it_was_seen_no_boot_is_known() {
        let row = Row { started_at: Some(NOW - 60_000), ..idle() };
        for (seen_at, booted) in [(NOW - 200_000, true), (NOW - 55_000, false), (NOW, false)] {
            let row = Row { seen_at: Some(seen_at), ..row.clone() };
            assert_eq!(seen(&row, false).ready_at.is_some(), booted, "{seen_at}");
        }
        assert_eq!(seen(&row, false).ready_at, None);
    }

    #[test]
    fn what_may_have_come_out_of_a_warm_pool_is_no_boot() {
        let row = Row { seen_at: Some(NOW - 60_000), started_at: Some(NOW - 55_000), ..idle() };
        assert!(seen(&row, false).ready_at.is_some());
        assert_eq!(seen(&Row { pooled: true, ..row }, false).ready_at, None);
    }

    #[test]
    fn what_is_on_standby_is_nothing_that_the_group_sizes() {
        let member = |lifecycle| Member { id: "i-1".to_owned(), lifecycle, kind: String::new() };
        for lifecycle in [Lifecycle::Standby, Lifecycle::EnteringStandby] {
            let members = vec![member(lifecycle)];
            let group = Described { members, ..described() };
            let seen =
                observed(Some(&group), Some(&Rows::default()), Vec::new(), NOW, &HashSet::new());
            assert_eq!(seen.instances, Some(Vec::new()));
        }
    }

    fn described() -> Described {
        let (members, warm) = (Vec::new(), None);
        Described { desired: 0, min: 0, max: 9, members, warm, pooled: 0, protects: true }
    }

    #[test]
    fn what_waits_in_its_terminating_hook_drains_and_is_no_capacity() {
        let member =
            |id: &str, lifecycle| Member { id: id.to_owned(), lifecycle, kind: String::new() };
        let members = vec![
            member("i-1", Lifecycle::InService),
            member("i-2", Lifecycle::TerminatingWait),
            member("i-3", Lifecycle::TerminatingProceed),
            member("i-4", Lifecycle::Terminated),
        ];
        let group = Described { desired: 1, members, pooled: 2, ..described() };
        let rows = Rows::default();
        let seen = observed(Some(&group), Some(&rows), Vec::new(), NOW, &HashSet::new());
        let states: Vec<State> = seen.instances.iter().flatten().map(|it| it.state).collect();
        assert_eq!(states, [State::Booting, State::Draining, State::Draining]);
        assert_eq!((seen.leaving, seen.pooled), (2, 2));
    }

    #[test]
    fn an_instance_that_left_with_work_in_hand_is_lost() {
        let mut rows = Rows::default();
        rows.instances.insert("i-1".to_owned(), Row { held: 1, ..idle() });
        rows.instances.insert("i-2".to_owned(), idle());
        assert_eq!(lost(Some(&described()), Some(&rows)), ["i-1"]);
        assert_eq!(lost(None, Some(&rows)), [""; 0]);
    }
}
