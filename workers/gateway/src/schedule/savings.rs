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
    /// it, and their price.
    pub(super) async fn savings_of(&self, id: &str, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        let context = self.context(id).await?;
        let row = self.store.resources(id).await?;
        self.saved(Whole::of(context, row), (from, to)).await
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
        let tags = self.tags_with_resources().await?;
        let whole = tags.into_iter().find(|it| it.name == key);
        self.saved(whole.ok_or_else(|| Source::Tag(key.to_owned()).missing())?, (from, to)).await
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

    async fn saved(&self, whole: Whole, span: (Timestamp, Timestamp)) -> Done<Value> {
        let (settings, home) = (self.store.settings().await?, self.home.clone());
        apart(move || add_up(&home, &whole, &settings, span)).await
    }

    /// All tags with what goes by them.
    async fn tags_with_resources(&self) -> Done<Vec<Whole>> {
        let rows = self.store.all_resources().await?;
        let rows = rows.iter().filter_map(|row| ResourceRow::from_json("", row));
        let mut taken: HashSet<Target> = rows.flat_map(|row| targets(&self.home, &row)).collect();
        let mut tags = Vec::new();
        for tag in self.store.tags().await?.0 {
            let mut row = row_of(&tag.key, &self.store.members(&tag.key).await?.arns);
            for (service, list) in &mut row.lists {
                list.id.retain(|id| {
                    self.home.target(*service, id).is_ok_and(|target| taken.insert(target))
                });
                list.scheduled.truncate(list.id.len());
                list.attrib.truncate(list.id.len());
            }
            let (field, name, scheduling) = ("tagKey", tag.key, tag.scheduling);
            tags.push(Whole { field, name, scheduling, row });
        }
        Ok(tags)
    }

    /// The same of every context and tag.
    pub(super) async fn savings(&self, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        let settings = Arc::new(self.store.settings().await?);
        let (mut contexts, mut tags, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let (mut hours, mut money) = (0.0, 0.0);
        let (rows, broken) = self.store.contexts().await?;
        let mut wholes = Vec::new();
        for context in rows {
            let id = context.id.clone();
            match self.store.resources(&id).await.map_err(Refused::from) {
                Ok(row) => wholes.push(Whole::of(context, row)),
                Err(Refused::Bad(why)) => unknown.push(json!({ "contextID": id, "why": why })),
                Err(other) => return Err(other),
            }
        }
        wholes.extend(self.tags_with_resources().await?);
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
        let unread = |id| json!({ "contextID": id, "why": "its row cannot be read" });
        unknown.extend(broken.into_iter().map(unread));
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

fn targets(home: &Home, row: &ResourceRow) -> Vec<Target> {
    let all = row.lists.iter().flat_map(|(service, list)| list.id.iter().map(|id| (*service, id)));
    all.filter_map(|(service, id)| home.target(service, id).ok()).collect()
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
mod tests {
    use super::*;

    #[test]
    fn nothing_saved_is_zero_and_not_below_it() {
        let none: f64 = std::iter::empty::<f64>().sum();
        assert_eq!(json!([cents(none), cents(-0.0)]).to_string(), "[0.0,0.0]");
    }
}
