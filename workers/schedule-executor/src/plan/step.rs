//! What is to be done to one resource: desired against observed.

use jiff::Timestamp;

use super::Action;
use crate::{
    rows::{Held, Mode, Service},
    schedule::{Override, Power},
};

/// RDS starts what was stopped for so long, in seconds: seven days, of which its clock and ours
/// may differ by an hour, and a day within which it is seen.
const STARTED_BY_ITSELF: std::ops::Range<i64> = 7 * 86_400 - 3600..8 * 86_400;
/// The same, counted from when RDS said that it would.
const AS_IT_SAID: std::ops::Range<i64> = -3600..86_400;

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
    /// Since when it is wanted, where a hand or an override of its source is behind it and no
    /// rule: an older override of the resource alone gives way to that.
    pub chosen: Option<Timestamp>,
    /// Why.
    pub reason: &'a str,
    /// The clock of the tick or order that asks: one that is no later than the act does not repeat it.
    pub tick: Timestamp,
}

/// What is to be done to one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this, and why.
    Act(Action, String),
    /// Do nothing; the bounded kind for metrics, and the reason.
    Skip(&'static str, String),
}

/// Decides on one resource at an instant: what is desired, what was done last, and what is observed.
/// What the service does not show yet is no drift: a tick that is no later than the act does not repeat
/// it.
pub fn reconcile(
    asked: Asked<'_>,
    held: Option<&Held>,
    observed: &Observed,
    at: Timestamp,
) -> Step {
    let step = decided(asked, held, observed, at);
    let Step::Act(action, reason) = &step else { return step };
    let done = held.filter(|it| it.acted == Some(*action) && asked.tick.as_second() <= it.acted_at);
    match done.filter(|_| !asked.hand) {
        Some(held) => {
            let at = Timestamp::from_second(held.acted_at).unwrap_or(at);
            let why = format!("it was asked to {} at {at}", action.name());
            Step::Skip("under_way", format!("{why}, and this tick is no later ({reason})"))
        }
        None => step,
    }
}

fn decided(asked: Asked<'_>, held: Option<&Held>, observed: &Observed, at: Timestamp) -> Step {
    // A size can be set while the last one is not reached yet.
    let sized = matches!(asked.service, Service::Group | Service::Ecs);
    let observed = match observed {
        Observed::Towards(Power::On, _) if sized && asked.action == Action::Stop => &Observed::On,
        Observed::Towards(Power::Off, _) if sized && asked.action == Action::Start => {
            &Observed::Off
        }
        seen => seen,
    };
    if let Some(over) = overriding(asked, held, at) {
        return step(Action::towards(over.power), observed, &over.describe());
    }
    let stopped = asked.action == Action::Stop && *observed == Observed::On;
    let Some(held) = held.filter(|it| stopped && !asked.hand && it.acted == Some(Action::Stop))
    else {
        return step(asked.action, observed, asked.reason);
    };
    let managed = matches!(asked.service, Service::Rds | Service::Cluster);
    if managed && !held.by_hand && restarted(held, at) {
        let why = "RDS starts by itself what was stopped for 7 days";
        return step(asked.action, observed, &format!("{}; {why}", asked.reason));
    }
    if asked.mode == Mode::KeepStarted {
        let why = "somebody started it since it was stopped, and the mode is keep-started";
        return Step::Skip("by_hand", format!("{why} ({})", asked.reason));
    }
    step(asked.action, observed, asked.reason)
}

/// The override of the resource alone, where that decides and not its source.
pub fn overriding<'a>(
    asked: Asked<'_>,
    held: Option<&'a Held>,
    at: Timestamp,
) -> Option<&'a Override> {
    // One that begins is set at that moment: a clock that is behind it is no reason to leave it out.
    let over = held.and_then(|held| held.over.as_ref()).filter(|over| over.is_left(at));
    let over = over.filter(|over| asked.chosen.is_none_or(|since| since.as_second() <= over.from));
    over.filter(|_| !asked.hand && asked.action != Action::ModClass)
}

/// Whether RDS started by itself what was stopped: at the time that it said while it was, whoever stopped
/// it; where it never said, seven days after we did.
fn restarted(held: &Held, at: Timestamp) -> bool {
    match held.restarts {
        Some(said) => AS_IT_SAID.contains(&(at.as_second() - said)),
        None => STARTED_BY_ITSELF.contains(&(at.as_second() - held.acted_at)),
    }
}

/// Desired against observed alone.
pub(super) fn step(action: Action, observed: &Observed, reason: &str) -> Step {
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
        (_, Observed::Stuck(state)) if state == "insufficient-capacity" => {
            let advice =
                "there is none for its class now: give it another by MODCLASS, or ask for it";
            skip("capacity", format!("it is {state}: {advice}"))
        }
        (_, Observed::Stuck(_) | Observed::Owned(_)) => {
            skip("stuck", format!("it is {state}, which cannot be left this way"))
        }
    }
}
