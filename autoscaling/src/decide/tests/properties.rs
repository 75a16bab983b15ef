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
        again in proptest::option::of(any_queue("q")),
    ) {
        let mut seen = seen;
        seen.queues.extend(again);
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
        // A line that was cut off in between, within a character, spoils neither.
        let half = [&line.as_bytes()[..line.len() / 2], &"ü".as_bytes()[..1]].concat();
        let log = [line.as_bytes(), &half, line.as_bytes()].join(&b'\n');
        let replayed = replay(log.as_slice());
        prop_assert_eq!((replayed.count, replayed.mismatches), (2, vec![]));
        prop_assert!(replayed.unread[0].to_string().contains("line 2"));
    }

    #[test]
    fn a_group_is_told_to_have_more_only_where_more_are_wanted(
        seen in any_observed(), policy in any_policy(), memory in any_memory(), told in 0u32..60,
    ) {
        // However many are listed: replacements come before the others go, and who ends is listed yet.
        let seen = Observed { desired: Some(told), ..seen };
        let decision = decide(&seen, &policy, &memory, NOW);
        if !decision.reason.contains(" more: ") {
            prop_assert!(decision.desired <= told, "{decision:?}");
        }
    }

    #[test]
    fn what_is_taken_back_is_not_asked_for_again(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let mut policy = Policy { readiness: 0.0, prediction: 0.0, ..policy };
        policy.queues.truncate(1);
        let seen = Observed { spot_interruptions: 0, capacity_errors: 0, ..seen };
        let first = decide(&seen, &policy, &memory, NOW);
        let then = decide(&seen, &policy, &first.memory, NOW + 90_000);
        let told = seen.desired.unwrap_or_default();
        prop_assert!(then.back <= told.saturating_sub(policy.min.min(policy.max)), "{then:?}");
        let fewer = told - then.back;
        let seen = Observed { desired: Some(fewer), ..seen };
        let again = decide(&seen, &policy, &then.memory, NOW + 90_000);
        prop_assert!(then.back == 0 || again.desired <= fewer, "{then:?} {again:?}");
    }

    #[test]
    fn whatever_grows_it_stays_within_the_money(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let mut policy = Policy { min: 0, ..policy };
        policy.queues.truncate(1);
        let money = policy.queues[0].money_per_hour.unwrap_or(500_000);
        policy.queues[0].money_per_hour = Some(money);
        let dearest = seen.prices.iter().map(|(_, price)| *price).max();
        let price = dearest.unwrap_or(policy.price_per_hour).max(1);
        let most = (money / price).max(u64::from(money > 0));
        let decision = decide(&seen, &policy, &memory, NOW);
        let told = seen.desired.unwrap_or_default();
        // Those that drain are on their way out.
        let drain = seen.instances.iter().flatten().filter(|it| it.state == State::Draining);
        let stays = decision.desired.saturating_sub(drain.count() as u32);
        prop_assert!(decision.desired <= told || u64::from(stays) <= most, "{decision:?}");
    }
}
