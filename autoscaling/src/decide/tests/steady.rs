//! What a load that stays as it is comes to, and how long a decision takes.

use proptest::prelude::*;

use super::*;
use crate::{Policy, QueuePolicy, Service, decide};

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

proptest! {
    #[test]
    fn whatever_the_policy_no_group_swings_under_a_constant_load(
        load in 1usize..60, service in 1u64..400, idle in 0u32..60, seed in any::<u32>(),
        (slots, boot, lag, error) in (1u32..9, 1u64..50, 0u64..13, 0.0..0.2),
        (spare, min, off, wait) in (0u32..5, 0u32..5, 0.0..2.0, 0u64..400_000),
        (readiness, reuse, prediction, warm) in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0),
        (minimum, books, queues) in (0u64..600_000, any::<bool>(), 1u64..4),
    ) {
        let mut policy = Policy {
            spare, min, delayed_off_boots: off, readiness, reuse, prediction, warm, slots,
            minimum_billed_ms: minimum, boot_ms: boot * LOOK, ..Policy::for_queue("q", 500)
        };
        policy.queues[0].wait_target_ms = wait;
        let named = |n| QueuePolicy { name: name(n), ..policy.queues[0].clone() };
        policy.queues = (0..queues).map(named).collect();
        let steady = Steady { load, service: service * LOOK, idle, seed, slots, boot: boot * LOOK, lag: lag * LOOK, error, books, queues };
        let sizes = steady.sizes(&policy, 900);
        let late = &sizes[sizes.len() * 2 / 3..];
        prop_assert!(late.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        prop_assert!(late.iter().all(|n| *n as usize * slots as usize >= load), "{sizes:?}");
    }
}

const LOOK: Millis = 5_000;

/// A load that stays as it is, on a group that starts with idle instances.
#[derive(Debug, Clone, Copy)]
struct Steady {
    /// Jobs that run for ever: one that ends is followed by another at once.
    load: usize,
    service: Millis,
    idle: u32,
    seed: u32,
    slots: u32,
    boot: Millis,
    /// How late SQS's counts are, and by what part of them they are wrong.
    lag: Millis,
    error: f64,
    books: bool,
    /// How many queues the jobs are spread over.
    queues: u64,
}

impl Steady {
    /// The size of the group at every look.
    fn sizes(self, policy: &Policy, looks: u64) -> Vec<u32> {
        let ready = |it: Instance| Instance { slots: self.slots, busy_slots: 0, ..it };
        let mut all: Vec<Instance> =
            (0..self.idle).map(|n| ready(instance(n, State::Idle, 500_000))).collect();
        let (mut memory, mut sizes, mut number) = (Memory::default(), Vec::new(), self.idle);
        let mut told = Vec::new();
        for look in 0..looks {
            let now = NOW + look * LOOK;
            let at_work = self.work(&mut all, look, now);
            told.push(((self.load - at_work) as u64, at_work as u64));
            let seen = self.seen(&all, &told, look);
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

    /// Boots, and gives the jobs to whoever polls first: the ones at work change at every look.
    fn work(self, all: &mut [Instance], look: u64, now: Millis) -> usize {
        for it in all.iter_mut() {
            let booted = it.state == State::Booting && it.launched_at + self.boot <= now;
            if booted {
                (it.slots, it.ready_at, it.state, it.since) =
                    (self.slots, Some(now), State::Idle, now);
            }
            (it.busy_slots, it.state) = match it.state {
                State::Busy => (0, State::Idle),
                state => (0, state),
            };
        }
        let mut free: Vec<usize> = (0..all.len())
            .filter(|n| all[*n].state == State::Idle)
            .flat_map(|n| std::iter::repeat_n(n, self.slots as usize))
            .collect();
        shuffle(&mut free, u64::from(self.seed) + look);
        let at_work = free.len().min(self.load);
        for n in &free[..at_work] {
            (all[*n].state, all[*n].since) = (State::Busy, now);
            all[*n].busy_slots += 1;
        }
        at_work
    }

    fn seen(self, all: &[Instance], told: &[(u64, u64)], look: u64) -> Observed {
        let then = told[told.len().saturating_sub(1 + (self.lag / LOOK) as usize)];
        // As wrong as it may be, now more and now less.
        let sign = if (look + u64::from(self.seed)).is_multiple_of(2) { 1.0 } else { -1.0 };
        let count = |value: u64| {
            let value = (value as f64 * (1.0 + sign * self.error / 2.0)).round() as u64;
            Some(Count { value, error: self.error, lag_ms: self.lag })
        };
        let finished = look * LOOK * self.load as u64 / self.service;
        let queue = |n: u64| {
            let part = |of: u64| of / self.queues + u64::from(n < of % self.queues);
            let (load, finished) = (part(self.load as u64), part(finished));
            QueueSeen {
                visible: count(part(then.0)),
                in_flight: count(part(then.1)),
                finished: Some(finished),
                sent: self.books.then_some(finished + load),
                arrivals_per_s: Some(load as f64 * 1000.0 / self.service as f64),
                services: vec![Service {
                    kind: "k".to_owned(),
                    jobs: 10,
                    total_ms: self.service * 10,
                }],
                ..QueueSeen::empty(&name(n))
            }
        };
        Observed { queues: (0..self.queues).map(queue).collect(), ..group(all.to_vec()) }
    }
}

fn name(queue: u64) -> String {
    if queue == 0 { "q".to_owned() } else { format!("q{queue}") }
}

/// The size at every look of a group of single slots, by counts that are right.
fn constant_load(policy: &Policy, load: usize, service: Millis, idle: u32, seed: u32) -> Vec<u32> {
    let exact = Steady {
        load,
        service,
        idle,
        seed,
        slots: 1,
        boot: 60_000,
        lag: 0,
        error: 0.0,
        books: false,
        queues: 1,
    };
    exact.sizes(policy, 400)
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

#[test]
fn what_comes_every_day_is_booted_for_before_it_comes_as_far_as_the_policy_says() {
    const DAY: Millis = 86_400_000;
    // Ten slots at work, and from nine o'clock on within an hour up to a hundred until noon.
    let course = |at: Millis| match (at % DAY) / 60_000 {
        minute @ 540..600 => 10 + (minute - 540) * 3 / 2,
        600..720 => 100,
        _ => 10,
    };
    let desired = |prediction| {
        let policy = Policy { prediction, ..Policy::for_queue("q", 10) };
        let (mut memory, mut decision) = (Memory::default(), None);
        for now in (0..3 * DAY + DAY * 9 / 24 + 30 * 60_000).step_by(15_000) {
            // One instance that has as many slots, all of them at work.
            let slots = course(now) as u32;
            let one = Instance { slots, busy_slots: slots, ..instance(0, State::Busy, 0) };
            let seen = with_queue(group(vec![one]), 0, u64::from(slots));
            let made = decide(&seen, &policy, &memory, now);
            memory = made.memory.clone();
            decision = Some(made);
        }
        decision.map(|made| made.desired)
    };
    assert_eq!((desired(0.0), desired(1.0)), (Some(1), Some(2)), "it is half past nine");
}
