//! The policy of this crate in a simulated world.

use super::{Kill, Order, Scaler, View};
use crate::{
    decide::decide,
    memory::Memory,
    observed::{Millis, State},
    policy::Policy,
};

/// After so many boots' time the memory of a rise in demand is gone.
const FORGOTTEN: Millis = 32;

/// Calls [`decide`](crate::decide) as the process `autoscaler` does.
#[derive(Debug, Clone)]
pub struct Ours {
    policy: Policy,
    memory: Memory,
    every_ms: Millis,
}

impl Ours {
    /// Decides by this policy, as often as the process does by default.
    pub fn new(policy: Policy) -> Self {
        Self { policy, memory: Memory::default(), every_ms: 5_000 }
    }
}

impl Scaler for Ours {
    fn every_ms(&self) -> Millis {
        self.every_ms
    }

    fn orders_by_row(&self) -> bool {
        true
    }

    fn settles_ms(&self) -> Millis {
        let Policy { delayed_off_boots, minimum_billed_ms, queues, .. } = &self.policy;
        // What is expected by the time of day changes with it.
        if self.policy.prediction > 0.0 {
            return Millis::MAX;
        }
        let boot = self.memory.boot_ms(&self.policy);
        let kept = boot.saturating_mul(FORGOTTEN).max((boot as f64 * delayed_off_boots) as Millis);
        let waits = queues.iter().map(|queue| queue.wait_target_ms).max().unwrap_or_default();
        kept.max(*minimum_billed_ms).max(waits)
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        let decision = decide(view.observed, &self.policy, &self.memory, view.now);
        self.memory = decision.memory;
        let all = view.observed.instances.iter().flatten();
        let draining = all.filter(|it| it.state == State::Draining).count() as u32;
        let desired = decision.desired.saturating_sub(draining);
        Order { desired, remove: decision.remove, rest: Kill::None }
    }
}
