//! What a request would write: told to who only tries it, and written by nobody.

use schedule_executor::{
    rows::{Scheduling, Settings},
    store::Said,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Schedules,
    changes::bad,
    ops::{Done, Source},
};

/// What a request did: nothing to be told, or what it would have written.
pub(super) type Came = Option<Value>;

/// The answer to who only tries.
pub(super) fn would_be(row: impl Serialize) -> Value {
    json!({ "dryRun": true, "wouldBe": row })
}

/// A schedule as it would be registered: what was done last is kept, and so are the states that the
/// request does not name.
pub(super) fn kept(new: Scheduling, old: Option<Scheduling>, said: Said) -> Scheduling {
    let Some(old) = old else {
        return Scheduling {
            last: 0,
            by_hand: None,
            hand_at: None,
            power_by_hand: None,
            over: None,
            lead: 0,
            ..new
        };
    };
    let Scheduling { last, by_hand, hand_at, power_by_hand, over, lead, .. } = old;
    let power = if said.power { new.power } else { old.power };
    let scheduled = if said.scheduled { new.scheduled } else { old.scheduled };
    Scheduling { last, by_hand, hand_at, power_by_hand, over, lead, power, scheduled, ..new }
}

/// The settings as they would be with these fields of their row.
pub(super) fn changed(settings: &Settings, fields: Map<String, Value>) -> Done<Settings> {
    let mut row = json!(settings);
    if let Some(row) = row.as_object_mut() {
        row.extend(fields);
    }
    serde_json::from_value(row).map_err(|why| bad(&why.to_string()))
}

impl Schedules {
    /// Starts or stops the whole scheduler.
    pub(super) async fn run(&self, running: bool, dry: bool) -> Done<Came> {
        if dry {
            return Ok(Some(json!({ "running": running })));
        }
        self.store.set_running(running).await?;
        Ok(None)
    }

    /// What the start or stop of one scheduler would write, where there is such a context or tag.
    pub(super) async fn would_schedule(&self, source: &Source, running: bool) -> Done<Came> {
        self.scheduling(source).await?;
        Ok(Some(json!({ "isScheduled": running })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_registered_keeps_what_was_done_last_and_nothing_that_the_request_says_of_it() {
        let row = |last: i64, rule: &str| -> Scheduling {
            let fields =
                json!({ "lastScheduling": last, "leadSeconds": last, "schedulingRuleStart": rule });
            serde_json::from_value(fields).unwrap()
        };
        let told = kept(row(7, "new"), Some(row(5, "old")), Said::default());
        assert_eq!((told.last, told.lead, told.start.as_str()), (5, 5, "new"));
        assert_eq!(kept(row(7, "new"), None, Said::default()).last, 0);
        let is_on = |power| {
            let on = Scheduling { power: true, ..row(5, "old") };
            kept(row(7, "new"), Some(on), Said { power, ..Said::default() }).power
        };
        assert_eq!((is_on(false), is_on(true)), (true, false), "what is said counts");
        let runs = |scheduled| {
            let stopped = Scheduling { scheduled: false, ..row(5, "old") };
            kept(row(7, "new"), Some(stopped), Said { scheduled, ..Said::default() }).scheduled
        };
        assert_eq!((runs(false), runs(true)), (false, true), "a stopped scheduler stays stopped");
    }

    #[test]
    fn settings_that_are_only_tried_are_those_that_there_are_with_what_would_change() {
        let now: Settings =
            serde_json::from_value(json!({ "tickSeconds": 60, "neverTouch": ["a"] })).unwrap();
        let fields = json!({ "tickSeconds": 300, "isScheduled": false });
        let would = changed(&now, fields.as_object().unwrap().clone()).unwrap();
        assert_eq!((would.period, would.running, would.never.len()), (Some(300), false, 1));
    }
}
