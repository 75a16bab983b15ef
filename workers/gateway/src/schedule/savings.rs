//! What schedules save: the hours that nothing runs, by the decision that ticks act on; and what the
//! tags among them are of.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use schedule_executor::{
    arn::{Arn, Home, Target},
    plan::Plan,
    rows::{Context, ResourceRow, Scheduling, Settings},
};
use serde_json::{Value, json};

use super::{
    Schedules,
    ops::{Done, Refused, Source, apart},
};

/// The longest time that is added up, in seconds.
const LONGEST: i64 = 2 * 366 * 86_400;

/// What one kind of resource saves.
#[derive(Debug, Default)]
struct Kind {
    resources: u64,
    unpriced: u64,
    hours: f64,
    money: f64,
}

impl Schedules {
    /// The hours that a context's resources do not run from `from` to `to`, against running all of
    /// it, and their price; without those that go by a context before it.
    pub(super) async fn savings_of(&self, id: &str, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        self.resources(id).await?;
        self.saved(&Source::Context(id.to_owned()), (from, to)).await
    }

    /// The same of a tag's, without those that go by a context or by a tag before it.
    pub(super) async fn savings_of_tag(
        &self,
        key: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Done<Value> {
        check(from, to)?;
        self.tag(key).await?;
        self.saved(&Source::Tag(key.to_owned()), (from, to)).await
    }

    /// The resources that carry a tag, as the scheduler found them last.
    pub(super) async fn resources_of_tag(&self, key: &str) -> Done<Value> {
        self.tag(key).await?;
        let found = self.store.members(key).await?;
        let row = row_of(key, &found.arns);
        let lists = row.lists.iter().map(|(service, list)| (service.name(), list));
        let since = Some(found.since).filter(|since| !since.is_empty());
        let lists = lists.collect::<BTreeMap<_, _>>();
        Ok(json!({ "tagKey": key, "foundAt": since, "resources": lists }))
    }

    async fn saved(&self, source: &Source, span: (Timestamp, Timestamp)) -> Done<Value> {
        let whole = self.wholes().await?.0.into_iter().find(|it| it.source() == *source);
        let whole = whole.ok_or_else(|| source.missing())?;
        let (settings, home) = (self.store.settings().await?, self.home.clone());
        apart(move || add_up(&home, &whole, &settings, span)).await
    }

    /// All contexts and tags with what goes by each: of several that have a resource it goes by the first
    /// one that is scheduled, as in a tick. And those of which that cannot be told, with the reason.
    async fn wholes(&self) -> Done<(Vec<Whole>, Vec<Value>)> {
        let (mut taken, mut wholes, mut unknown) = (HashSet::new(), Vec::new(), Vec::new());
        let (rows, broken) = self.store.contexts().await?;
        for context in rows {
            let id = context.id.clone();
            match self.store.resources(&id).await.map_err(Refused::from) {
                Ok(row) => wholes.push(Whole::of(context, row).less(&self.home, &mut taken)),
                Err(Refused::Bad(why)) => unknown.push(json!({ "contextID": id, "why": why })),
                Err(other) => return Err(other),
            }
        }
        for tag in self.store.tags().await?.0 {
            let row = row_of(&tag.key, &self.store.members(&tag.key).await?.arns);
            let (field, name, scheduling) = ("tagKey", tag.key, tag.scheduling);
            let whole = Whole { field, name, scheduling, row };
            wholes.push(whole.less(&self.home, &mut taken));
        }
        let unread = |id| json!({ "contextID": id, "why": "its row cannot be read" });
        unknown.extend(broken.into_iter().map(unread));
        Ok((wholes, unknown))
    }

    /// The same of every context and tag.
    pub(super) async fn savings(&self, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        let settings = Arc::new(self.store.settings().await?);
        let (mut contexts, mut tags) = (Vec::new(), Vec::new());
        let (mut hours, mut money) = (0.0, 0.0);
        let (wholes, mut unknown) = self.wholes().await?;
        for whole in wholes {
            let (field, name) = (whole.field, whole.name.clone());
            let (settings, home) = (settings.clone(), self.home.clone());
            match apart(move || add_up(&home, &whole, &settings, (from, to))).await {
                Ok(saved) => {
                    hours += saved["hoursAvoided"].as_f64().unwrap_or_default();
                    money += saved["money"].as_f64().unwrap_or_default();
                    if field == "tagKey" { &mut tags } else { &mut contexts }.push(saved);
                }
                // One whose schedule is broken saves nothing, and does not hide what others do.
                Err(Refused::Bad(why)) => unknown.push(json!({ field: name, "why": why })),
                Err(other) => return Err(other),
            }
        }
        Ok(json!({
            "from": from, "to": to, "hoursAvoided": cents(hours), "money": cents(money),
            "contexts": contexts, "tags": tags, "unknown": unknown,
        }))
    }
}

/// A context or a tag with what goes by it.
struct Whole {
    /// What its key is called.
    field: &'static str,
    name: String,
    scheduling: Scheduling,
    row: ResourceRow,
}

impl Whole {
    fn of(context: Context, row: ResourceRow) -> Self {
        Self { field: "contextID", name: context.id, scheduling: context.scheduling, row }
    }

    fn source(&self) -> Source {
        let name = self.name.clone();
        if self.field == "tagKey" { Source::Tag(name) } else { Source::Context(name) }
    }

    /// Without what is taken by another; what goes by this one is taken from then on.
    fn less(mut self, home: &Home, taken: &mut HashSet<Target>) -> Self {
        let takes = self.scheduling.scheduled && self.scheduling.schedule().is_ok();
        for (service, list) in &mut self.row.lists {
            let all = std::mem::take(list);
            let rest = all.scheduled.into_iter().zip(all.attrib);
            for (id, (scheduled, attrib)) in all.id.into_iter().zip(rest) {
                let target = home.target(*service, &id).ok().filter(|_| scheduled);
                let is_taken = target.is_some_and(|target| match takes {
                    true => !taken.insert(target),
                    false => taken.contains(&target),
                });
                if !is_taken {
                    list.id.push(id);
                    list.scheduled.push(scheduled);
                    list.attrib.push(attrib);
                }
            }
        }
        self
    }
}

/// ARNs by their kinds; what can be switched by nobody is left out.
fn row_of(key: &str, arns: &[String]) -> ResourceRow {
    let mut row = ResourceRow { context: key.to_owned(), lists: Vec::new() };
    for arn in arns {
        if let Some(service) = Arn::parse(arn).and_then(|arn| arn.service()) {
            let list = row.list(service);
            list.id.push(arn.clone());
            list.scheduled.push(true);
            list.attrib.push(String::new());
        }
    }
    row
}

fn add_up(
    home: &Home,
    whole: &Whole,
    settings: &Settings,
    (from, to): (Timestamp, Timestamp),
) -> Done<Value> {
    // What is only tried is not switched, and saves nothing.
    let Whole { field, name, scheduling, row } = whole;
    let switched = scheduling.scheduled && settings.running && !scheduling.dry_run;
    let off = match switched {
        true => Plan::of(scheduling).map_err(Refused::Bad)?.seconds_off(from, to),
        false => Some(0),
    };
    let often =
        || Refused::Bad("it changes too often to be added up: ask for less time".to_owned());
    let hours = off.ok_or_else(often)? as f64 / 3600.0;
    let mut kinds = BTreeMap::<&str, Kind>::new();
    for (service, list) in &row.lists {
        for (id, scheduled) in list.id.iter().zip(&list.scheduled) {
            let Ok(target) = home.target(*service, id) else { continue };
            if !*scheduled || settings.never_touched(&target, id, &home.account).is_some() {
                continue;
            }
            let price = settings.price(*service, &target.key(), &target.id);
            kinds.entry(service.name()).or_default().add(hours, price);
        }
    }
    let sum = |part: fn(&Kind) -> f64| kinds.values().map(part).sum::<f64>();
    let told = kinds.iter().map(|(name, kind)| ((*name).to_owned(), kind.told()));
    Ok(json!({
        *field: name, "from": from, "to": to,
        "hoursOffEach": cents(hours), "hoursAvoided": cents(sum(|it| it.hours)),
        "money": cents(sum(|it| it.money)),
        "byKind": told.collect::<serde_json::Map<_, _>>(),
    }))
}

impl Kind {
    fn add(&mut self, hours: f64, price: Option<f64>) {
        self.resources += 1;
        self.hours += hours;
        match price {
            Some(price) => self.money += hours * price,
            None => self.unpriced += 1,
        }
    }

    fn told(&self) -> Value {
        let Self { resources, unpriced, hours, money } = self;
        json!({
            "resources": resources, "unpriced": unpriced, "hoursAvoided": cents(*hours),
            "money": cents(*money),
        })
    }
}

/// To the hundredth.
fn cents(number: f64) -> f64 {
    // The sum of nothing is -0.0.
    (number * 100.0).round() / 100.0 + 0.0
}

fn check(from: Timestamp, to: Timestamp) -> Done<()> {
    let length = to.as_second().saturating_sub(from.as_second());
    if (1..=LONGEST).contains(&length) {
        return Ok(());
    }
    Err(Refused::Bad("`from` must be before `to`, by at most two years".to_owned()))
}

#[cfg(test)]
mod tests;
