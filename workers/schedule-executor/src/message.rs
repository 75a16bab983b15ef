//! What arrives on the queue: ticks, orders by hand, and the worker's own batches.

mod schema;

use flotilla_runtime::once::Once;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::schema::schema;
use crate::{
    arn::{Target, region, short},
    plan::Action,
    rows::{Mode, Service},
};

/// The largest number of resources in a batch: a filter of EC2 takes as many, and its message is
/// far from the limit of SQS.
pub const BATCH: usize = 200;
/// What EventBridge Scheduler replaces by the time; an endpoint that only plays its part does not.
const PLACEHOLDER: &str = "<aws.scheduler.scheduled-time>";

/// What the names of the bulk actions begin with that undo another.
pub const UNDO: &str = "undo ";
/// How far the clock of who gives an order may be ahead of the queue's.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// A message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Once")]
pub enum Message {
    /// Time to look.
    Tick(Tick),
    /// Bring back what the last bulk action changed.
    Undo(Undo),
    /// An order by hand.
    Hand(Order),
    /// A part of a tick or an order.
    Batch(Batch),
}

/// Time to look: an event of EventBridge, of which only `time` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The clock; the time of sending where the message does not tell.
    pub time: Option<Timestamp>,
    /// Whether it counts whatever period is set: something was changed by hand.
    pub forced: bool,
    /// Whether nothing is to be switched.
    pub dry_run: bool,
}

/// Bring back what a bulk action changed, until the next rule of each schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Which one; the last by default.
    pub bulk: Option<String>,
    /// Whether nothing is to be switched.
    pub dry_run: bool,
}

/// Do this to those.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to do.
    pub action: Action,
    /// Whether it is only tried: looked at and written down.
    #[serde(
        default,
        rename = "dry_run",
        alias = "dryRun",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub dry_run: bool,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// To the resources of this context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// To the resources that carry this registered tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// To resources of this kind, which `ids` name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Ids or ARNs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// The region of ids that are no ARNs; the worker's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The new class, for MODCLASS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attrib: Option<String>,
    /// When it was given; when it was sent, where it does not tell. An order that is overtaken by
    /// a later one does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Resources of one account, region and kind, to which the same is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The account; empty for the worker's own.
    pub account: String,
    /// The region.
    pub region: String,
    /// The kind.
    pub service: Service,
    /// What to do.
    pub action: Action,
    /// The clock of the tick, or of the order.
    pub tick: Timestamp,
    /// The instant that it was planned for, where that is another: a tick comes late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who wants it: `schedule` or `hand`.
    pub actor: String,
    /// Which bulk action it is a part of: the order's message, or the tick.
    #[serde(default)]
    pub bulk: String,
    /// Whether nothing is to be switched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What to do with what people started by hand.
    #[serde(default)]
    pub mode: Mode,
    /// Which stages of a context must be ready before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What makes two batches of the same resources two effects: the transition for the first
    /// act on it, the tick when drift is mended, the name of an order.
    pub occasion: String,
    /// How often it was sent again because its stage had to wait: of an order, which no tick
    /// repeats, or of a tick that the next one is far from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turn: u32,
    /// For how many seconds it had waited when it was sent again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited: u32,
    /// The resources.
    pub items: Vec<BatchItem>,
}

impl Batch {
    /// The instant that it was planned for: overrides and hands of that time count.
    pub fn at(&self) -> Timestamp {
        self.at.unwrap_or(self.tick)
    }

    /// The same of which as much has passed since as it has waited, and `more`.
    pub fn at_after(&self, more: SignedDuration) -> Timestamp {
        let waited = more.saturating_add(SignedDuration::from_secs(self.waited.into()));
        self.at().saturating_add(waited).unwrap_or(Timestamp::MAX)
    }
}

/// A stage of a context, which waits for those before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gate {
    /// The context.
    pub context: String,
    /// The number of the stage, from 0; stops go from the last to the first.
    pub stage: usize,
    /// The bulk action that is undone: only what that changed is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
}

/// One resource of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchItem {
    /// The id within the service.
    pub id: String,
    /// Whose resource it is: `context/web`, `tag/env`, or `ids`.
    pub source: String,
    /// Since when this is wanted.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// Whether a hand or an override asks for it, and no rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
    /// Who asked for the override of its source that is behind it; none where no override is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The new class for MODCLASS; else what the context says of it, such as `hibernate`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attrib: String,
}

impl BatchItem {
    /// The whole name of the resource.
    pub fn target(&self, batch: &Batch) -> Target {
        Target {
            account: batch.account.clone(),
            region: batch.region.clone(),
            service: batch.service,
            id: self.id.clone(),
        }
    }
}

impl TryFrom<Once> for Message {
    type Error = String;

    fn try_from(message: Once) -> Result<Self, String> {
        message.value.try_into()
    }
}

impl TryFrom<Value> for Message {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let read = |what: &str, e: serde_json::Error| format!("{what}: {e}");
        if let Some(batch) = value.get("batch") {
            return Batch::deserialize(batch).map(Self::Batch).map_err(|e| read("a batch", e));
        }
        misspelt(&value)?;
        // Both are looked at: what one of them says does not excuse the other.
        let dry_run = flag(&value, "dry_run")? | flag(&value, "dryRun")?;
        if value.get("action").and_then(Value::as_str) == Some("UNDO") {
            only(&value, "an undo", &["action", "bulk", "dry_run", "dryRun"])?;
            let bulk = text(&value, "bulk")?.map(str::to_owned);
            return Ok(Self::Undo(Undo { bulk, dry_run }));
        }
        if value.get("action").is_some() {
            let order = Order::deserialize(&value).map_err(|e| read("an order", e))?;
            return order.checked().map(Self::Hand);
        }
        let time = text(&value, "time")?;
        let time = time.ok_or("neither a tick (`time`), nor an order (`action`), nor a batch")?;
        let time = match time {
            PLACEHOLDER => None,
            time => Some(time.parse().map_err(|e| format!("a tick's time {time:?}: {e}"))?),
        };
        Ok(Self::Tick(Tick { time, forced: flag(&value, "forced")?, dry_run }))
    }
}

/// A field that is true or false. Any other type is a mistake and not a no: what was meant as a
/// dry run must not switch anything.
///
/// # Errors
/// When it is neither, in words.
pub fn flag(fields: &Value, name: &str) -> Result<bool, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(it)) => Ok(*it),
        Some(other) => {
            Err(format!("`{name}` must be true or false, not {}", short(&other.to_string())))
        }
    }
}

/// Refuses what is nearly the word for a dry run: who misspells it wants nothing switched.
///
/// # Errors
/// When there is such a field, in words.
pub fn misspelt(fields: &Value) -> Result<(), String> {
    let near = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphabetic);
        let letters = letters.map(|it| it.to_ascii_lowercase()).collect::<String>();
        matches!(&*letters, "dryrun" | "dry" | "isdryrun" | "dryruns")
    };
    let mut names = fields.as_object().into_iter().flat_map(|it| it.keys());
    let wrong = |name: &&String| near(name) && !matches!(&***name, "dry_run" | "dryRun");
    match names.find(wrong) {
        None => Ok(()),
        Some(name) => Err(format!("`{}` is no field: a dry run is `dry_run`", short(name))),
    }
}

fn only(fields: &Value, what: &str, allowed: &[&str]) -> Result<(), String> {
    let mut names = fields.as_object().into_iter().flat_map(|it| it.keys());
    match names.find(|name| !allowed.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let list = allowed.join("`, `");
            Err(format!("`{}` is no field of {what}, which has `{list}`", short(name)))
        }
    }
}

/// A field that is text, where it is there.
///
/// # Errors
/// When it is something else, in words.
pub fn text<'a>(fields: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(it)) => Ok(Some(it)),
        Some(other) => Err(format!("`{name}` must be text, not {}", short(&other.to_string()))),
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Order {
    fn checked(self) -> Result<Self, String> {
        let ids = self.service.is_some() && !self.ids.is_empty();
        let targets = [self.context.is_some(), self.tag.is_some(), ids];
        if targets.iter().filter(|it| **it).count() != 1 {
            return Err("an order names a context, or a tag, or a service and ids".to_owned());
        }
        if self.action == Action::ModClass {
            if !matches!(self.service, Some(Service::Rds | Service::Cluster)) {
                return Err("MODCLASS is for ids of rds:instance and rds:cluster only".to_owned());
            }
            if self.attrib.as_ref().is_none_or(String::is_empty) {
                return Err("MODCLASS needs the new class as attrib".to_owned());
            }
        }
        self.region.as_deref().map_or(Ok(()), region)?;
        Ok(self)
    }

    /// When it was given, which is not after it was sent: clocks differ by a minute at most.
    pub fn given(&self, sent: Timestamp) -> Timestamp {
        let latest = sent.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
        self.at.filter(|at| *at <= latest).unwrap_or(sent)
    }

    /// What it is called as a bulk action, and what makes its acts happen once: what is asked for
    /// and when. Where it does not tell when, the id of its message stands for that.
    pub fn name(&self, message_id: &str) -> String {
        let Some(at) = self.at else { return message_id.to_owned() };
        let Self { context, tag, service, .. } = self;
        let what = match (context, tag, service) {
            (Some(id), ..) => format!("context/{id}"),
            (_, Some(key), _) => format!("tag/{key}"),
            (.., service) => service.map(Service::name).unwrap_or_default().to_owned(),
        };
        format!("{} {what} {at}", self.action.name())
    }
}

#[cfg(test)]
mod tests;
