//! Tests of the decision, by subject.

use crate::{Count, Instance, Memory, Millis, Observed, QueueSeen, State};

mod any;
mod growing;
mod hostile;
mod properties;
mod reasons;
mod shrinking;
mod steady;
mod waiting;

const NOW: Millis = 1_000_000_000;

fn instance(number: u32, state: State, launched_ago: Millis) -> Instance {
    let running = matches!(state, State::Idle | State::Busy | State::Draining);
    Instance {
        id: format!("i-{number:04}"),
        state,
        since: NOW - launched_ago / 2,
        launched_at: NOW - launched_ago,
        ready_at: running.then_some(NOW - launched_ago / 2),
        slots: u32::from(running),
        busy_slots: u32::from(state == State::Busy),
        silent: false,
        kind: "c7g.large".to_owned(),
        spot: number.is_multiple_of(2),
    }
}

fn group(instances: Vec<Instance>) -> Observed {
    let counted = |it: &&Instance| it.state != State::Warm;
    let desired = Some(instances.iter().filter(counted).count() as u32);
    Observed { desired, instances: Some(instances), ..Observed::empty_group() }
}

fn queue(visible: u64, in_flight: u64) -> QueueSeen {
    let (visible, in_flight) = (Some(Count::exact(visible)), Some(Count::exact(in_flight)));
    QueueSeen { visible, in_flight, ..QueueSeen::empty("q") }
}

fn with_queue(seen: Observed, visible: u64, in_flight: u64) -> Observed {
    Observed { queues: vec![queue(visible, in_flight)], ..seen }
}

fn remembering_boots(ms: Millis) -> Memory {
    Memory { boots_ms: vec![ms], booted_until: NOW, begun: true, ..Memory::default() }
}

/// Fisher and Yates with a small generator (Knuth's MMIX constants).
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for n in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(n, (seed >> 33) as usize % (n + 1));
    }
}
