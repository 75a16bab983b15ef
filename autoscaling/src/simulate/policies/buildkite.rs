//! buildkite-agent-scaler with agents that end themselves when idle.

use super::divided;
use crate::{
    observed::{Millis, State},
    simulate::{Kill, Order, Scaler, View},
};

/// As many instances as there are scheduled and running jobs, and never fewer than there are;
/// an idle agent ends itself and its instance after a while (600 s in the Elastic CI stack)
/// (<https://github.com/buildkite/buildkite-agent-scaler>,
/// <https://github.com/buildkite/elastic-ci-stack-for-aws>, `ScaleInIdlePeriod`).
#[derive(Debug, Clone, Copy)]
pub struct Buildkite {
    idle_ms: Millis,
    agents: u32,
}

impl Buildkite {
    /// Agents end themselves after this time; each instance has so many.
    pub fn new(idle_ms: Millis, agents: u32) -> Self {
        Self { idle_ms, agents }
    }

    fn wanted(&self, scheduled: u64, running: u64) -> u32 {
        divided((scheduled + running) as f64, f64::from(self.agents))
    }
}

impl Scaler for Buildkite {
    fn every_ms(&self) -> Millis {
        10_000
    }

    fn settles_ms(&self) -> Millis {
        self.idle_ms
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        let idle = view.observed.instances.iter().flatten().filter(|it| {
            it.state == State::Idle && view.now.saturating_sub(it.since) >= self.idle_ms
        });
        let remove: Vec<String> = idle.map(|it| it.id.clone()).collect();
        // Whoever ends itself lowers the desired capacity by one.
        let left = view.live.saturating_sub(remove.len() as u32);
        let desired = self.wanted(view.visible, view.in_flight).max(left);
        Order { desired, remove, rest: Kill::None }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::seen, *};
    use crate::{Instance, Observed};

    fn idle(id: &str, since: Millis) -> Instance {
        Instance {
            id: id.to_owned(),
            state: State::Idle,
            since,
            launched_at: 0,
            ready_at: None,
            slots: 1,
            busy_slots: 0,
            silent: false,
            kind: String::new(),
            spot: false,
        }
    }

    #[test]
    fn scheduled_and_running_jobs_are_launched_for_and_only_who_idled_for_long_ends_itself() {
        let mut it = Buildkite::new(600_000, 1);
        assert_eq!((it.every_ms(), it.settles_ms()), (10_000, 600_000));
        let instances = Some(vec![idle("i-1", 100_000), idle("i-2", 100_001)]);
        let group = Observed { instances, ..Observed::empty_group() };
        let mut look = |visible, in_flight| {
            let view = View { now: 700_000, ..seen(&group, visible, in_flight, 5, 5) };
            it.look(&view)
        };
        let (busy, quiet) = (look(4, 3), look(0, 3));
        assert_eq!(
            (busy.desired, quiet.desired),
            (7, 4),
            "four are left of five, one ended itself"
        );
        assert_eq!((busy.remove, quiet.rest), (vec!["i-1".to_owned()], Kill::None));
    }

    #[test]
    fn jobs_are_divided_by_the_agents_of_an_instance_and_rounded_up() {
        let cases = [(10, 0, 1, 10), (10, 2, 1, 12), (12, 0, 5, 3), (0, 0, 4, 0), (1, 0, 4, 1)];
        for (scheduled, running, agents, wanted) in cases {
            let it = Buildkite::new(600_000, agents);
            assert_eq!(it.wanted(scheduled, running), wanted, "{scheduled} {running} {agents}");
        }
    }
}
