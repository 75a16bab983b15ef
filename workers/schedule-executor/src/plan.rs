//! What is to be done, and why: desired against observed, without any call.

use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    rows::{Held, Mode, Scheduling, Service},
    schedule::{self, Power, Schedule, Transition},
};

/// RDS starts what was stopped for so long, in seconds: seven days, of which its clock and ours
/// may differ by an hour, and a day within which it is seen.
const STARTED_BY_ITSELF: std::ops::Range<i64> = 7 * 86_400 - 3600..8 * 86_400;
/// The longest that a start may be ahead of its rule, in seconds.
const LONGEST_LEAD: i64 = 4 * 3600;

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
    /// Since when: the instant of the rule, of the hand, or of the override. It names the
    /// transition.
    pub since: Timestamp,
    /// Whether the schedule acted on this transition already, so that now only drift is mended.
    pub acted: bool,
    /// In words.
    pub reason: String,
}

/// A context's or tag's schedule, read once and asked often.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    row: &'a Scheduling,
    schedule: Schedule,
}

/// A change of what is wanted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, and to which state.
    #[serde(flatten)]
    pub transition: Transition,
    /// The rule, the hand or the override behind it.
    pub reason: String,
}

/// What a schedule wants of its resources at an instant, or why it wants nothing.
///
/// # Errors
/// The reason, in words: no valid schedule, a stopped scheduler, or no rule yet.
pub fn wanted(row: &Scheduling, at: Timestamp) -> Result<Wanted, String> {
    if !row.scheduled {
        return Err("its scheduler is stopped".to_owned());
    }
    Plan::of(row)?.wanted(at)
}

impl<'a> Plan<'a> {
    /// Reads the schedule of a row.
    ///
    /// # Errors
    /// When the row tells none.
    pub fn of(row: &'a Scheduling) -> Result<Self, String> {
        let schedule = row.schedule().map_err(|why| format!("its schedule is none: {why}"))?;
        Ok(Self { row, schedule })
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What is wanted at an instant. An override counts while it holds; a switch by hand counts
    /// like a rule, until the next one. Of these two the later one counts.
    ///
    /// # Errors
    /// When no rule has come yet.
    pub fn wanted(&self, at: Timestamp) -> Result<Wanted, String> {
        let hand = self.row.hand().filter(|(_, since)| *since <= at);
        let latest = match (self.ruled(at), hand) {
            (Some(ruled), Some(hand)) if hand.1 > ruled.1 => Some(by_hand(hand)),
            (None, Some(hand)) => Some(by_hand(hand)),
            (ruled, _) => ruled,
        };
        let over = self.row.over.as_ref().filter(|over| over.holds(at));
        let over = over.and_then(|over| {
            Some((over.power, Timestamp::from_second(over.from).ok()?, over.describe()))
        });
        let over = over.filter(|over| hand.is_none_or(|hand| over.1 >= hand.1));
        let (power, since, reason) = over.or(latest).ok_or("no rule of it has come yet")?;
        Ok(Wanted { power, since, acted: self.row.last >= since.as_second(), reason })
    }

    /// What the rules say; a start that is to be ready by its time comes earlier.
    fn ruled(&self, at: Timestamp) -> Option<(Power, Timestamp, String)> {
        let now = self.schedule.desired(at);
        let lead = self.lead();
        if lead > 0 && now.as_ref().is_none_or(|it| it.power == Power::Off) {
            let ready = at.checked_add(SignedDuration::from_secs(lead)).ok()?;
            if let Some(soon) = self.schedule.desired(ready).filter(|it| it.power == Power::On) {
                let since = soon.since.checked_sub(SignedDuration::from_secs(lead)).ok()?;
                let (local, zone) = (soon.local, &self.row.zone);
                let reason = format!("on, to be ready by {local} {zone}: that takes {lead} s");
                return Some((Power::On, since, reason));
            }
        }
        let now = now?;
        let reason = format!("{} by the rule of {} {}", now.power, now.local, self.row.zone);
        Some((now.power, now.since, reason))
    }

    fn lead(&self) -> i64 {
        if self.row.ready_by { self.row.lead.clamp(0, LONGEST_LEAD) } else { 0 }
    }

    /// Every change of what is wanted from `from` on and before `to`, in order, at most `limit`:
    /// what ticks at every instant would do.
    pub fn preview(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Change> {
        let just_before = from.checked_sub(Span::new().nanoseconds(1)).unwrap_or(from);
        let mut power = self.wanted(just_before).ok().map(|it| it.power);
        let (mut cursor, mut changes) = (just_before, Vec::new());
        while changes.len() < limit {
            let Some(next) = self.candidate(cursor).filter(|next| *next < to) else { break };
            cursor = next;
            let Ok(want) = self.wanted(next) else { continue };
            if power != Some(want.power) {
                changes.push(self.change(next, &want));
                power = Some(want.power);
            }
        }
        changes
    }

    /// The next instant at which anything that counts may change.
    fn candidate(&self, after: Timestamp) -> Option<Timestamp> {
        let seconds = |at: i64| Timestamp::from_second(at).ok();
        let over = self.row.over.iter().flat_map(|it| [seconds(it.from), seconds(it.until)]);
        let hand = self.row.hand().map(|(_, since)| since);
        let rule = self.schedule.next(after).map(|it| it.at);
        let lead = SignedDuration::from_secs(self.lead());
        let early = after.checked_add(lead).ok().filter(|_| !lead.is_zero());
        let early = early.and_then(|it| self.schedule.next(it)?.at.checked_sub(lead).ok());
        let all = over.chain([hand, rule, early]).flatten();
        all.filter(|at| *at > after).min()
    }

    fn change(&self, at: Timestamp, want: &Wanted) -> Change {
        let ruled = self.schedule.desired(at).filter(|it| it.since == at && it.power == want.power);
        let zone = self.schedule.zone();
        let transition = Transition {
            at,
            local: at.to_zoned(zone.clone()).to_string(),
            power: want.power,
            note: ruled.and_then(|it| schedule::note(zone, it.local)),
        };
        Change { transition, reason: want.reason.clone() }
    }

    /// How much of the time from `from` to `to` nothing needs to run, in seconds: the time
    /// between the changes that [`preview`](Self::preview) tells.
    pub fn seconds_off(&self, from: Timestamp, to: Timestamp) -> i64 {
        let mut power = self.wanted(from).ok().map(|it| it.power);
        let (mut since, mut off) = (from, 0);
        for change in self.preview(from, to, usize::MAX) {
            let at = change.transition.at;
            if power == Some(Power::Off) {
                off += at.as_second() - since.as_second();
            }
            (since, power) = (at, Some(change.transition.power));
        }
        if power == Some(Power::Off) {
            off += to.as_second() - since.as_second();
        }
        off
    }
}

fn by_hand((power, since): (Power, Timestamp)) -> (Power, Timestamp, String) {
    (power, since, format!("{power} by hand at {since}"))
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
    /// Something else starts and stops it: the name of its Auto Scaling group, or its cluster.
    Owned(String),
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
            Self::Owned(_) => "owned",
            Self::Gone => "gone",
        }
    }

    /// Whether it is in a state, or will never be in it.
    pub fn settled(&self, power: Power) -> bool {
        match self {
            Self::On => power == Power::On,
            Self::Off => power == Power::Off,
            Self::Towards(..) => false,
            Self::Stuck(_) | Self::Owned(_) | Self::Gone => true,
        }
    }
}

/// What is asked of one resource, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// What to do.
    pub action: Action,
    /// The kind of resource.
    pub service: Service,
    /// What to do with what people started by hand.
    pub mode: Mode,
    /// Whether a hand asks, and not a schedule.
    pub hand: bool,
    /// Why.
    pub reason: &'a str,
}

/// What is to be done to one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this, and why.
    Act(Action, String),
    /// Do nothing; the bounded kind for metrics, and the reason.
    Skip(&'static str, String),
}

/// Decides on one resource: what is desired, what was done last, and what is observed.
pub fn reconcile(
    asked: Asked<'_>,
    held: Option<&Held>,
    observed: &Observed,
    at: Timestamp,
) -> Step {
    // A size can be set while the last one is not reached yet.
    let sized = matches!(asked.service, Service::Group | Service::Ecs);
    let observed = match observed {
        Observed::Towards(Power::On, _) if sized && asked.action == Action::Stop => &Observed::On,
        Observed::Towards(Power::Off, _) if sized && asked.action == Action::Start => {
            &Observed::Off
        }
        seen => seen,
    };
    let over = held.and_then(|held| held.over.as_ref()).filter(|over| over.holds(at));
    if let Some(over) = over.filter(|_| !asked.hand && asked.action != Action::ModClass) {
        return step(Action::towards(over.power), observed, &over.describe());
    }
    let stopped = asked.action == Action::Stop && *observed == Observed::On;
    let Some(held) = held.filter(|it| stopped && !asked.hand && it.acted == Some(Action::Stop))
    else {
        return step(asked.action, observed, asked.reason);
    };
    let managed = matches!(asked.service, Service::Rds | Service::Cluster);
    let since = at.as_second() - held.acted_at;
    if managed && !held.by_hand && STARTED_BY_ITSELF.contains(&since) {
        let why = "RDS starts by itself what was stopped for 7 days";
        return step(asked.action, observed, &format!("{}; {why}", asked.reason));
    }
    if asked.mode == Mode::KeepStarted {
        let why = "somebody started it since it was stopped, and the mode is keep-started";
        return Step::Skip("by_hand", format!("{why} ({})", asked.reason));
    }
    step(asked.action, observed, asked.reason)
}

/// Desired against observed alone.
fn step(action: Action, observed: &Observed, reason: &str) -> Step {
    let state = observed.name();
    let skip = |kind, why: String| Step::Skip(kind, format!("{why} ({reason})"));
    match (action, observed) {
        (_, Observed::Gone) => skip("gone", "there is no such resource".to_owned()),
        (_, Observed::Owned(by)) if action != Action::ModClass => {
            skip("owned", format!("{by} starts and stops it: schedule that instead"))
        }
        (Action::ModClass, _) | (Action::Start, Observed::Off) | (Action::Stop, Observed::On) => {
            Step::Act(action, reason.to_owned())
        }
        (Action::Start, Observed::On) | (Action::Stop, Observed::Off) => {
            skip("already", format!("it is {state} already"))
        }
        (Action::Start, Observed::Towards(Power::On, _))
        | (Action::Stop, Observed::Towards(Power::Off, _)) => {
            skip("on_its_way", format!("it is {state} already"))
        }
        (_, Observed::Towards(..)) => {
            skip("transitional", format!("it is {state}: the next tick looks again"))
        }
        (_, Observed::Stuck(_) | Observed::Owned(_)) => {
            skip("stuck", format!("it is {state}, which cannot be left this way"))
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
        let told: Vec<_> =
            changes.iter().map(|it| (it.transition.at, it.transition.power)).collect();
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
        assert_eq!(off, 24 * 3600 - (11 * 3600 + 600));
    }

    fn asked(action: Action, mode: Mode, service: Service) -> Asked<'static> {
        Asked { action, mode, service, hand: false, reason: "because" }
    }

    #[test]
    fn what_people_started_is_left_in_the_mode_that_says_so() {
        let stopped = Held {
            acted: Some(Action::Stop),
            acted_at: at("01:00:00").as_second(),
            ..Held::default()
        };
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
        assert_eq!(stop("22:00:00", Observed::On), Step::Act(Action::Stop, "because".to_owned()));
    }

    proptest::proptest! {
        /// Ticking every minute does what the preview says, overrides, hands and leads included.
        #[test]
        fn the_preview_is_what_ticks_would_do(
            start in 0..24u8, stop in 0..24u8, hand in proptest::option::of((0..4320i64, proptest::prelude::any::<bool>())),
            over in proptest::option::of((0..4320i64, 1..2000i64, proptest::prelude::any::<bool>())),
            lead in 0..90i64, ready: bool,
        ) {
            let base = at("00:00:00");
            let minute = |m: i64| base.as_second() + m * 60;
            let mut fields = json!({
                "schedulingRuleStart": format!("10 {start} * * *"), "schedulingRuleStop": format!("40 {stop} * * *"),
                "timeZone": "Europe/Berlin", "readyBy": ready, "leadSeconds": lead * 60,
            });
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
}
