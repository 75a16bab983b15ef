//! A resource of a batch, with what is known of it and what is to be done.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    handlers::{Refusal, Seen, Subject},
    message::{Batch, BatchItem, UNDO},
    plan::{Action, Asked, Observed, Step, overriding, reconcile},
    rows::Held,
    schedule::Override,
};

/// A resource of a batch.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) item: &'a BatchItem,
    pub(super) key: String,
    pub(super) seen: Seen,
    pub(super) held: Option<&'a Held>,
    /// Its own override, where that decides.
    pub(super) over: Option<&'a Override>,
    pub(super) step: Step,
}

pub(super) fn cases<'a>(
    batch: &'a Batch,
    keys: Vec<String>,
    observed: &HashMap<String, Seen>,
    held: &'a HashMap<String, Held>,
) -> Vec<Case<'a>> {
    let case = |(item, key): (&'a BatchItem, String)| {
        let seen = observed.get(&item.id).cloned().unwrap_or_else(|| Observed::Gone.into());
        let held = held.get(&key);
        if let Some(step) = has_class(batch, item, &seen) {
            return Case { item, key, seen, held, over: None, step };
        }
        let asked = asked(batch, item);
        let step = reconcile(asked, held, &seen.state, batch.at());
        let over = overriding(asked, held, batch.at());
        Case { item, key, seen, held, over, step }
    };
    batch.items.iter().zip(keys).map(case).collect()
}

/// What a batch asks of one of its resources.
fn asked<'a>(batch: &Batch, item: &'a BatchItem) -> Asked<'a> {
    Asked {
        action: batch.action,
        service: batch.service,
        mode: batch.mode,
        hand: batch.actor == "hand",
        chosen: item.chosen.then_some(item.since),
        reason: &item.reason,
        tick: batch.tick,
    }
}

/// Whether a resource's own override keeps it in the other state than its context's batch brings it to.
pub(super) fn is_held_back(batch: &Batch, held: &Held) -> bool {
    let asked = batch.items.first().map(|item| asked(batch, item));
    let over = asked.and_then(|asked| overriding(asked, Some(held), batch.at()));
    over.is_some_and(|over| Action::towards(over.power) != batch.action)
}

/// A class that it has already is no change, which an undo would bring back.
fn has_class(batch: &Batch, item: &BatchItem, seen: &Seen) -> Option<Step> {
    let class = seen.class.as_ref().filter(|class| **class == item.attrib)?;
    let why = || format!("its class is {class} already ({})", item.reason);
    (batch.action == Action::ModClass).then(|| Step::Skip("already", why()))
}

impl Case<'_> {
    /// What was seen of it before an action, as the audit tells it: its state, or its class where that is
    /// changed.
    pub(super) fn before(&self, action: Action) -> &str {
        let class = self.seen.class.as_deref().filter(|_| action == Action::ModClass);
        class.unwrap_or_else(|| self.seen.state.name())
    }

    /// What is wanted of it: what its own override says, where that decides, else what its batch does.
    pub(super) fn wanted(&self, batch: &Batch) -> Action {
        self.over.map_or(batch.action, |over| Action::towards(over.power))
    }

    pub(super) fn subject(&self) -> Subject {
        let size = self.held.and_then(|held| held.size.clone());
        Subject { id: self.item.id.clone(), attrib: self.item.attrib.clone(), size }
    }

    /// What is to be kept of it: what is remembered, and that nobody is at it any more.
    pub(super) fn note(
        &self,
        (batch, by): (&Batch, &str),
        outcome: Option<&Result<String, Refusal>>,
    ) -> Option<Value> {
        let note = self.remembered(batch, outcome);
        let now = Timestamp::now();
        if !self.is_claimed(by, now) {
            return note;
        }
        let mut note = note.unwrap_or_else(|| json!({}));
        note["claimedUntil"] = json!(now.as_millisecond());
        Some(note)
    }

    /// What was done last, by whom, and how long a start took; and that an older override of it is
    /// over, where a hand asked for something else since.
    fn remembered(
        &self,
        batch: &Batch,
        outcome: Option<&Result<String, Refusal>>,
    ) -> Option<Value> {
        let note = self.course(batch, outcome);
        let over = self.held.and_then(|held| held.over.as_ref());
        // The override that an undo begins is of its own second.
        let before = batch.tick.as_second() + i64::from(!batch.bulk.starts_with(UNDO));
        let older = over.is_some_and(|over| over.from < before);
        let by_hand = batch.actor == "hand" && batch.action != Action::ModClass;
        if !(older && by_hand) || matches!(outcome, Some(Err(_))) {
            return note;
        }
        let mut note = note.unwrap_or_else(|| json!({}));
        note["override"] = Value::Null;
        Some(note)
    }

    /// When its service will start it by itself: whoever stopped it, and whenever. It was stopped anew
    /// where that is another time than before.
    fn with_restart(&self, note: Option<Value>) -> Option<Value> {
        let known = self.held.and_then(|held| held.restarts);
        let Some(at) = self.seen.restarts.filter(|at| known != Some(*at)) else { return note };
        let mut note = note.unwrap_or_else(|| json!({}));
        note["restartsAt"] = json!(at);
        note["byHand"] = json!(false);
        Some(note)
    }

    fn course(&self, batch: &Batch, outcome: Option<&Result<String, Refusal>>) -> Option<Value> {
        let now = batch.at().as_second();
        let held = self.held;
        match (&self.step, outcome) {
            _ if batch.action == Action::ModClass => None,
            (Step::Act(action, _), Some(Ok(_))) => {
                let mut note = json!({
                    "acted": action, "actedAt": now, "starting": *action == Action::Start,
                    "byHand": false,
                });
                if held.is_some_and(|held| held.restarts.is_some()) {
                    note["restartsAt"] = Value::Null;
                }
                Some(note)
            }
            (Step::Skip("by_hand", _), _) => {
                held.is_some_and(|it| !it.by_hand).then(|| json!({ "byHand": true }))
            }
            (Step::Skip("already" | "on_its_way", _), _) => {
                let on = self.seen.state == Observed::On;
                if let Some(held) = held.filter(|it| it.starting && on) {
                    let lead = learned(held.lead, now - held.acted_at);
                    return Some(json!({ "starting": false, "leadSeconds": lead }));
                }
                // Somebody else brought it there: from now on it is as if the schedule had.
                let action = if on { Action::Start } else { Action::Stop };
                let settled = matches!(self.seen.state, Observed::On | Observed::Off);
                let new = settled && held.and_then(|it| it.acted) != Some(action);
                let note = new.then(|| json!({ "acted": action, "actedAt": now, "byHand": false }));
                self.with_restart(note)
            }
            _ => None,
        }
    }
}

/// A longer start counts at once, a shorter one by a quarter: to be ready late costs more than to
/// be ready early.
fn learned(before: i64, now: i64) -> i64 {
    if now >= before { now } else { before - (before - now) / 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_stopped_database_starts_by_itself_is_kept_once_and_forgotten_at_the_next_act() {
        let batch: Batch = serde_json::from_value(json!({
            "account": "", "region": "r", "service": "rds:instance", "action": "STOP",
            "tick": "2026-06-04T12:00:00Z", "actor": "schedule", "occasion": "o",
            "items": [{"id": "db", "source": "context/a", "since": "2026-06-01T12:00:00Z", "reason": ""}],
        }))
        .unwrap();
        let step = || Step::Skip("already", String::new());
        let note = |held: Option<&Held>, step, outcome| {
            let seen = Seen { restarts: Some(1_780_900_000), ..Observed::Off.into() };
            let (item, key) = (&batch.items[0], String::new());
            let case = Case { item, key, seen, held, over: None, step };
            case.course(&batch, outcome)
        };
        let stopped = Held { acted: Some(Action::Stop), by_hand: true, ..Held::default() };
        let kept = note(Some(&stopped), step(), None).unwrap();
        assert_eq!(kept, json!({ "restartsAt": 1_780_900_000, "byHand": false }));
        let known = Held { restarts: Some(1_780_900_000), ..stopped };
        assert_eq!(note(Some(&known), step(), None), None);
        let act = Step::Act(Action::Stop, String::new());
        let acted = note(Some(&known), act, Some(&Ok(String::new()))).unwrap();
        assert_eq!(acted["restartsAt"], Value::Null);
    }

    #[test]
    fn what_its_own_override_keeps_as_it_is_makes_no_stage_wait() {
        let batch = |actor: &str, chosen: bool| -> Batch {
            serde_json::from_value(json!({
                "account": "", "region": "r", "service": "ec2:instance", "action": "START",
                "tick": "2026-06-01T08:00:00Z", "actor": actor, "occasion": "o",
                "items": [{"id": "i-1", "source": "context/a", "since": "2026-06-01T08:00:00Z",
                    "chosen": chosen, "reason": ""}],
            }))
            .unwrap()
        };
        let over = |power: &str, until: i64| -> Held {
            let over = json!({ "power": power, "from": 1_780_000_000, "until": until });
            serde_json::from_value(json!({ "override": over })).unwrap()
        };
        let (tomorrow, past) = (1_780_400_000, 1_780_290_000);
        let tick = batch("schedule", false);
        assert!(is_held_back(&tick, &over("OFF", tomorrow)));
        assert!(!is_held_back(&tick, &over("ON", tomorrow)), "it is brought there itself");
        assert!(!is_held_back(&tick, &over("OFF", past)) && !is_held_back(&tick, &Held::default()));
        let later = [batch("hand", false), batch("schedule", true)];
        assert!(later.iter().all(|batch| !is_held_back(batch, &over("OFF", tomorrow))));
    }

    #[test]
    fn what_its_own_override_leaves_as_it_is_is_told_of_the_action_of_that_override() {
        let batch: Batch = serde_json::from_value(json!({
            "account": "", "region": "r", "service": "ec2:instance", "action": "START",
            "tick": "2026-06-01T08:00:00Z", "actor": "schedule", "occasion": "o",
            "items": [{"id": "i-1", "source": "context/a", "since": "2026-06-01T08:00:00Z",
                "reason": ""}],
        }))
        .unwrap();
        let row = |power: &str, state: Observed| {
            let over = json!({ "power": power, "from": 1_780_000_000, "until": 1_780_400_000 });
            let held: Held = serde_json::from_value(json!({ "override": over })).unwrap();
            let (seen, held) =
                ([("i-1".to_owned(), state.into())].into(), [("k".to_owned(), held)].into());
            let case = cases(&batch, vec!["k".to_owned()], &seen, &held).remove(0);
            let row = case.signed(case.left(&batch).unwrap());
            (row.action, row.actor, row.kind)
        };
        let already = |action: &str| (action.to_owned(), "override".to_owned(), "already");
        assert_eq!(row("OFF", Observed::Off), already("STOP"));
        assert_eq!(row("ON", Observed::On), already("START"));
    }

    fn of_database(actor: &str, bulk: &str, action: &str) -> Batch {
        serde_json::from_value(json!({
            "account": "", "region": "r", "service": "rds:instance", "action": action,
            "tick": "2026-06-01T12:00:00Z", "actor": actor, "bulk": bulk, "occasion": "o",
            "items": [{"id": "db", "source": "context/a", "since": "2026-06-01T12:00:00Z",
                "reason": "", "attrib": "db.t3.large"}],
        }))
        .unwrap()
    }

    #[test]
    fn a_class_that_it_has_already_is_not_asked_for_again() {
        let batch = of_database("hand", "b", "MODCLASS");
        let step = |class: &str| {
            let seen = Seen { class: Some(class.to_owned()), ..Observed::On.into() };
            let (seen, held) = ([("db".to_owned(), seen)].into(), HashMap::new());
            cases(&batch, vec!["k".to_owned()], &seen, &held).remove(0).step
        };
        assert!(matches!(step("db.t3.large"), Step::Skip("already", _)));
        assert!(matches!(step("db.t3.micro"), Step::Act(Action::ModClass, _)));
    }

    #[test]
    fn a_change_of_class_is_neither_a_start_nor_a_stop_nor_the_end_of_an_override() {
        let over = serde_json::from_value(json!({"power": "ON", "from": 1, "until": 2})).unwrap();
        let held = Held { acted: Some(Action::Stop), over: Some(over), ..Held::default() };
        let batch = of_database("hand", "b", "MODCLASS");
        let (item, key) = (&batch.items[0], String::new());
        let step = Step::Act(Action::ModClass, String::new());
        let seen = Observed::On.into();
        let case = Case { item, key, seen, held: Some(&held), over: None, step };
        assert_eq!(case.remembered(&batch, Some(&Ok(String::new()))), None);
    }

    #[test]
    fn an_order_ends_an_override_of_its_resource_that_is_no_younger_unless_it_fails() {
        let tick: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let ends = |batch: &Batch, from: i64, outcome: &Result<String, Refusal>| {
            let over = json!({"power": "ON", "from": tick.as_second() + from, "until": i64::MAX});
            let over = serde_json::from_value(over).unwrap();
            let held = Held { over: Some(over), ..Held::default() };
            let (item, key) = (&batch.items[0], String::new());
            let step = Step::Act(Action::Stop, String::new());
            let seen = Observed::On.into();
            let case = Case { item, key, seen, held: Some(&held), over: None, step };
            let note = case.remembered(batch, Some(outcome)).unwrap_or_default();
            note.get("override") == Some(&Value::Null)
        };
        let (order, done) = (of_database("hand", "b", "STOP"), Ok(String::new()));
        let looks = [-1, 0, 1].map(|from| ends(&order, from, &done));
        assert_eq!(looks, [true, true, false]);
        assert!(!ends(&order, -1, &Err(Refusal::under_way("k", "w"))), "it failed");
        assert!(!ends(&of_database("schedule", "b", "STOP"), -1, &done), "no hand");
        // The override that an undo begins is of its own second.
        let undo = of_database("hand", "undo 7", "STOP");
        assert_eq!([-1, 0].map(|from| ends(&undo, from, &done)), [true, false]);
    }

    #[test]
    fn a_longer_start_is_learned_at_once_and_a_shorter_one_by_and_by() {
        assert_eq!(learned(0, 240), 240);
        assert_eq!(learned(240, 300), 300);
        assert_eq!(learned(240, 120), 210);
    }
}
