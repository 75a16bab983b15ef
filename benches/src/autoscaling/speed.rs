//! How fast it is.

use std::{hint::black_box, time::Instant};

use flotilla_autoscaling::{
    Count, Instance, Memory, Observed, Policy, QueueSeen, State, decide,
    simulate::{Ours, Shape, World, run},
};
use serde_json::json;

use crate::{
    figure::{Better, Figure},
    settings::Settings,
};

const MILLION: &str = "autoscaling.simulate_million_s";
const DECIDE: &str = "autoscaling.decide_us";

pub(super) fn print(settings: &Settings) {
    if settings.wants(&[MILLION]) {
        million();
    }
    if settings.wants(&[DECIDE]) {
        decisions();
    }
}

fn policy(max: u32) -> Policy {
    Policy { readiness: 0.7, reuse: 0.0, ..Policy::for_queue("q", max) }
}

/// A million jobs of a day, on one core.
fn million() {
    let trace = Shape::Diurnal.trace(1_000_000, 86_400_000, 1);
    let start = Instant::now();
    let out = run(&trace, &World::default(), &mut Ours::new(policy(100_000)));
    let seconds = start.elapsed().as_secs_f64();
    let detail = json!({ "trace": "synthetic diurnal, one day", "peak_instances": out.peak });
    Figure::new(MILLION, seconds, "s", Better::Lower).target(5.0).detail(detail).print();
}

/// The median of many decisions on a group of 1,000 instances, a fifth of them booting.
fn decisions() {
    let seen = thousand();
    let policy = policy(2_000);
    let mut memory = Memory::default();
    for look in 0..2_000 {
        memory = decide(&seen, &policy, &memory, look * 5_000).memory;
    }
    let once = |_| {
        let start = Instant::now();
        black_box(decide(black_box(&seen), &policy, &memory, 20_000_000));
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..1_000).map(once).collect();
    times.sort_by(f64::total_cmp);
    let detail = json!({ "instances": 1_000, "runs": times.len(), "p99_us": times[990] });
    Figure::new(DECIDE, times[500], "us", Better::Lower).target(50.0).detail(detail).print();
}

fn thousand() -> Observed {
    let states = [State::Idle, State::Busy, State::Busy, State::Idle, State::Booting];
    let instances = (0..1_000).map(|n| instance(n, states[n as usize % states.len()])).collect();
    let queue = QueueSeen { in_flight: Some(Count::exact(390)), ..QueueSeen::empty("q") };
    Observed {
        queues: vec![queue],
        instances: Some(instances),
        desired: Some(1_000),
        ..Observed::empty_group()
    }
}

fn instance(number: u32, state: State) -> Instance {
    let launched_at = u64::from(number) * 997;
    Instance {
        id: format!("i-{number:04}"),
        state,
        since: 0,
        launched_at,
        ready_at: (state != State::Booting).then_some(launched_at + 120_000),
        slots: 1,
        busy_slots: u32::from(state == State::Busy),
        silent: false,
        kind: "c7g.large".to_owned(),
        spot: false,
    }
}
