//! What can be asked of contexts, tags and resources, whatever the shape of the request.

use flotilla_runtime::{Failure, trace};
use jiff::Timestamp;
use schedule_executor::{
    arn::Target,
    plan::{Action, Change, Plan},
    rows::{ALL, Context, ResourceRow, Scheduling, Service, Tag},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Schedules;

/// The most transitions that a preview tells.
const PREVIEW: usize = 10_000;

/// Why something was not done.
#[derive(Debug)]
pub enum Refused {
    /// The request is wrong, and how.
    Bad(String),
    /// There is no such thing.
    Missing(String),
    /// A table or queue did not answer.
    Down(String),
}

/// What came of a request.
pub type Done<T> = Result<T, Refused>;

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Down(failure.to_string())
    }
}

/// A context or a tag, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A context's id.
    Context(String),
    /// A tag's key.
    Tag(String),
}

impl Source {
    pub(super) fn missing(&self) -> Refused {
        Refused::Missing(match self {
            Self::Context(id) => format!("no context {id:?} is registered"),
            Self::Tag(key) => format!("no tag {key:?} is registered"),
        })
    }
}

impl Schedules {
    /// Registers a context, or changes it, with its resources where the request names them.
    pub async fn register_context(&self, request: &Value) -> Done<Context> {
        let context: Context = read(request)?;
        check_key("contextID", &context.id)?;
        check(&context.scheduling)?;
        check_stages(&context.stages)?;
        let resources = match request.get("resources") {
            None => None,
            Some(value) => {
                Some(ResourceRow::from_json(&context.id, value).ok_or_else(|| {
                    Refused::Bad("`resources` is no list of resources".to_owned())
                })?)
            }
        };
        self.store.put_context(&context).await?;
        if let Some(row) = resources {
            self.store.put_resources(&row).await?;
        }
        self.context(&context.id).await
    }

    /// Forgets a context.
    pub async fn unregister_context(&self, id: &str) -> Done<()> {
        let found = self.store.drop_context(id).await?;
        found.then_some(()).ok_or_else(|| Source::Context(id.to_owned()).missing())
    }

    /// A context.
    pub async fn context(&self, id: &str) -> Done<Context> {
        let found = self.store.context(id).await?.filter(|context| context.id != ALL);
        found.ok_or_else(|| Source::Context(id.to_owned()).missing())
    }

    /// The resources of a context.
    pub async fn resources(&self, id: &str) -> Done<ResourceRow> {
        self.context(id).await?;
        Ok(self.store.resources(id).await?)
    }

    /// Adds a resource to a context, or changes what is known of it.
    pub async fn add_resource(
        &self,
        context: &str,
        service: Service,
        id: &str,
        scheduled: bool,
        attrib: &str,
    ) -> Done<()> {
        self.context(context).await?;
        if id.trim().is_empty() {
            return Err(Refused::Bad("the resource's id is empty".to_owned()));
        }
        Target::resolve(service, id, "").map_err(Refused::Bad)?;
        let add = |list: &mut schedule_executor::rows::Resources| {
            list.add(id, scheduled, attrib);
            true
        };
        self.store.change_resources(context, service, add).await?;
        Ok(())
    }

    /// Takes a resource out of a context.
    pub async fn remove_resource(&self, context: &str, service: Service, id: &str) -> Done<()> {
        self.context(context).await?;
        let found = self.store.change_resources(context, service, |list| list.remove(id)).await?;
        let missing =
            || Refused::Missing(format!("{} {id:?} is not in {context:?}", service.name()));
        found.then_some(()).ok_or_else(missing)
    }

    /// Registers a tag, or changes it.
    pub async fn register_tag(&self, request: &Value) -> Done<Tag> {
        let tag: Tag = read(request)?;
        check_key("tagKey", &tag.key)?;
        check(&tag.scheduling)?;
        self.store.put_tag(&tag).await?;
        self.tag(&tag.key).await
    }

    /// Forgets a tag.
    pub async fn unregister_tag(&self, key: &str) -> Done<()> {
        let found = self.store.drop_tag(key).await?;
        found.then_some(()).ok_or_else(|| Source::Tag(key.to_owned()).missing())
    }

    /// A tag.
    pub async fn tag(&self, key: &str) -> Done<Tag> {
        let found = self.store.tag(key).await?;
        found.ok_or_else(|| Source::Tag(key.to_owned()).missing())
    }

    /// Adds a value to a tag; one that is there already stays.
    pub async fn add_value(&self, key: &str, value: &str) -> Done<()> {
        self.tag(key).await?;
        let add = |values: &mut Vec<String>| {
            let new = !values.iter().any(|it| it == value);
            if new {
                values.push(value.to_owned());
            }
            new
        };
        self.store.change_values(key, add).await?;
        Ok(())
    }

    /// Takes a value out of a tag.
    pub async fn remove_value(&self, key: &str, value: &str) -> Done<()> {
        self.tag(key).await?;
        let remove = |values: &mut Vec<String>| {
            let count = values.len();
            values.retain(|it| it != value);
            values.len() < count
        };
        let found = self.store.change_values(key, remove).await?;
        let missing = || Refused::Missing(format!("{value:?} is no value of tag {key:?}"));
        found.then_some(()).ok_or_else(missing)
    }

    /// Starts or stops the scheduler of one context or tag.
    pub async fn schedule(&self, source: &Source, running: bool) -> Done<()> {
        let fields = json!({ "isScheduled": running });
        let found = match source {
            Source::Context(id) if id == ALL => false,
            Source::Context(id) => self.store.set_context(id, &fields).await?,
            Source::Tag(key) => self.store.set_tag(key, &fields).await?,
        };
        found.then_some(()).ok_or_else(|| source.missing())
    }

    /// Switches all resources of a context or tag, by hand: until the schedule's next rule. A dry
    /// run is only written down in the audit.
    pub async fn power(&self, source: &Source, on: bool, dry_run: bool) -> Done<()> {
        let now = Timestamp::now();
        let found = match source {
            Source::Context(id) if id == ALL => false,
            Source::Context(id) if dry_run => self.store.context(id).await?.is_some(),
            Source::Tag(key) if dry_run => self.store.tag(key).await?.is_some(),
            Source::Context(id) => self.store.context_by_hand(id, on, now).await?,
            Source::Tag(key) => self.store.tag_by_hand(key, on, now).await?,
        };
        if !found {
            return Err(source.missing());
        }
        let action = if on { "START" } else { "STOP" };
        let mut order = match source {
            Source::Context(id) => json!({ "action": action, "context": id }),
            Source::Tag(key) => json!({ "action": action, "tag": key }),
        };
        if dry_run {
            order["dry_run"] = json!(true);
        }
        self.send(&order).await
    }

    /// Puts a message on the scheduler's queue.
    pub(super) async fn send(&self, message: &Value) -> Done<()> {
        let call = self.sqs.send_message().queue_url(&self.queue_url);
        let call = call.set_message_attributes(trace::attributes());
        let sent = call.message_body(message.to_string()).send().await;
        sent.map(drop).map_err(|e| {
            let why = flotilla_runtime::failure::chain(&e);
            Refused::Down(format!("sending a message to the scheduler: {why}"))
        })
    }

    /// The schedule of a context or tag.
    pub(super) async fn scheduling(&self, source: &Source) -> Done<Scheduling> {
        Ok(match source {
            Source::Context(id) => self.context(id).await?.scheduling,
            Source::Tag(key) => self.tag(key).await?.scheduling,
        })
    }

    /// Every change of a source's desired state from `from` on and before `to`.
    pub async fn preview(&self, source: &Source, from: Timestamp, to: Timestamp) -> Done<Value> {
        let scheduling = self.scheduling(source).await?;
        if from >= to {
            return Err(Refused::Bad("`from` must be before `to`".to_owned()));
        }
        let plan = Plan::of(&scheduling).map_err(Refused::Bad)?;
        let transitions = plan.preview(from, to, PREVIEW + 1);
        if transitions.len() > PREVIEW {
            return Err(Refused::Bad(format!("over {PREVIEW} transitions: ask for less time")));
        }
        let rows: Vec<Value> = transitions.iter().map(transition).collect();
        let state = plan.wanted(from).ok().map(|wanted| wanted.power);
        Ok(json!({
            "timeZone": scheduling.zone, "from": from, "to": to, "stateAtFrom": state,
            "isScheduled": scheduling.scheduled, "transitions": rows,
        }))
    }
}

fn transition(it: &Change) -> Value {
    let mut row = json!(it);
    row["action"] = json!(Action::towards(it.transition.power));
    row
}

fn read<T: DeserializeOwned>(request: &Value) -> Done<T> {
    T::deserialize(request).map_err(|why| Refused::Bad(why.to_string()))
}

fn check(scheduling: &Scheduling) -> Done<()> {
    scheduling.schedule().map(drop).map_err(|why| Refused::Bad(why.to_string()))
}

fn check_stages(stages: &[Vec<String>]) -> Done<()> {
    let mut names = stages.iter().flatten();
    let mut seen = std::collections::HashSet::new();
    match names.find(|name| name.trim().is_empty() || !seen.insert(*name)) {
        Some(name) => Err(Refused::Bad(format!("`stages` names {name:?} twice, or nothing"))),
        None => Ok(()),
    }
}

fn check_key(name: &str, key: &str) -> Done<()> {
    let why = match key {
        "" => "is empty",
        ALL => "stands for all",
        _ if key.chars().any(char::is_control) => "has a control character",
        _ if key.len() > 512 => "is over 512 bytes",
        _ => return Ok(()),
    };
    Err(Refused::Bad(format!("the {name} {why}")))
}
