//! The rows of contexts, tags and resources, in the shapes of the original tables.

pub mod attrib;
mod item;
mod resources;
mod settings;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    item::{Item, from_item, json, to_item},
    resources::{ResourceRow, Resources},
    settings::Settings,
};

use crate::{
    plan::Action,
    schedule::{ClockChange, DEFAULT_ZONE, Override, Power, Schedule, ScheduleError},
};

/// The context that stands for all: asking for it lists everything, and its row is the switch of
/// the whole scheduler. No context can be registered under this name.
pub const ALL: &str = "restricted-all";

/// What contexts and tags have in common: the schedule, its switch, and what was done last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Cron rule of starts, 5 or 6 fields; may be empty.
    #[serde(rename = "schedulingRuleStart", default)]
    pub start: String,
    /// Cron rule of stops.
    #[serde(rename = "schedulingRuleStop", default)]
    pub stop: String,
    /// Periods of being on, instead of the two rules.
    #[serde(rename = "schedulingPeriod", default, skip_serializing_if = "String::is_empty")]
    pub period: String,
    /// IANA zone of the rules.
    #[serde(rename = "timeZone", default = "default_zone", deserialize_with = "zone")]
    pub zone: String,
    /// What becomes of starts and stops where the clock changes.
    #[serde(rename = "clockChange", default, skip_serializing_if = "is_default")]
    pub clock_change: ClockChange,
    /// The state it was put into last.
    #[serde(rename = "powerState", default)]
    pub power: bool,
    /// Whether its scheduler runs.
    #[serde(rename = "isScheduled", default = "yes")]
    pub scheduled: bool,
    /// When its schedule was acted on last, in seconds since 1970; 0 for never.
    #[serde(rename = "lastScheduling", default)]
    pub last: i64,
    /// When it was switched by hand last, in seconds since 1970. That counts like a rule: until
    /// the next one.
    #[serde(rename = "lastByHand", default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<i64>,
    /// The same in milliseconds: of two orders, the one that was given later counts.
    #[serde(rename = "handAt", default, skip_serializing_if = "Option::is_none")]
    pub hand_at: Option<i64>,
    /// To which state it was switched by hand.
    #[serde(rename = "powerByHand", default, skip_serializing_if = "Option::is_none")]
    pub power_by_hand: Option<bool>,
    /// A state for some time, whatever the rules say.
    #[serde(rename = "override", default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Override>,
    /// What to do with what people started by hand.
    #[serde(default, skip_serializing_if = "Mode::is_enforce")]
    pub mode: Mode,
    /// Whether all of it is only tried: looked at and written down, and nothing switched.
    #[serde(
        rename = "dryRun",
        alias = "dry_run",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub dry_run: bool,
    /// Whether starts come so much earlier that all is ready when the rule says.
    #[serde(rename = "readyBy", default, skip_serializing_if = "std::ops::Not::not")]
    pub ready_by: bool,
    /// How long it takes from the first start until all is ready, in seconds, as learned.
    #[serde(rename = "leadSeconds", default, skip_serializing_if = "is_zero")]
    pub lead: i64,
    /// An iCalendar file of the days on which no period begins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holidays: String,
}

/// What to do with what people started by hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What differs from the schedule is brought back at the next tick.
    #[default]
    Enforce,
    /// What was started after the schedule stopped it is left until the schedule starts it.
    KeepStarted,
}

impl Mode {
    fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

fn is_default(policy: &ClockChange) -> bool {
    *policy == ClockChange::default()
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn default_zone() -> String {
    DEFAULT_ZONE.to_owned()
}

/// A zone that is left empty is left out.
fn zone<'de, D: serde::Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let said = Option::<String>::deserialize(source)?;
    Ok(said.filter(|name| !name.trim().is_empty()).unwrap_or_else(default_zone))
}

fn yes() -> bool {
    true
}

impl Scheduling {
    /// The schedule that the row tells.
    ///
    /// # Errors
    /// When a rule, the period or the zone is none, or there is neither rule nor period.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        if self.period.trim().is_empty() {
            if !self.holidays.trim().is_empty() {
                let what = "holidays are for periods: say when it is on as a period";
                return Err(ScheduleError(what.to_owned()));
            }
            let rules = Schedule::rules(&self.start, &self.stop, &self.zone)?;
            return rules.with(self.clock_change);
        }
        if !self.start.is_empty() || !self.stop.is_empty() {
            let what = "there are both a period and rules: leave one of them empty";
            return Err(ScheduleError(what.to_owned()));
        }
        let periods = Schedule::periods_but(&self.period, &self.holidays, &self.zone)?;
        periods.with(self.clock_change)
    }

    /// The state, and since when, that a hand asked for.
    pub fn hand(&self) -> Option<(Power, Timestamp)> {
        let at = Timestamp::from_second(self.by_hand?).ok()?;
        Some((if self.power_by_hand? { Power::On } else { Power::Off }, at))
    }
}

/// A context: resources that are switched together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Its name, the key.
    #[serde(rename = "contextID")]
    pub id: String,
    /// What it is, for people.
    #[serde(rename = "contextDesc", default)]
    pub description: String,
    /// The order of starts: each stage is a list of kinds (`rds:instance`) or ids, and waits until
    /// the one before is ready. What no stage names comes last. Stops go in the reverse order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Vec<String>>,
    /// When it is on.
    #[serde(flatten)]
    pub scheduling: Scheduling,
}

/// The stage of a resource, from 0: the first that names its kind or its id, else the one after
/// all.
pub fn stage_of(stages: &[Vec<String>], service: Service, id: &str) -> usize {
    let named = |name: &String| name == id || Service::named(name) == Some(service);
    stages.iter().position(|stage| stage.iter().any(named)).unwrap_or(stages.len())
}

/// A tag: every resource that carries the key with one of the values is switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The tag's key, the row's too.
    #[serde(rename = "tagKey")]
    pub key: String,
    /// The values that count.
    #[serde(rename = "tagValues", default)]
    pub values: Vec<String>,
    /// What it is, for people.
    #[serde(rename = "tagDesc", default)]
    pub description: String,
    /// When it is on.
    #[serde(flatten)]
    pub scheduling: Scheduling,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Service {
    /// EC2 instances, by instance id.
    #[serde(rename = "ec2:instance", alias = "ec2")]
    Ec2,
    /// RDS instances, by identifier.
    #[serde(rename = "rds:instance", alias = "rds:db", alias = "rds")]
    Rds,
    /// AppStream fleets, by name.
    #[serde(rename = "appstream:fleet", alias = "appstream")]
    AppStream,
    /// Auto Scaling groups, by name.
    #[serde(
        rename = "autoscaling:group",
        alias = "asg",
        alias = "autoscaling",
        alias = "autoscaling:autoScalingGroup"
    )]
    Group,
    /// Aurora clusters (and other clusters of RDS), by identifier.
    #[serde(rename = "rds:cluster", alias = "aurora")]
    Cluster,
    /// ECS services, as `cluster/service`.
    #[serde(rename = "ecs:service", alias = "ecs")]
    Ecs,
}

impl Service {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Ec2, Self::Rds, Self::AppStream, Self::Group, Self::Cluster, Self::Ecs];

    /// The attribute of its list in a row of resources.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2:instance",
            Self::Rds => "rds:instance",
            Self::AppStream => "appstream:fleet",
            Self::Group => "autoscaling:group",
            Self::Cluster => "rds:cluster",
            Self::Ecs => "ecs:service",
        }
    }

    /// The kind of a name, short (`ec2`) or as in a row.
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }
}

/// What is known of a resource beside its service's own word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The key: `ec2:instance/eu-west-1/i-1`.
    #[serde(default)]
    pub resource: String,
    /// What was done to it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted: Option<Action>,
    /// When, in seconds since 1970.
    #[serde(rename = "actedAt", default)]
    pub acted_at: i64,
    /// Whether its start has not been seen to end.
    #[serde(default)]
    pub starting: bool,
    /// How long it takes from a start until it runs, in seconds, as learned.
    #[serde(rename = "leadSeconds", default)]
    pub lead: i64,
    /// Whether somebody was seen to have started it after it was stopped.
    #[serde(rename = "byHand", default)]
    pub by_hand: bool,
    /// A state for some time, whatever its schedules say.
    #[serde(rename = "override", default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Override>,
    /// The size that it had before it was stopped: `min/max/desired` of a group, the count of a
    /// service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// When its service starts it by itself, in seconds since 1970, as it said while it was stopped.
    #[serde(rename = "restartsAt", default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// Who is switching it, or did last.
    #[serde(flatten)]
    pub claim: Claim,
}

/// Who is switching a resource, or did last: of two who see the same difference, one acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The effect of whose batch it is.
    #[serde(rename = "claimedBy", default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The bulk action that this is a part of, for the reader.
    #[serde(rename = "claimedBulk", default, skip_serializing_if = "String::is_empty")]
    pub bulk: String,
    /// What is done.
    #[serde(rename = "claimedAction", default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Up to when it is under way, in milliseconds since 1970: once it is done, the time of that.
    #[serde(rename = "claimedUntil", default, skip_serializing_if = "is_zero")]
    pub until: i64,
}

impl Claim {
    /// Whether another than `by` is at it at an instant.
    pub fn bars(&self, by: &str, now: Timestamp) -> bool {
        self.by != by && self.until > now.as_millisecond()
    }
}

#[cfg(test)]
mod tests;
