//! What schedules save: the hours that nothing runs, by the decision that ticks act on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schedule_executor::{
    arn::Target,
    plan::Plan,
    rows::{Context, ResourceRow, Settings},
};
use serde_json::{Value, json};

use super::{
    Schedules,
    ops::{Done, Refused},
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
        self.add_up(&context, &row, &self.store.settings().await?, (from, to))
    }

    /// The same of every context.
    pub(super) async fn savings(&self, from: Timestamp, to: Timestamp) -> Done<Value> {
        check(from, to)?;
        let settings = self.store.settings().await?;
        let (mut all, mut hours, mut money) = (Vec::new(), 0.0, 0.0);
        for context in self.store.contexts().await? {
            let row = self.store.resources(&context.id).await?;
            // One whose schedule is broken saves nothing, and does not hide what others do.
            let Ok(saved) = self.add_up(&context, &row, &settings, (from, to)) else { continue };
            hours += saved["hoursAvoided"].as_f64().unwrap_or_default();
            money += saved["money"].as_f64().unwrap_or_default();
            all.push(saved);
        }
        Ok(json!({
            "from": from, "to": to, "hoursAvoided": cents(hours), "money": cents(money), "contexts": all,
        }))
    }

    fn add_up(
        &self,
        context: &Context,
        row: &ResourceRow,
        settings: &Settings,
        (from, to): (Timestamp, Timestamp),
    ) -> Done<Value> {
        let off = match context.scheduling.scheduled && settings.running {
            true => Plan::of(&context.scheduling).map_err(Refused::Bad)?.seconds_off(from, to),
            false => 0,
        };
        let hours = off as f64 / 3600.0;
        let mut kinds = BTreeMap::<&str, Kind>::new();
        for (service, list) in &row.lists {
            for (id, scheduled) in list.id.iter().zip(&list.scheduled) {
                let Ok(target) = Target::resolve(*service, id, &self.region) else { continue };
                let key = target.key();
                if !*scheduled || settings.never_touched(&key, &target.id, id).is_some() {
                    continue;
                }
                let price = settings.price(*service, &key, &target.id);
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
