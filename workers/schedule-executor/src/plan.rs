//! What is to be done, and why: desired against observed, without any call.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{rows::Scheduling, schedule::Power};

/// What can be done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Switch it on.
    Start,
    /// Switch it off.
    Stop,
    /// Give an RDS instance another class.
    ModClass,
}

impl Action {
    /// The action that leads to a state.
    pub fn towards(power: Power) -> Self {
        if power == Power::On { Self::Start } else { Self::Stop }
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Stop => "STOP",
            Self::ModClass => "MODCLASS",
        }
    }
}

/// A state to be reached, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// On or off.
    pub power: Power,
    /// Since when: the instant of the rule, or of the hand. It names the transition.
    pub since: Timestamp,
    /// Whether the schedule acted on this transition already, so that now only drift is mended.
    pub acted: bool,
    /// In words.
    pub reason: String,
}

/// What a schedule wants of its resources at an instant, or why it wants nothing.
///
/// A switch by hand counts like a rule: it holds until the next one.
pub fn wanted(row: &Scheduling, at: Timestamp) -> Result<Wanted, String> {
    if !row.scheduled {
        return Err("its scheduler is stopped".to_owned());
    }
    let schedule = row.schedule().map_err(|why| format!("its schedule is none: {why}"))?;
    let ruled = schedule.desired(at).map(|it| {
        let reason = format!("{} by the rule of {} {}", it.power, it.local, row.zone);
        (it.power, it.since, reason)
    });
    let hand = row.hand().filter(|(_, since)| *since <= at);
    let hand = hand.map(|(power, since)| (power, since, format!("{power} by hand at {since}")));
    let latest = match (ruled, hand) {
        (Some(ruled), Some(hand)) => Some(if hand.1 > ruled.1 { hand } else { ruled }),
        (ruled, hand) => ruled.or(hand),
    };
    let (power, since, reason) = latest.ok_or("no rule of it has come yet")?;
    Ok(Wanted { power, since, acted: row.last >= since.as_second(), reason })
}

/// What a service says of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It runs.
    On,
    /// It does not.
    Off,
    /// It is on its way to a state.
    Towards(Power, String),
    /// It is in a state from which neither start nor stop leads on.
    Stuck(String),
    /// There is no such resource.
    Gone,
}

impl Observed {
    /// In words.
    pub fn name(&self) -> &str {
        match self {
            Self::On => "running",
            Self::Off => "stopped",
            Self::Towards(_, state) | Self::Stuck(state) => state,
            Self::Gone => "gone",
        }
    }
}

/// What is to be done to one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do it.
    Act,
    /// Do nothing; the bounded kind for metrics, and the reason.
    Skip(&'static str, String),
}

/// Decides on one resource.
pub fn step(action: Action, observed: &Observed, reason: &str) -> Step {
    let state = observed.name();
    match (action, observed) {
        (_, Observed::Gone) => Step::Skip("gone", format!("there is no such resource ({reason})")),
        (Action::ModClass, _) | (Action::Start, Observed::Off) | (Action::Stop, Observed::On) => {
            Step::Act
        }
        (Action::Start, Observed::On) | (Action::Stop, Observed::Off) => {
            Step::Skip("already", format!("it is {state} already ({reason})"))
        }
        (Action::Start, Observed::Towards(Power::On, _))
        | (Action::Stop, Observed::Towards(Power::Off, _)) => {
            Step::Skip("on_its_way", format!("it is {state} already ({reason})"))
        }
        (_, Observed::Towards(..)) => {
            let why = format!("it is {state}: the next tick looks again ({reason})");
            Step::Skip("transitional", why)
        }
        (_, Observed::Stuck(_)) => {
            Step::Skip("stuck", format!("it is {state}, which cannot be left this way ({reason})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(fields: serde_json::Value) -> Scheduling {
        let mut row =
            json!({"schedulingRuleStart": "0 8 * * *", "schedulingRuleStop": "0 19 * * *"});
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
        ] {
            let kind = match step(action, &observed, "because") {
                Step::Act => None,
                Step::Skip(kind, why) => Some(kind).filter(|_| why.contains("because")),
            };
            assert_eq!(kind, skip, "{action:?} {observed:?}");
        }
    }
}
