//! What holds whatever is seen.

use proptest::prelude::*;

use super::{any::*, *};
use crate::{Policy, Record, decide, replay};

proptest! {
    #[test]
    fn never_above_the_maximum(seen in any_observed(), policy in any_policy(), memory in any_memory()) {
        let decision = decide(&seen, &policy, &memory, NOW);
        prop_assert!(decision.desired <= policy.max, "{decision:?}");
        let warm = decision.warm.unwrap_or_default();
        prop_assert!(decision.desired + warm <= policy.max, "{decision:?}");
    }

    #[test]
    fn only_idle_instances_are_removed_and_each_once(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let mut gone = std::collections::HashSet::new();
        for id in &decision.remove {
            let found = seen.instances.iter().flatten().find(|it| it.id == *id);
            prop_assert_eq!(found.map(|it| (it.state, it.busy_slots)), Some((State::Idle, 0)));
            prop_assert!(gone.insert(id));
        }
    }

    #[test]
    fn the_newest_paid_for_idle_instances_go(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let idle = seen.instances.iter().flatten().filter(|it| it.state == State::Idle);
        let mut idle: Vec<_> =
            idle.filter(|it| NOW - it.launched_at >= policy.minimum_billed_ms).collect();
        idle.sort_by_key(|it| (std::cmp::Reverse(it.launched_at), it.id.clone()));
        let newest = idle.iter().take(decision.remove.len()).map(|it| it.id.clone());
        prop_assert_eq!(decision.remove, newest.collect::<Vec<_>>());
    }

    #[test]
    fn one_message_on_an_empty_group_is_enough(
        visible in 1u64..100_000, policy in any_policy(), memory in any_memory(), errors in 0u32..2,
        other in any_queue("a"),
    ) {
        let policy = Policy { max: policy.max.max(1), ..policy };
        prop_assume!(policy.queues.iter().all(|q| q.money_per_hour != Some(0)));
        let mut seen = Observed { capacity_errors: errors, ..with_queue(group(vec![]), visible, 0) };
        seen.queues.push(other);
        prop_assert!(decide(&seen, &policy, &memory, NOW).desired >= 1);
    }

    #[test]
    fn the_order_of_what_was_seen_makes_no_difference(
        seen in any_observed(), policy in any_policy(), memory in any_memory(), seed in any::<u64>(),
    ) {
        let mut other = seen.clone();
        let mut policy_too = policy.clone();
        shuffle(other.instances.as_mut().unwrap(), seed);
        shuffle(&mut other.queues, seed);
        shuffle(&mut other.prices, seed);
        other.queues.iter_mut().for_each(|queue| shuffle(&mut queue.services, seed));
        shuffle(&mut policy_too.queues, seed);
        prop_assert_eq!(
            decide(&seen, &policy, &memory, NOW),
            decide(&other, &policy_too, &memory, NOW)
        );
    }

    #[test]
    fn while_anything_is_missing_it_holds_and_removes_nothing(
        seen in any_observed(), policy in any_policy(), memory in any_memory(), what in 0..6,
    ) {
        let mut seen = seen;
        match what {
            0 => seen.instances = None,
            1 => seen.desired = None,
            2 => seen.queues[0].visible = None,
            3 => seen.queues[1].in_flight = None,
            4 => seen.queues[1].delayed = None,
            _ => drop(seen.queues.pop()),
        }
        let decision = decide(&seen, &policy, &memory, NOW);
        prop_assert!(decision.hold && decision.remove.is_empty());
        prop_assert_eq!(&decision.memory, &memory);
        let now = seen.desired.or(seen.instances.map(|all| all.len() as u32)).unwrap_or(0);
        prop_assert_eq!(decision.desired, now.min(policy.max));
    }

    #[test]
    fn a_logged_decision_is_made_again_from_its_line(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let record = Record {
            group: "g".to_owned(), now: NOW, observed: seen, policy, memory, decision, done: vec![],
        };
        let line = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(replay(line.as_bytes()).unwrap(), (1, vec![]));
    }
}
