//! What is wanted at an instant, and what is done to a resource.

use serde_json::json;

use super::{step::step, *};
use crate::rows::{Held, Mode, Service};

fn row(fields: serde_json::Value) -> Scheduling {
    let mut row = json!({"schedulingRuleStart": "0 8 * * *", "schedulingRuleStop": "0 19 * * *"});
    row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(row).unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("2026-06-01T{text}Z").parse().unwrap()
}

#[test]
fn the_latest_rule_is_wanted_and_whether_it_was_acted_on_is_known() {
    let nine = wanted(&row(json!({})), at("09:00:00")).unwrap();
    assert_eq!((nine.power, nine.since, nine.acted), (Power::On, at("08:00:00"), false));
    let acted = row(json!({"lastScheduling": at("08:00:00").as_second()}));
    assert!(wanted(&acted, at("09:00:00")).unwrap().acted);
    assert!(!wanted(&acted, at("19:00:00")).unwrap().acted);
}

#[test]
fn a_hand_holds_until_the_next_rule() {
    let hand = json!({"powerByHand": false, "lastByHand": at("10:00:00").as_second()});
    let row = row(hand);
    assert_eq!(wanted(&row, at("09:59:59")).unwrap().power, Power::On);
    let held = wanted(&row, at("12:00:00")).unwrap();
    assert_eq!((held.power, held.since), (Power::Off, at("10:00:00")));
    let tomorrow = "2026-06-02T08:00:00Z".parse().unwrap();
    assert_eq!(wanted(&row, tomorrow).unwrap().power, Power::On);
}

#[test]
fn a_hand_in_the_second_of_a_rule_counts_where_it_came_after_it() {
    let eight = at("08:00:00");
    let power = |millisecond: i64| {
        let hand = json!({
            "powerByHand": false, "lastByHand": eight.as_second(),
            "handAt": eight.as_millisecond() + millisecond,
        });
        wanted(&row(hand), at("09:00:00")).unwrap().power
    };
    assert_eq!((power(0), power(400)), (Power::On, Power::Off));
    // Of a hand that was noted to the second alone nobody knows: the rule counts.
    let whole = json!({"powerByHand": false, "lastByHand": eight.as_second()});
    assert_eq!(wanted(&row(whole), at("09:00:00")).unwrap().power, Power::On);
}

#[test]
fn nothing_is_wanted_without_a_running_scheduler_a_rule_or_a_past() {
    for (fields, word) in [
        (json!({"isScheduled": false}), "stopped"),
        (json!({"schedulingRuleStart": "x"}), "fields"),
        (json!({"timeZone": "Mars"}), "zone"),
        (json!({"schedulingRuleStart": "0 8 1 1 ? 2030", "schedulingRuleStop": ""}), "yet"),
    ] {
        let why = wanted(&row(fields), at("09:00:00")).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn every_difference_is_acted_on_and_every_skip_has_a_reason() {
    let pending = Observed::Towards(Power::On, "pending".to_owned());
    let stuck = Observed::Stuck("failed".to_owned());
    for (action, observed, skip) in [
        (Action::Start, Observed::Off, None),
        (Action::Stop, Observed::On, None),
        (Action::Start, Observed::On, Some("already")),
        (Action::Stop, Observed::Off, Some("already")),
        (Action::Start, pending.clone(), Some("on_its_way")),
        (Action::Stop, pending, Some("transitional")),
        (Action::Start, stuck, Some("stuck")),
        (Action::Stop, Observed::Gone, Some("gone")),
        (Action::ModClass, Observed::On, None),
        (Action::Stop, Observed::Owned("group x".to_owned()), Some("owned")),
    ] {
        let kind = match step(action, &observed, "because") {
            Step::Act(act, _) => (act != action).then_some("another"),
            Step::Skip(kind, why) => Some(kind).filter(|_| why.contains("because")),
        };
        assert_eq!(kind, skip, "{action:?} {observed:?}");
    }
}

fn over(power: &str, from: &str, until: &str) -> serde_json::Value {
    json!({"power": power, "from": at(from).as_second(), "until": at(until).as_second()})
}

#[test]
fn the_switch_back_after_an_override_is_a_transition_and_no_drift() {
    let acted = at("12:00:00").as_second();
    let held =
        json!({"override": over("OFF", "10:00:00", "12:00:00"), "lastScheduling": acted - 1});
    let back = wanted(&row(held.clone()), at("12:00:00")).unwrap();
    assert_eq!((back.power, back.since, back.acted), (Power::On, at("12:00:00"), false));
    let mut told = held;
    told["lastScheduling"] = json!(acted);
    assert!(wanted(&row(told), at("12:30:00")).unwrap().acted, "from then on it is drift");
    // Where the rule says the same, nothing is switched back; and a later rule is a transition itself.
    let same = json!({"override": over("ON", "10:00:00", "12:00:00")});
    assert_eq!(wanted(&row(same), at("12:30:00")).unwrap().since, at("08:00:00"));
    let late = json!({"override": over("ON", "18:00:00", "18:30:00")});
    assert_eq!(wanted(&row(late), at("19:00:00")).unwrap().since, at("19:00:00"));
}

#[test]
fn an_override_holds_and_ends_by_itself() {
    let row = row(json!({"override": over("ON", "18:00:00", "22:00:00")}));
    for (time, power) in
        [("18:30:00", Power::On), ("21:59:59", Power::On), ("22:00:00", Power::Off)]
    {
        assert_eq!(wanted(&row, at(time)).unwrap().power, power, "{time}");
    }
    assert!(wanted(&row, at("20:00:00")).unwrap().reason.contains("override until"));
    let plan = Plan::of(&row).unwrap();
    let changes = plan.preview(at("00:00:00"), "2026-06-02T00:00:00Z".parse().unwrap(), 9);
    let told: Vec<_> = changes.iter().map(|it| (it.transition.at, it.transition.power)).collect();
    assert_eq!(told, [(at("08:00:00"), Power::On), (at("22:00:00"), Power::Off)]);
}

#[test]
fn a_later_hand_ends_an_override_and_a_later_override_a_hand() {
    let hand = |second: &str| {
        json!({
            "override": over("ON", "18:00:00", "22:00:00"),
            "powerByHand": false, "lastByHand": at(second).as_second(),
        })
    };
    assert_eq!(wanted(&row(hand("19:30:00")), at("20:00:00")).unwrap().power, Power::Off);
    assert_eq!(wanted(&row(hand("17:30:00")), at("20:00:00")).unwrap().power, Power::On);
}

#[test]
fn a_start_comes_so_much_earlier_that_all_is_ready_by_its_time() {
    let row = row(json!({"readyBy": true, "leadSeconds": 600}));
    assert_eq!(wanted(&row, at("07:49:59")).unwrap().power, Power::Off);
    let early = wanted(&row, at("07:50:00")).unwrap();
    assert_eq!((early.power, early.since), (Power::On, at("07:50:00")));
    assert!(early.reason.contains("ready by 2026-06-01T08:00:00"), "{}", early.reason);
    // The rule's own instant is no second start.
    let plan = Plan::of(&row).unwrap();
    let day = plan.preview(at("00:00:00"), at("23:59:59"), 9);
    assert_eq!(day.len(), 2, "{day:?}");
    assert_eq!(day[0].transition.at, at("07:50:00"));
    let off = plan.seconds_off(at("00:00:00"), "2026-06-02T00:00:00Z".parse().unwrap());
    assert_eq!(off, Some(24 * 3600 - (11 * 3600 + 600)));
}

#[test]
fn a_start_is_never_over_four_hours_early_whatever_was_learned() {
    let slow = row(json!({"readyBy": true, "leadSeconds": 86_400}));
    let power = |time: &str| wanted(&slow, at(time)).unwrap().power;
    assert_eq!((power("03:59:59"), power("04:00:00")), (Power::Off, Power::On));
}

#[test]
fn a_start_that_is_to_be_ready_by_its_time_lasts_over_a_window_that_is_shorter_than_that_takes() {
    let fields = json!({
        "schedulingRuleStart": "", "schedulingRuleStop": "", "readyBy": true, "leadSeconds": 600,
        "schedulingPeriod": "daily 08:00-08:04,08:06-08:10",
    });
    let row = row(fields);
    let plan = Plan::of(&row).unwrap();
    let changes = plan.preview(at("00:00:00"), at("12:00:00"), 9);
    let told: Vec<_> = changes.iter().map(|it| (it.transition.at, it.transition.power)).collect();
    assert_eq!(told, [(at("07:50:00"), Power::On), (at("08:10:00"), Power::Off)]);
    let early = plan.wanted(at("07:57:00")).unwrap();
    assert_eq!((early.since, early.power), (at("07:50:00"), Power::On), "of the first window");
    // A hand that a rule ended stays so, although the next start began to be early before it.
    let by_hand = Some(at("07:58:00").as_second());
    let row = Scheduling { by_hand, power_by_hand: Some(false), ..row.clone() };
    let power = |time: &str| wanted(&row, at(time)).unwrap().power;
    assert_eq!((power("07:59:00"), power("08:00:00")), (Power::Off, Power::On));
    assert_eq!(power("08:05:00"), Power::On);
}

/// What the preview tells of a day, from noon on.
fn afternoon(row: &Scheduling) -> Vec<(Timestamp, Power)> {
    let plan = Plan::of(row).unwrap();
    let changes = plan.preview(at("12:00:00"), at("23:59:59"), 9);
    changes.iter().map(|it| (it.transition.at, it.transition.power)).collect()
}

#[test]
fn a_rule_that_says_the_same_again_ends_what_a_hand_asked_for_and_the_preview_tells_so() {
    let hand = json!({"powerByHand": false, "lastByHand": at("13:00:00").as_second()});
    let with = |rules: serde_json::Value| {
        let mut fields = hand.clone();
        fields.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
        row(fields)
    };
    let again = [(at("13:00:00"), Power::Off), (at("15:00:00"), Power::On)];
    let rules = with(json!({"schedulingRuleStart": "0 8,15 * * *"}));
    assert_eq!(afternoon(&rules), [&again[..], &[(at("19:00:00"), Power::Off)]].concat());
    let no_rules = json!({"schedulingRuleStart": "", "schedulingRuleStop": ""});
    for period in ["daily 00:00-15:00,15:00-24:00", "daily 00:00-24:00; daily 15:00-16:00"] {
        let mut fields = no_rules.clone();
        fields["schedulingPeriod"] = json!(period);
        assert_eq!(afternoon(&with(fields)), again, "{period}");
    }
    let off = Plan::of(&rules).unwrap().seconds_off(at("12:00:00"), at("18:00:00"));
    assert_eq!(off, Some(2 * 3600), "savings are of the same decision");
}

fn asked(action: Action, mode: Mode, service: Service) -> Asked<'static> {
    let tick = "2026-06-03T00:00:00Z".parse().unwrap();
    Asked { action, mode, service, hand: false, chosen: None, reason: "because", tick }
}

#[test]
fn what_people_started_is_left_in_the_mode_that_says_so() {
    let stopped =
        Held { acted: Some(Action::Stop), acted_at: at("01:00:00").as_second(), ..Held::default() };
    let now = at("05:00:00");
    let stop = |mode, held: &Held| {
        reconcile(asked(Action::Stop, mode, Service::Ec2), Some(held), &Observed::On, now)
    };
    let act = Step::Act(Action::Stop, "because".to_owned());
    assert_eq!(stop(Mode::Enforce, &stopped), act);
    assert!(matches!(stop(Mode::KeepStarted, &stopped), Step::Skip("by_hand", _)));
    // What the schedule itself started, and what it never touched, is the schedule's.
    let started = Held { acted: Some(Action::Start), ..stopped.clone() };
    assert_eq!(stop(Mode::KeepStarted, &started), act);
    assert_eq!(stop(Mode::KeepStarted, &Held::default()), act);
}

#[test]
fn a_tick_that_is_no_later_than_the_act_does_not_repeat_it() {
    let acted = at("01:00:00");
    let held = Held { acted: Some(Action::Start), acted_at: acted.as_second(), ..Held::default() };
    let asked = asked(Action::Start, Mode::Enforce, Service::Ec2);
    // Planned later than its own clock, as one that comes late is.
    let step = |asked, tick| {
        reconcile(Asked { tick: at(tick), ..asked }, Some(&held), &Observed::Off, at("01:00:30"))
    };
    for tick in ["00:59:30", "01:00:00"] {
        assert!(matches!(step(asked, tick), Step::Skip("under_way", _)), "{tick}");
    }
    assert!(matches!(step(asked, "01:00:01"), Step::Act(Action::Start, _)), "that is drift");
    let hand = Asked { hand: true, ..asked };
    assert!(matches!(step(hand, "01:00:00"), Step::Act(Action::Start, _)));
    let contrary = Asked { action: Action::Stop, tick: at("01:00:00"), ..asked };
    let stop = reconcile(contrary, Some(&held), &Observed::On, at("01:00:30"));
    assert!(matches!(stop, Step::Act(Action::Stop, _)), "it repeats nothing");
}

#[test]
fn a_size_is_set_while_the_last_one_is_not_reached_yet_and_nothing_else_is_switched_on_its_way() {
    let step = |service, action, towards: Power| {
        let seen = Observed::Towards(towards, "on its way".to_owned());
        reconcile(asked(action, Mode::Enforce, service), None, &seen, at("12:00:00"))
    };
    for (action, towards) in [(Action::Stop, Power::On), (Action::Start, Power::Off)] {
        for service in [Service::Group, Service::Ecs] {
            let act = Step::Act(action, "because".to_owned());
            assert_eq!(step(service, action, towards), act, "{service:?}");
        }
        for service in [Service::Ec2, Service::Rds, Service::Cluster, Service::AppStream] {
            let step = step(service, action, towards);
            assert!(matches!(step, Step::Skip("transitional", _)), "{service:?}: {step:?}");
        }
    }
}

#[test]
fn rds_that_started_by_itself_after_seven_days_is_stopped_again() {
    let days = |days: i64| Held {
        acted: Some(Action::Stop),
        acted_at: at("05:00:00").as_second() - days * 86_400,
        ..Held::default()
    };
    let stop = |held: &Held| {
        let asked = asked(Action::Stop, Mode::KeepStarted, Service::Rds);
        reconcile(asked, Some(held), &Observed::On, at("05:00:00"))
    };
    let Step::Act(Action::Stop, why) = stop(&days(7)) else { panic!("it was left") };
    assert!(why.contains("7 days"), "{why}");
    assert!(matches!(stop(&days(3)), Step::Skip("by_hand", _)));
    assert!(matches!(stop(&Held { by_hand: true, ..days(7) }), Step::Skip("by_hand", _)));
    // Nobody but RDS starts by itself what was stopped.
    let instance = asked(Action::Stop, Mode::KeepStarted, Service::Ec2);
    let left = reconcile(instance, Some(&days(7)), &Observed::On, at("05:00:00"));
    assert!(matches!(left, Step::Skip("by_hand", _)), "{left:?}");
}

#[test]
fn rds_is_stopped_again_when_it_starts_what_a_hand_stopped_and_was_seen_days_later() {
    let now = at("05:00:00").as_second();
    let held = |said: i64| Held {
        acted: Some(Action::Stop),
        acted_at: now - 4 * 86_400,
        restarts: Some(said),
        ..Held::default()
    };
    let stop = |held: &Held| {
        let asked = asked(Action::Stop, Mode::KeepStarted, Service::Cluster);
        reconcile(asked, Some(held), &Observed::On, at("05:00:00"))
    };
    assert!(matches!(stop(&held(now - 600)), Step::Act(Action::Stop, _)));
    // What is seen to run a day after it said may be anybody's.
    assert!(matches!(stop(&held(now - 86_400)), Step::Skip("by_hand", _)));
    assert!(matches!(stop(&held(now + 3 * 86_400)), Step::Skip("by_hand", _)), "before it said");
    // A hand stopped it anew since we did: seven days after us are not its seven days.
    let seven = Held { acted_at: now - 7 * 86_400, ..held(now + 86_400) };
    assert!(matches!(stop(&seven), Step::Skip("by_hand", _)));
}

#[test]
fn a_database_without_capacity_says_so() {
    let stuck = Observed::Stuck("insufficient-capacity".to_owned());
    let Step::Skip("capacity", why) = step(Action::Start, &stuck, "because") else { panic!() };
    assert!(why.contains("MODCLASS") && why.contains("because"), "{why}");
}

#[test]
fn the_override_of_a_resource_goes_before_its_schedule() {
    let over = serde_json::from_value(over("ON", "18:00:00", "22:00:00")).unwrap();
    let held = Held { over: Some(over), ..Held::default() };
    let stop = |time: &str, observed| {
        reconcile(
            asked(Action::Stop, Mode::Enforce, Service::Ec2),
            Some(&held),
            &observed,
            at(time),
        )
    };
    assert!(matches!(stop("20:00:00", Observed::Off), Step::Act(Action::Start, _)));
    assert!(matches!(stop("20:00:00", Observed::On), Step::Skip("already", _)));
    assert!(matches!(stop("17:59:59", Observed::On), Step::Skip("already", _)), "a clock behind");
    assert_eq!(stop("22:00:00", Observed::On), Step::Act(Action::Stop, "because".to_owned()));
}

#[test]
fn an_override_of_a_resource_gives_way_to_a_later_hand_and_not_to_a_later_rule() {
    let over = serde_json::from_value(over("ON", "10:00:00", "22:00:00")).unwrap();
    let held = Held { over: Some(over), ..Held::default() };
    let stop = |chosen| {
        let asked = Asked { chosen, ..asked(Action::Stop, Mode::Enforce, Service::Ec2) };
        reconcile(asked, Some(&held), &Observed::On, at("20:00:00"))
    };
    assert!(matches!(stop(None), Step::Skip("already", _)), "a rule");
    assert!(matches!(stop(Some(at("09:00:00"))), Step::Skip("already", _)), "a hand before it");
    assert_eq!(stop(Some(at("19:00:00"))), Step::Act(Action::Stop, "because".to_owned()));
}

#[test]
fn what_changes_too_often_to_be_added_up_is_not_added_up() {
    let often =
        row(json!({"schedulingRuleStart": "*/2 * * * *", "schedulingRuleStop": "1/2 * * * *"}));
    let plan = Plan::of(&often).unwrap();
    let day = "2026-06-02T00:00:00Z".parse().unwrap();
    assert_eq!(plan.seconds_off(at("00:00:00"), day), Some(12 * 3600));
    assert_eq!(plan.seconds_off(at("00:00:00"), "2028-06-01T00:00:00Z".parse().unwrap()), None);
}

proptest::proptest! {
    /// Ticking every minute does what the preview says, overrides, hands and leads included.
    #[test]
    fn the_preview_is_what_ticks_would_do(
        start in 0..24u8, stop in 0..24u8, again in 0..24u8, length in 1..12u8, windows: bool,
        hand in proptest::option::of((0..4320i64, proptest::prelude::any::<bool>())),
        over in proptest::option::of((0..4320i64, 1..2000i64, proptest::prelude::any::<bool>())),
        lead in 0..90i64, ready: bool,
    ) {
        let base = at("00:00:00");
        let minute = |m: i64| base.as_second() + m * 60;
        let mut fields = json!({
            "schedulingRuleStart": format!("10 {start},{again} * * *"), "schedulingRuleStop": format!("40 {stop} * * *"),
            "timeZone": "Europe/Berlin", "readyBy": ready, "leadSeconds": lead * 60,
        });
        if windows {
            let (until, short) = ((start + length) % 24, (again + 1) % 24);
            fields["schedulingPeriod"] = json!(format!("daily {start}:10-{until}:40,{again}:00-{short}:00"));
            fields["schedulingRuleStart"] = json!("");
            fields["schedulingRuleStop"] = json!("");
        }
        if let Some((m, on)) = hand {
            fields["lastByHand"] = json!(minute(m));
            fields["powerByHand"] = json!(on);
        }
        if let Some((m, length, on)) = over {
            let power = if on { "ON" } else { "OFF" };
            fields["override"] = json!({"power": power, "from": minute(m), "until": minute(m + length)});
        }
        let row = row(fields);
        let plan = Plan::of(&row).unwrap();
        let at = |m: i64| Timestamp::from_second(minute(m)).unwrap();
        let mut power = plan.wanted(at(-1)).ok().map(|it| it.power);
        let mut seen = Vec::new();
        for m in 0..4320 {
            let now = plan.wanted(at(m)).ok().map(|it| it.power);
            if now != power {
                seen.push((at(m), now.unwrap()));
                power = now;
            }
        }
        let preview = plan.preview(at(0), at(4320), 1000);
        let preview: Vec<_> = preview.iter().map(|it| (it.transition.at, it.transition.power)).collect();
        proptest::prop_assert_eq!(seen, preview);
    }
}
