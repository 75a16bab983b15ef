//! A tick: what every schedule wants now, as batches.

mod planned;
mod undo;

use std::{collections::HashMap, sync::Arc};

use flotilla_runtime::Failure;
use jiff::Timestamp;

pub use self::planned::Planned;
use self::planned::Wish;
use crate::{
    arn::Target,
    audit::Audit,
    handlers::{Limits, Places, Refusal, tagging::tagged},
    message::Order,
    plan::{Action, wanted},
    rows::{Context, ResourceRow, Service, Settings, Tag, stage_of},
    store::Store,
};

/// What stands behind a tick or an order.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The tables.
    pub store: Store,
    /// The audit, for what is undone.
    pub audit: Audit,
    /// Accounts and regions, for the tagging service.
    pub places: Places,
    /// The rates of all services.
    pub limits: Arc<Limits>,
    /// Where tags are looked up.
    pub regions: Vec<String>,
    /// The other accounts in which they are.
    pub tag_accounts: Vec<String>,
    /// The region of ids that are no ARNs.
    pub home: String,
    /// Whether nothing is switched at all.
    pub dry_run: bool,
}

impl Sources {
    /// Plans a tick of the clock `tick`, with the schedules' state at `at`.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub async fn tick(
        &self,
        settings: Settings,
        tick: Timestamp,
        at: Timestamp,
        dry_run: bool,
    ) -> Result<Planned, Failure> {
        let running = settings.running;
        let bulk = format!("tick {tick}");
        let mut planned = Planned::new("schedule", bulk, dry_run || self.dry_run, settings);
        if !running {
            planned.idle("scheduler", tick, "scheduler_stopped", "the scheduler is stopped");
            return Ok(planned);
        }
        let mut resources = self.all_resources().await?;
        for mut context in self.store.contexts().await? {
            let row = resources.remove(&context.id).unwrap_or_default();
            if context.scheduling.ready_by {
                context.scheduling.lead = self.lead(&context, &row).await?;
            }
            let source = format!("context/{}", context.id);
            match wanted(&context.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick, &context.scheduling);
                    self.context(&context, &row, &wish, tick, &mut planned);
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        for tag in self.store.tags().await? {
            let source = format!("tag/{}", tag.key);
            match wanted(&tag.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick, &tag.scheduling);
                    self.tag(&tag, &wish, tick, &mut planned).await?;
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        Ok(planned.batched(tick))
    }

    async fn all_resources(&self) -> Result<HashMap<String, ResourceRow>, Failure> {
        let rows = self.store.all_resources().await?.into_iter().filter_map(|row| {
            let context = row.get("contextID")?.as_str()?.to_owned();
            Some((context.clone(), ResourceRow::from_json(&context, &row)?))
        });
        Ok(rows.collect())
    }

    /// How long a context takes to be ready: its stages one after the other, each as long as its
    /// slowest resource. What is new is kept with the context, where the preview finds it.
    async fn lead(&self, context: &Context, row: &ResourceRow) -> Result<i64, Failure> {
        let mut stages = HashMap::<String, usize>::new();
        for (service, list) in &row.lists {
            for id in &list.id {
                if let Ok(target) = Target::resolve(*service, id, &self.home) {
                    stages.insert(target.key(), stage_of(&context.stages, *service, id));
                }
            }
        }
        let keys: Vec<String> = stages.keys().cloned().collect();
        let mut longest = HashMap::<usize, i64>::new();
        for (key, held) in self.store.held(&keys).await? {
            let stage = longest.entry(stages[&key]).or_default();
            *stage = (*stage).max(held.lead);
        }
        let lead = longest.values().sum();
        if lead != context.scheduling.lead {
            let fields = serde_json::json!({ "leadSeconds": lead });
            self.store.set_context(&context.id, &fields).await?;
        }
        Ok(lead)
    }

    /// Plans an order, which came in the message `id`.
    ///
    /// # Errors
    /// Permanent, when it names a context or tag that is not registered.
    pub async fn order(&self, order: &Order, id: &str, at: Timestamp) -> Result<Planned, Failure> {
        let dry_run = order.dry_run || self.dry_run;
        let settings = self.store.settings().await?;
        let mut planned = Planned::new("hand", id.to_owned(), dry_run, settings);
        let wish = |source: String| Wish::by_hand(source, order, id, at);
        let on = order.action == Action::Start;
        if let Some(name) = &order.context {
            let context =
                self.store.context(name).await?.ok_or_else(|| nothing("context", name))?;
            if !dry_run {
                self.store.context_by_hand(name, on, at).await?;
            }
            let row = self.store.resources(name).await?;
            self.context(&context, &row, &wish(format!("context/{name}")), at, &mut planned);
        }
        if let Some(key) = &order.tag {
            let tag = self.store.tag(key).await?.ok_or_else(|| nothing("tag", key))?;
            if !dry_run {
                self.store.tag_by_hand(key, on, at).await?;
            }
            self.tag(&tag, &wish(format!("tag/{key}")), at, &mut planned).await?;
        }
        if let Some(service) = order.service {
            let region = order.region.as_deref().unwrap_or(&self.home);
            for id in &order.ids {
                planned.resource(service, id, region, &wish("ids".to_owned()), at);
            }
        }
        Ok(planned.batched(at))
    }

    fn context(
        &self,
        context: &Context,
        row: &ResourceRow,
        wish: &Wish,
        tick: Timestamp,
        planned: &mut Planned,
    ) {
        for (service, list) in &row.lists {
            for (index, id) in list.id.iter().enumerate() {
                if !list.scheduled.get(index).copied().unwrap_or(true) {
                    let named = named(*service, id, &self.home);
                    let why = "it is taken out of its context's schedule";
                    planned.left(&named, wish, tick, "taken_out", why);
                    continue;
                }
                let attrib = list.attrib.get(index).cloned().unwrap_or_default();
                let wish = Wish { attrib, ..wish.clone() };
                let wish = match context.stages.is_empty() {
                    true => wish,
                    false => {
                        wish.staged(&context.id, stage_of(&context.stages, *service, id), tick)
                    }
                };
                planned.resource(*service, id, &self.home, &wish, tick);
            }
        }
        if row.lists.iter().all(|(_, list)| list.id.is_empty()) {
            planned.idle(&wish.source, tick, "empty", "it has no resources");
        }
    }

    async fn tag(
        &self,
        tag: &Tag,
        wish: &Wish,
        tick: Timestamp,
        planned: &mut Planned,
    ) -> Result<(), Failure> {
        if tag.values.is_empty() {
            planned.idle(&wish.source, tick, "empty", "it has no values");
            return Ok(());
        }
        let own = String::new();
        for account in std::iter::once(&own).chain(&self.tag_accounts) {
            for region in &self.regions {
                match self.tagged(account, region, tag).await {
                    Ok(arns) => arns.iter().for_each(|arn| planned.arn(arn, wish, tick)),
                    Err(why) if why.passes() => return Err(lookup(tag, region, &why)),
                    Err(why) => {
                        let what = lookup(tag, region, &why).to_string();
                        planned.idle(&wish.source, tick, why.kind, &what);
                    }
                }
            }
        }
        Ok(())
    }

    async fn tagged(&self, account: &str, region: &str, tag: &Tag) -> Result<Vec<String>, Refusal> {
        let sdk = self.places.at(account, region).await?;
        // The tagging service has one limit for all kinds; EC2's stands for it.
        let caller = self.limits.caller(&format!("tags of {account}"), region, Service::Ec2);
        tagged(&sdk, &caller, tag).await
    }
}

fn nothing(what: &str, name: &str) -> Failure {
    let message = format!("{what} {name:?} is not registered: register it, or correct the order");
    Failure::permanent("not_registered", message)
}

fn lookup(tag: &Tag, region: &str, why: &Refusal) -> Failure {
    let (key, message) = (&tag.key, &why.message);
    Failure::transient("tagging", format!("looking up tag {key} in {region}: {message}"))
}

fn named(service: Service, id: &str, home: &str) -> String {
    let resolved = Target::resolve(service, id, home);
    resolved.map_or_else(|_| format!("{}/{id}", service.name()), |target| target.key())
}
