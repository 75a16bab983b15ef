//! What can be asked of contexts, tags and resources, whatever the shape of the request.

mod tags;

use flotilla_runtime::{Failure, tally, trace};
use jiff::Timestamp;
use schedule_executor::{
    arn::Scope,
    message,
    plan::{Action, Change, Plan},
    rows::{ALL, Context, ResourceRow, Scheduling, Service},
    store::Said,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Schedules, strict,
    tried::{self, Came},
};

/// The most transitions that a preview tells.
const PREVIEW: usize = 10_000;

/// The longest id that is nothing but a mistake, in bytes.
const LONGEST_ID: usize = 512;
/// How often a hand is noted anew when another came between.
const HANDS: usize = 20;
/// How far the clock of another gateway may be ahead, in milliseconds.
const AHEAD: i64 = 60_000;

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
    /// What a table does not take for good is the request's fault: a text that is too long, say.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Permanent(_) => Self::Bad(failure.to_string()),
            Failure::Transient { .. } => Self::Down(failure.to_string()),
        }
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
    /// As the audit names it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Context(id) => format!("context/{id}"),
            Self::Tag(key) => format!("tag/{key}"),
        }
    }

    /// As what overrides are of.
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Context(id) => Scope::Context(id.clone()),
            Self::Tag(key) => Scope::Tag(key.clone()),
        }
    }

    pub(super) fn missing(&self) -> Refused {
        Refused::Missing(match self {
            Self::Context(id) => {
                format!("no context {id:?} is registered: register it, or correct the name")
            }
            Self::Tag(key) => {
                format!("no tag {key:?} is registered: register it, or correct the key")
            }
        })
    }
}

impl Schedules {
    /// Registers a context, or changes it, with its resources where the request names them; a dry run
    /// tells what it would be.
    pub async fn register_context(&self, request: &Value, dry: bool) -> Done<Context> {
        let context: Context = read(request)?;
        check_key("contextID", &context.id)?;
        check(&context.scheduling)?;
        let resources = match request.get("resources") {
            // Nothing is said of them: they stay.
            None | Some(Value::Null) => None,
            Some(value) => {
                let row = ResourceRow::from_json(&context.id, value);
                Some(row.ok_or_else(|| bad("`resources` is no list of resources"))?)
            }
        };
        let lists = resources.iter().flat_map(|row| &row.lists);
        for (service, id) in
            lists.flat_map(|(service, list)| list.id.iter().map(move |id| (service, id)))
        {
            self.check_id(*service, id)?;
        }
        if !context.stages.is_empty() {
            let row = match &resources {
                Some(row) => row.clone(),
                None => self.store.resources(&context.id).await?,
            };
            strict::stages(&context.stages, &row)?;
        }
        if dry {
            let old = self.store.context(&context.id).await?.map(|it| it.scheduling);
            let scheduling = tried::kept(context.scheduling, old, Said::of(request));
            return Ok(Context { scheduling, ..context });
        }
        self.store.put_context(&context, Said::of(request)).await?;
        if let Some(row) = resources {
            self.store.put_resources(&row).await?;
        }
        self.context(&context.id).await
    }

    /// Forgets a context.
    pub(super) async fn unregister_context(&self, id: &str, dry: bool) -> Done<Came> {
        check_key("contextID", id)?;
        if dry {
            return self.context(id).await.map(|_| Some(Value::Null));
        }
        let found = self.store.drop_context(id).await?;
        found.then_some(None).ok_or_else(|| Source::Context(id.to_owned()).missing())
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

    /// A name that no key of a table could hold would stop its context. One that is none at all is
    /// left to the tick, which says so.
    fn check_id(&self, service: Service, id: &str) -> Done<()> {
        match self.home.target(service, id) {
            Err(why) if id.len() > LONGEST_ID => Err(Refused::Bad(why)),
            Ok(target) => self.home.has(&target).map_err(|why| at(id, &why)),
            Err(_) => Ok(()),
        }
    }

    /// Adds a resource to a context, or changes what is known of it: whether it takes part, and the
    /// words of its attribute. What is not said of either stays.
    pub(super) async fn add_resource(
        &self,
        context: &str,
        (service, id): (Service, &str),
        (scheduled, attrib): (Option<bool>, Option<&str>),
        dry: bool,
    ) -> Done<Came> {
        self.context(context).await?;
        if id.trim().is_empty() {
            return Err(Refused::Bad("the resource's id is empty".to_owned()));
        }
        let target = self.home.target(service, id).map_err(Refused::Bad)?;
        self.home.has(&target).map_err(|why| at(id, &why))?;
        let add = |list: &mut schedule_executor::rows::Resources| {
            list.change(id, scheduled, attrib);
            true
        };
        if dry {
            let mut row = self.store.resources(context).await?;
            add(row.list(service));
            return Ok(Some(list(&mut row, service)));
        }
        self.store.change_resources(context, service, add).await?;
        Ok(None)
    }

    /// Takes a resource out of a context, and out of its stages: what is told of it may be sent back.
    pub(super) async fn remove_resource(
        &self,
        context: &str,
        (service, id): (Service, &str),
        dry: bool,
    ) -> Done<Came> {
        let row = self.context(context).await?;
        let mut lists = self.store.resources(context).await?;
        let found = match dry {
            true => lists.list(service).remove(id),
            false => self.store.change_resources(context, service, |list| list.remove(id)).await?,
        };
        let missing = || {
            Refused::Missing(format!(
                "{} {id:?} is not in {context:?}: name it as its `resources` do",
                service.name()
            ))
        };
        found.then_some(()).ok_or_else(missing)?;
        if dry {
            return Ok(Some(list(&mut lists, service)));
        }
        if let Some(stages) = without(&row.stages, id) {
            self.store.set_context(context, &json!({ "stages": stages })).await?;
        }
        Ok(None)
    }

    /// Starts or stops the scheduler of one context or tag.
    pub(super) async fn schedule(&self, source: &Source, running: bool, dry: bool) -> Done<Came> {
        if dry {
            return self.would_schedule(source, running).await;
        }
        let fields = json!({ "isScheduled": running });
        let found = match source {
            Source::Context(id) if id == ALL => false,
            Source::Context(id) => self.store.set_context(id, &fields).await?,
            Source::Tag(key) => self.store.set_tag(key, &fields).await?,
        };
        found.then_some(None).ok_or_else(|| source.missing())
    }

    /// Switches all resources of a context or tag, by hand: until the schedule's next rule. A dry
    /// run, also of what is only tried, is only written down in the audit. Gives the bulk action's name,
    /// for an undo.
    pub async fn power(&self, source: &Source, on: bool, dry_run: bool) -> Done<String> {
        let (at, dry_run) = self.noted(source, on, dry_run).await?;
        let action = if on { "START" } else { "STOP" };
        let (kind, name) = match source {
            Source::Context(id) => ("context", id),
            Source::Tag(key) => ("tag", key),
        };
        let order = json!({ "action": action, kind: name, "at": at, "dry_run": dry_run });
        self.send(&order).await?;
        let bulk = format!("{action} {} {at}", source.name());
        if !dry_run {
            // Now, and not when it is worked: who undoes at once means this.
            self.store.note_asked(&bulk, at).await?;
        }
        Ok(bulk)
    }

    /// Notes a hand with its context or tag, unless it is a dry run; gives its time, which is after that of
    /// every hand before it, and whether it is only tried.
    async fn noted(&self, source: &Source, on: bool, dry: bool) -> Done<(Timestamp, bool)> {
        for _ in 0..HANDS {
            let row = self.scheduling(source).await?;
            let (at, dry) = (later(Timestamp::now(), row.hand_at), dry || row.dry_run);
            if dry || self.store.by_hand(&source.name(), on, at, true).await? {
                return Ok((at, dry));
            }
            // Another hand came between.
        }
        let what = "is switched by many hands at this moment: ask again";
        Err(Refused::Bad(format!("{} {what}", source.name())))
    }

    /// Puts a message on the scheduler's queue.
    pub(super) async fn send(&self, message: &Value) -> Done<()> {
        let call = self.sqs.send_message().queue_url(&self.queue_url);
        let call = call.set_message_attributes(trace::attributes());
        let sent = call.message_body(message.to_string()).send().await;
        sent.map_err(|e| {
            let why = flotilla_runtime::failure::chain(&e);
            Refused::Down(format!("sending a message to the scheduler: {why}"))
        })?;
        tally::sent(&self.queue_url, 1);
        Ok(())
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
            let what = "name an earlier `from`, or a later `to`";
            return Err(Refused::Bad(format!("`from` {from} is not before `to` {to}: {what}")));
        }
        apart(move || previewed(&scheduling, from, to)).await
    }
}

/// Reckons on a thread of its own: years of a schedule would hold every other request up.
pub(super) async fn apart<T: Send + 'static>(
    reckon: impl FnOnce() -> Done<T> + Send + 'static,
) -> Done<T> {
    let reckoned = tokio::task::spawn_blocking(reckon).await;
    reckoned.unwrap_or_else(|why| Err(Refused::Down(format!("reckoning: {why}"))))
}

fn previewed(scheduling: &Scheduling, from: Timestamp, to: Timestamp) -> Done<Value> {
    let plan = Plan::of(scheduling).map_err(Refused::Bad)?;
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

/// Now, in milliseconds, and after the last hand: of two requests the later one counts, whichever
/// gateway it came to. What lies far ahead is no hand.
fn later(now: Timestamp, last: Option<i64>) -> Timestamp {
    let now = now.as_millisecond();
    let after = last.filter(|last| (now..now + AHEAD).contains(last)).map(|last| last + 1);
    Timestamp::from_millisecond(after.unwrap_or(now)).unwrap_or_default()
}

fn transition(it: &Change) -> Value {
    let mut row = json!(it);
    row["action"] = json!(Action::towards(it.transition.power));
    row
}

/// The stages without an id, where one of them names it; none where none does.
fn without(stages: &[Vec<String>], id: &str) -> Option<Vec<Vec<String>>> {
    stages.iter().flatten().any(|name| name == id).then(|| {
        let rest = |stage: &Vec<String>| stage.iter().filter(|it| *it != id).cloned().collect();
        stages.iter().map(rest).filter(|stage: &Vec<String>| !stage.is_empty()).collect()
    })
}

/// The list of one kind, as it would be.
fn list(row: &mut ResourceRow, service: Service) -> Value {
    json!({ service.name(): row.list(service) })
}

fn read<T: DeserializeOwned>(request: &Value) -> Done<T> {
    T::deserialize(request).map_err(|why| Refused::Bad(why.to_string()))
}

fn check(scheduling: &Scheduling) -> Done<()> {
    let schedule = scheduling.schedule().map_err(|why| Refused::Bad(why.to_string()))?;
    schedule.never().map_or(Ok(()), |what| Err(Refused::Bad(format!("{what} never comes"))))
}

/// A field that is true or false, where it is said.
pub(super) fn flag(data: &Value, name: &str) -> Done<Option<bool>> {
    match data.get(name).is_none_or(Value::is_null) {
        true => Ok(None),
        false => message::flag(data, name).map(Some).map_err(Refused::Bad),
    }
}

/// Whether a request asks for a dry run, in either spelling.
pub(super) fn is_dry(data: &Value) -> Done<bool> {
    let said = |name| Ok::<_, Refused>(flag(data, name)?.unwrap_or_default());
    Ok(said("dry_run")? | said("dryRun")?)
}

/// A field that is text; empty where it is left out.
pub(super) fn words<'a>(data: &'a Value, name: &str) -> Done<&'a str> {
    Ok(text(data, name)?.unwrap_or_default())
}

/// A field that is text, where it is said.
pub(super) fn text<'a>(data: &'a Value, name: &str) -> Done<Option<&'a str>> {
    message::text(data, name).map_err(Refused::Bad)
}

fn at(id: &str, why: &str) -> Refused {
    Refused::Bad(format!("the resource {id:?}: {why}"))
}

fn bad(why: &str) -> Refused {
    Refused::Bad(why.to_owned())
}

fn check_key(name: &str, key: &str) -> Done<()> {
    let why = match key {
        "" => "is empty",
        ALL => "stands for all, and is none that could be registered or forgotten",
        _ if key.chars().any(char::is_control) => "has a control character",
        _ if key.len() > 512 => "is over 512 bytes",
        _ => return Ok(()),
    };
    Err(Refused::Bad(format!("the {name} {why}")))
}

#[cfg(test)]
mod tests;
