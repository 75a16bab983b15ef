//! The rows of contexts, tags and resources, in the shapes of the original tables.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};

use crate::{
    plan::Action,
    schedule::{Override, Power, Schedule, ScheduleError},
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
    #[serde(rename = "timeZone", default = "utc")]
    pub zone: String,
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
    #[serde(rename = "dryRun", default, skip_serializing_if = "std::ops::Not::not")]
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

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn utc() -> String {
    "UTC".to_owned()
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
            return Schedule::rules(&self.start, &self.stop, &self.zone);
        }
        if !self.start.is_empty() || !self.stop.is_empty() {
            let what = "there are both a period and rules: leave one of them empty";
            return Err(ScheduleError(what.to_owned()));
        }
        Schedule::periods_but(&self.period, &self.holidays, &self.zone)
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

/// The resources of one kind in a context: three lists of equal lengths, in a row as the text of
/// their JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Ids or ARNs.
    pub id: Vec<String>,
    /// Whether each takes part.
    #[serde(rename = "isScheduled", default)]
    pub scheduled: Vec<bool>,
    /// What else is known of each; empty for nothing.
    #[serde(default)]
    pub attrib: Vec<String>,
}

impl Resources {
    /// Reads the lists from JSON: an object of the three, its text, or a plain list of ids.
    /// Lists that are left out are filled.
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut found: Self = match value {
            Value::String(text) => return Self::from_json(&serde_json::from_str(text).ok()?),
            Value::Array(_) => {
                Self { id: serde_json::from_value(value.clone()).ok()?, ..Self::default() }
            }
            _ => serde_json::from_value(value.clone()).ok()?,
        };
        let count = found.id.len();
        if found.scheduled.is_empty() {
            found.scheduled = vec![true; count];
        }
        if found.attrib.is_empty() {
            found.attrib = vec![String::new(); count];
        }
        let equal = found.scheduled.len() == count && found.attrib.len() == count;
        (equal && found.id.iter().all(|id| !id.trim().is_empty())).then_some(found)
    }

    /// Adds a resource, or changes what is known of it.
    pub fn add(&mut self, id: &str, scheduled: bool, attrib: &str) {
        self.remove(id);
        self.id.push(id.to_owned());
        self.scheduled.push(scheduled);
        self.attrib.push(attrib.to_owned());
    }

    /// Takes a resource out. False when it was not in.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(index) = self.id.iter().position(|it| it == id) else {
            return false;
        };
        self.id.remove(index);
        self.scheduled.remove(index);
        self.attrib.remove(index);
        true
    }
}

/// The resources of a context, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceRow {
    /// The context.
    pub context: String,
    /// The lists.
    pub lists: Vec<(Service, Resources)>,
}

impl ResourceRow {
    /// Reads the resources of a registration: JSON, or its text, of an object from kind to
    /// [`Resources`], or a list of ARNs.
    pub fn from_json(context: &str, value: &Value) -> Option<Self> {
        let mut row = Self { context: context.to_owned(), lists: Vec::new() };
        match value {
            Value::Null => Some(row),
            Value::String(text) if text.trim().is_empty() => Some(row),
            Value::String(text) => Self::from_json(context, &serde_json::from_str(text).ok()?),
            Value::Array(arns) => {
                for arn in arns {
                    let arn = arn.as_str()?;
                    row.list(crate::arn::Arn::parse(arn)?.service()?).add(arn, true, "");
                }
                Some(row)
            }
            Value::Object(kinds) => {
                for (kind, list) in kinds.iter().filter(|(kind, _)| *kind != "contextID") {
                    *row.list(Service::named(kind)?) = Resources::from_json(list)?;
                }
                Some(row)
            }
            _ => None,
        }
    }

    /// The list of a kind, empty where there was none.
    pub fn list(&mut self, service: Service) -> &mut Resources {
        let index = match self.lists.iter().position(|(it, _)| *it == service) {
            Some(index) => index,
            None => {
                self.lists.push((service, Resources::default()));
                self.lists.len() - 1
            }
        };
        &mut self.lists[index].1
    }

    /// The row as the original had it: each list as the text of its JSON.
    pub fn to_json(&self) -> Value {
        let mut row = Map::from_iter([("contextID".to_owned(), Value::from(&*self.context))]);
        for (service, list) in &self.lists {
            let text = serde_json::to_string(list).unwrap_or_default();
            row.insert(service.name().to_owned(), Value::String(text));
        }
        Value::Object(row)
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
}

/// The settings of the scheduler as a whole, in the row of [`ALL`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it runs: it does until it is stopped.
    #[serde(rename = "isScheduled", default = "yes")]
    pub running: bool,
    /// How many seconds lie between two ticks that count; every one counts where it is not set.
    #[serde(rename = "tickSeconds", default, skip_serializing_if = "Option::is_none")]
    pub period: Option<i64>,
    /// The last tick that counted, in seconds since 1970.
    #[serde(rename = "lastTick", default)]
    pub last_tick: i64,
    /// Ids, ARNs or keys of resources that nothing may switch; `*` stands for any text.
    #[serde(rename = "neverTouch", default)]
    pub never: Vec<String>,
    /// Dollars an hour, by id, by key (`ec2:instance/eu-west-1/i-1`) or by kind (`ec2:instance`).
    #[serde(default)]
    pub prices: HashMap<String, f64>,
}

impl Settings {
    /// Whether a tick counts by the period: one in each span of it. A clock that was set back by
    /// over a period is believed.
    pub fn is_due(&self, tick: Timestamp) -> bool {
        let Some(period) = self.period.filter(|period| *period > 0) else { return true };
        let tick = tick.as_second();
        tick.div_euclid(period) > self.last_tick.div_euclid(period)
            || tick < self.last_tick - period
    }

    /// The entry of the never-touch list that a resource falls under.
    pub fn never_touched(&self, key: &str, id: &str, named: &str) -> Option<&str> {
        let found = self.never.iter().find(|it| [key, id, named].iter().any(|text| glob(it, text)));
        found.map(String::as_str)
    }

    /// What an hour of a resource costs, by the most exact entry.
    pub fn price(&self, service: Service, key: &str, id: &str) -> Option<f64> {
        [key, id, service.name()].iter().find_map(|name| self.prices.get(*name)).copied()
    }
}

/// Whether a text is that of a pattern in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(tail)
}

/// A DynamoDB item.
pub type Item = HashMap<String, Attr>;

/// A row as an item.
pub fn to_item(row: &impl Serialize) -> Item {
    match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
        }
        _ => Item::new(),
    }
}

/// An item as a row; `None` where it is no such row.
pub fn from_item<T: DeserializeOwned>(item: &Item) -> Option<T> {
    serde_json::from_value(json(item)).ok()
}

/// An item as JSON.
pub fn json(item: &Item) -> Value {
    item.iter().map(|(name, attr)| (name.clone(), value(attr))).collect::<Map<_, _>>().into()
}

fn attribute(value: &Value) -> Attr {
    match value {
        Value::Null => Attr::Null(true),
        Value::Bool(it) => Attr::Bool(*it),
        Value::Number(it) => Attr::N(it.to_string()),
        Value::String(it) => Attr::S(it.clone()),
        Value::Array(it) => Attr::L(it.iter().map(attribute).collect()),
        Value::Object(it) => Attr::M(it.iter().map(|(k, v)| (k.clone(), attribute(v))).collect()),
    }
}

fn value(attr: &Attr) -> Value {
    match attr {
        Attr::Bool(it) => Value::Bool(*it),
        Attr::N(it) => it.parse::<Number>().map_or(Value::Null, Value::Number),
        Attr::S(it) => Value::String(it.clone()),
        Attr::L(it) => it.iter().map(value).collect(),
        Attr::Ss(it) => it.iter().cloned().map(Value::String).collect(),
        Attr::M(it) => it.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_survives_the_way_through_an_item() {
        let row = json!({
            "contextID": "web", "contextDesc": "d", "schedulingRuleStart": "0 8 * * *",
            "schedulingRuleStop": "0 19 * * *", "timeZone": "UTC", "powerState": true,
            "isScheduled": false, "lastScheduling": 1_767_000_000,
        });
        let context: Context = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(json(&to_item(&context)), row);
        assert_eq!(from_item::<Context>(&to_item(&context)), Some(context));
    }

    #[test]
    fn resources_are_read_in_every_shape_they_come_in() {
        let full = json!({"id": ["i-1"], "isScheduled": [true], "attrib": [""]});
        for shape in [full.clone(), json!(full.to_string()), json!(["i-1"]), json!({"id": ["i-1"]})]
        {
            let row = json!({ "ec2:instance": shape });
            for row in [row.clone(), json!(row.to_string())] {
                let found = ResourceRow::from_json("c", &row).unwrap();
                let list = r#"{"id":["i-1"],"isScheduled":[true],"attrib":[""]}"#;
                let text = json!({"contextID": "c", "ec2:instance": list});
                assert_eq!(found.to_json(), text);
            }
        }
        for bad in [
            json!({"ec2:instance": {"id": ["i-1"], "isScheduled": [true, false]}}),
            json!({"s3:bucket": ["b"]}),
            json!("{"),
            json!(7),
            json!({"ec2:instance": [""]}),
            json!(["i-1"]),
        ] {
            assert_eq!(ResourceRow::from_json("c", &bad), None, "{bad}");
        }
    }

    #[test]
    fn a_resource_is_added_once_and_removed() {
        let mut list = Resources::default();
        list.add("a", true, "");
        list.add("b", true, "");
        list.add("a", false, "x");
        assert_eq!(
            (list.id.clone(), list.scheduled.clone()),
            (vec!["b".into(), "a".into()], vec![true, false])
        );
        assert!(list.remove("b") && !list.remove("b"));
        assert_eq!(list.attrib, ["x"]);
    }

    #[test]
    fn one_tick_in_each_period_counts() {
        let mut settings = Settings { period: Some(300), ..Settings::default() };
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(settings.is_due(at(1_000)));
        settings.last_tick = 1_000;
        assert!(!settings.is_due(at(1_000)) && !settings.is_due(at(1_199)));
        assert!(settings.is_due(at(1_200)));
        assert!(!settings.is_due(at(900)) && settings.is_due(at(600)));
        settings.period = None;
        assert!(settings.is_due(at(1_000)));
    }

    #[test]
    fn the_never_touch_list_knows_ids_keys_and_stars() {
        let never = ["i-1", "rds:*", "*/eu-west-1/*", "a*b*c"].map(str::to_owned).to_vec();
        let settings = Settings { never, ..Settings::default() };
        let hit = |key: &str, id: &str| settings.never_touched(key, id, id);
        assert_eq!(hit("ec2:instance/r/i-1", "i-1"), Some("i-1"));
        assert_eq!(hit("ec2:instance/r/i-12", "i-12"), None);
        assert_eq!(hit("rds:instance/r/db", "db"), Some("rds:*"));
        assert_eq!(hit("ec2:instance/eu-west-1/i-9", "i-9"), Some("*/eu-west-1/*"));
        assert_eq!(hit("k", "a-b-c"), Some("a*b*c"));
        assert_eq!(hit("k", "a-c"), None);
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_of_a_text_with_stars_for_parts_of_it_fits(text in "[a-z/]{0,12}", cuts in proptest::collection::vec(0..12usize, 0..4)) {
            let mut pattern: Vec<char> = text.chars().collect();
            for cut in cuts {
                if cut < pattern.len() { pattern[cut] = '*'; }
            }
            let pattern: String = pattern.into_iter().collect();
            proptest::prop_assert!(glob(&pattern, &text));
        }
    }
}
