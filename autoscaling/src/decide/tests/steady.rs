//! What a load that stays as it is comes to, and how long a decision takes.

use proptest::prelude::*;

use super::*;
use crate::{Policy, Service, decide};

proptest! {
    #[test]
    fn a_constant_load_settles_and_stays(
        waiting_load in 1usize..30, service in 2u64..60, idle in 0u32..20, seed in any::<u32>(),
    ) {
        let policy = Policy::for_queue("q", 100);
        let sizes = constant_load(&policy, waiting_load, service * 5_000, idle, seed);
        let late = &sizes[sizes.len() / 2..];
        prop_assert!(late.iter().all(|n| *n == late[0]), "{sizes:?}");
        prop_assert!(late[0] >= waiting_load as u32, "{sizes:?}");
    }

    #[test]
    fn what_is_kept_ready_for_a_rise_shrinks_under_a_constant_load_and_does_not_swing(
        load in 1usize..30, service in 2u64..60, idle in 0u32..20, readiness in 0.0..1.0,
    ) {
        let policy = Policy { readiness, ..Policy::for_queue("q", 100) };
        let sizes = constant_load(&policy, load, service * 5_000, idle, 1);
        let late = &sizes[sizes.len() / 2..];
        prop_assert!(late.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        prop_assert!(late.iter().all(|n| *n >= load as u32), "{sizes:?}");
    }
}

/// Keeps `load` jobs running for ever on a group that starts with idle instances; a job that ends
/// is followed by another at once, on any instance that is free. Gives the size at every look.
pub(super) fn constant_load(
    policy: &Policy,
    load: usize,
    service: Millis,
    idle: u32,
    seed: u32,
) -> Vec<u32> {
    const LOOK: Millis = 5_000;
    let mut all: Vec<Instance> = (0..idle).map(|n| instance(n, State::Idle, 500_000)).collect();
    let (mut memory, mut sizes, mut number) = (Memory::default(), Vec::new(), idle);
    let mut ends = vec![0; load];
    for look in 0..400u64 {
        let now = NOW + look * LOOK;
        all.iter_mut()
            .filter(|it| it.state == State::Booting && it.launched_at + 60_000 <= now)
            .for_each(|it| {
                (it.state, it.since, it.slots, it.ready_at) = (State::Idle, now, 1, Some(now));
            });
        let free = |it: &&mut Instance| matches!(it.state, State::Idle | State::Busy);
        all.iter_mut().filter(free).for_each(|it| (it.state, it.busy_slots) = (State::Idle, 0));
        let (mut ready, at_work): (Vec<usize>, usize) = {
            let ready: Vec<usize> =
                (0..all.len()).filter(|n| all[*n].state == State::Idle).collect();
            let at_work = ready.len().min(load);
            (ready, at_work)
        };
        // Whoever polls gets it: the ones at work change at every look.
        shuffle(&mut ready, u64::from(seed) + look);
        for n in &ready[..at_work] {
            (all[*n].state, all[*n].busy_slots, all[*n].since) = (State::Busy, 1, now);
        }
        ends.iter_mut().filter(|end| **end <= now).for_each(|end| *end = now + service);
        let timed = Service { kind: "k".to_owned(), jobs: 10, total_ms: service * 10 };
        let seen = with_queue(group(all.clone()), (load - at_work) as u64, at_work as u64);
        let mut seen = seen;
        seen.queues[0].services = vec![timed];
        let decision = decide(&seen, policy, &memory, now);
        all.retain(|it| !decision.remove.contains(&it.id));
        for _ in all.len()..decision.desired as usize {
            all.push(Instance { launched_at: now, ..instance(number, State::Booting, 0) });
            number += 1;
        }
        memory = decision.memory;
        sizes.push(decision.desired);
    }
    sizes
}

/// The fastest of many: what the machine does beside it only ever makes a run slower.
#[cfg(not(debug_assertions))]
#[test]
fn a_thousand_instances_are_decided_within_50_us() {
    let states = [State::Idle, State::Busy, State::Busy, State::Idle, State::Booting];
    let one = |n: u32| instance(n, states[n as usize % 5], u64::from(n) * 997 % 1_000_000);
    let seen = with_queue(group((0..1000).map(one).collect()), 0, 390);
    let policy = Policy::for_queue("q", 2000);
    let memory = decide(&seen, &policy, &Memory::default(), NOW).memory;
    let times = (0..200).map(|_| {
        let start = std::time::Instant::now();
        std::hint::black_box(decide(std::hint::black_box(&seen), &policy, &memory, NOW + 120_000));
        start.elapsed()
    });
    let best = times.min().unwrap();
    println!("decide for 1000 instances: {best:?}");
    assert!(best.as_micros() <= 50, "{best:?}");
}
