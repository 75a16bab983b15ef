//! What schedules save: the hours that nothing runs, by the decision that ticks act on.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schedule_executor::{
    arn::Home,
    plan::Plan,
    rows::{Context, ResourceRow, Settings},
};
use serde_json::{Value, json};

use super::{
    Schedules,
    ops::{Done, Refused, apart},
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
        let (settings, home) = (self.store.settings().await?, self.home.clone());
        apart(move || add_up(&home, &context, &row, &settings, (from, to))).await
    }

    /// The same of every context.
    pub(super) async fn savings(&self, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        let settings = Arc::new(self.store.settings().await?);
        let (mut all, mut unknown, mut hours, mut money) = (Vec::new(), Vec::new(), 0.0, 0.0);
        let (contexts, broken) = self.store.contexts().await?;
        for context in contexts {
            let (id, row) = (context.id.clone(), self.store.resources(&context.id).await);
            let (settings, home) = (settings.clone(), self.home.clone());
            let reckon = move || add_up(&home, &context, &row?, &settings, (from, to));
            match apart(reckon).await {
                Ok(saved) => {
                    hours += saved["hoursAvoided"].as_f64().unwrap_or_default();
                    money += saved["money"].as_f64().unwrap_or_default();
                    all.push(saved);
                }
                // One whose schedule is broken saves nothing, and does not hide what others do.
                Err(Refused::Bad(why)) => unknown.push(json!({ "contextID": id, "why": why })),
                Err(other) => return Err(other),
            }
        }
        let unread = |id| json!({ "contextID": id, "why": "its row cannot be read" });
        unknown.extend(broken.into_iter().map(unread));
        Ok(json!({
            "from": from, "to": to, "hoursAvoided": cents(hours), "money": cents(money),
            "contexts": all, "unknown": unknown,
        }))
    }
}

fn add_up(
    home: &Home,
    context: &Context,
    row: &ResourceRow,
    settings: &Settings,
    (from, to): (Timestamp, Timestamp),
) -> Done<Value> {
    // What is only tried is not switched, and saves nothing.
    let switched = context.scheduling.scheduled && settings.running && !context.scheduling.dry_run;
    let off = match switched {
        true => Plan::of(&context.scheduling).map_err(Refused::Bad)?.seconds_off(from, to),
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
        "contextID": context.id, "from": from, "to": to,
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
    (number * 100.0).round() / 100.0
}

fn check(from: Timestamp, to: Timestamp) -> Done<()> {
    let length = to.as_second().saturating_sub(from.as_second());
    if (1..=LONGEST).contains(&length) {
        return Ok(());
    }
    Err(Refused::Bad("`from` must be before `to`, by at most two years".to_owned()))
}
