//! A tick: what every schedule wants now, as batches.

mod lead;
mod planned;
mod tags;
mod undo;

use std::{collections::HashMap, sync::Arc};

use flotilla_runtime::Failure;
use jiff::Timestamp;

pub use self::planned::Planned;
use self::planned::Wish;
use crate::{
    arn::{Home, short},
    audit::Audit,
    handlers::{Limits, Places},
    message::Order,
    plan::{Action, wanted},
    rows::{Context, ResourceRow, Scheduling, Service, Settings, stage_of},
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
    /// Where ids are that are no ARNs.
    pub home: Home,
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
        let mut planned = self.planned("schedule", bulk, dry_run, settings);
        if !running {
            planned.idle("scheduler", tick, "scheduler_stopped", "the scheduler is stopped");
            return Ok(planned);
        }
        self.contexts(tick, at, &mut planned).await?;
        let (tags, broken) = self.store.tags().await?;
        broken.iter().for_each(|key| unreadable(&format!("tag/{key}"), tick, &mut planned));
        let mut wishes = Vec::new();
        for mut tag in tags {
            self.know_lead_of_tag(&mut tag).await?;
            let source = format!("tag/{}", tag.key);
            match wanted(&tag.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick, &tag.scheduling);
                    wishes.push((tag, wish));
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        self.tags(&wishes, tick, &mut planned).await;
        Ok(planned.batched(tick, at))
    }

    /// What a tick that is older than one that was worked comes to: nothing, and the reason.
    pub fn past(&self, settings: Settings, tick: Timestamp) -> Planned {
        let newest = Timestamp::from_second(settings.last_tick).unwrap_or_default();
        let mut planned = self.planned("schedule", format!("tick {tick}"), false, settings);
        let why = format!("the tick of {tick} is older than that of {newest}, which was worked");
        planned.idle("scheduler", tick, "old_tick", &why);
        planned
    }

    fn planned(
        &self,
        actor: &'static str,
        bulk: String,
        dry_run: bool,
        settings: Settings,
    ) -> Planned {
        Planned::new(actor, bulk, dry_run || self.dry_run, settings, self.home.clone())
    }

    async fn contexts(
        &self,
        tick: Timestamp,
        at: Timestamp,
        planned: &mut Planned,
    ) -> Result<(), Failure> {
        let mut resources = self.all_resources().await?;
        let (contexts, broken) = self.store.contexts().await?;
        broken.iter().for_each(|id| unreadable(&format!("context/{id}"), tick, planned));
        for mut context in contexts {
            let source = format!("context/{}", context.id);
            let Some(row) =
                resources.remove(&context.id).unwrap_or_else(|| Some(Default::default()))
            else {
                unreadable(&source, tick, planned);
                continue;
            };
            self.know_lead(&mut context, &row).await?;
            match wanted(&context.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick, &context.scheduling);
                    self.context(&context, &row, &wish, tick, planned);
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        Ok(())
    }

    /// The resources of each context; none where its row cannot be read.
    async fn all_resources(&self) -> Result<HashMap<String, Option<ResourceRow>>, Failure> {
        let rows = self.store.all_resources().await?.into_iter().filter_map(|row| {
            let context = row.get("contextID")?.as_str()?.to_owned();
            Some((context.clone(), ResourceRow::from_json(&context, &row)))
        });
        Ok(rows.collect())
    }

    /// Plans an order, which was sent at `sent` in the message `id`.
    ///
    /// # Errors
    /// Permanent, when it names a context or tag that is not registered.
    pub async fn order(
        &self,
        order: &Order,
        id: &str,
        sent: Timestamp,
    ) -> Result<Planned, Failure> {
        let settings = self.store.settings().await?;
        let (name, given) = (order.name(id), order.given(sent));
        let at = Timestamp::from_second(given.as_second()).unwrap_or(given);
        let mut planned = self.planned("hand", name.clone(), order.dry_run, settings);
        let wish = |source: &str| Wish::by_hand(source.to_owned(), order, &name, at);
        if let Some(id) = &order.context {
            let source = format!("context/{id}");
            let mut context = self.store.context(id).await?.ok_or_else(|| nothing(&source))?;
            match self.overtaken(&source, &mut context.scheduling, order, given).await? {
                Some(why) => planned.idle(&source, at, "superseded", &why),
                None => {
                    let row = self.store.resources(id).await?;
                    let wish = Wish { dry_run: context.scheduling.dry_run, ..wish(&source) };
                    self.context(&context, &row, &wish, at, &mut planned);
                }
            }
        }
        if let Some(key) = &order.tag {
            let source = format!("tag/{key}");
            let mut tag = self.store.tag(key).await?.ok_or_else(|| nothing(&source))?;
            match self.overtaken(&source, &mut tag.scheduling, order, given).await? {
                Some(why) => planned.idle(&source, at, "superseded", &why),
                None => {
                    let wish = Wish { dry_run: tag.scheduling.dry_run, ..wish(&source) };
                    self.tags(&[(tag, wish)], at, &mut planned).await;
                }
            }
        }
        if let Some(service) = order.service {
            for id in &order.ids {
                planned.resource(service, id, order.region.as_deref(), &wish("ids"), at);
            }
        }
        Ok(planned.batched(at, at))
    }

    /// Notes an order with the context or tag that it is for. Gives why it does not count any more,
    /// where a hand, an override or a rule came after it: orders come late, and in any sequence.
    async fn overtaken(
        &self,
        source: &str,
        row: &mut Scheduling,
        order: &Order,
        given: Timestamp,
    ) -> Result<Option<String>, Failure> {
        // Nor is it noted where all is only tried: it is to switch nothing later either.
        if order.dry_run || self.dry_run || row.dry_run {
            return Ok(None);
        }
        let (on, exact) = (order.action == Action::Start, given.as_millisecond());
        // Who sent it may have noted it already.
        if row.hand_at != Some(exact) {
            let ends = row.over.as_ref().is_some_and(|over| over.from <= given.as_second());
            if !self.store.by_hand(source, on, given, ends).await? {
                let why = format!("the order of {given} came after one that was given later");
                return Ok(Some(why));
            }
            row.over = row.over.take().filter(|_| !ends);
            (row.power_by_hand, row.by_hand) = (Some(on), Some(given.as_second()));
            row.hand_at = Some(exact);
        }
        let now = wanted(row, Timestamp::now().max(given)).ok();
        let other = now.filter(|want| Action::towards(want.power) != order.action);
        Ok(other.map(|want| format!("since the order of {given} it is to be {}", want.reason)))
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
                    let named = self.named(*service, id);
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
                planned.resource(*service, id, None, &wish, tick);
            }
        }
        if row.lists.iter().all(|(_, list)| list.id.is_empty()) {
            planned.idle(&wish.source, tick, "empty", "it has no resources");
        }
    }

    fn named(&self, service: Service, id: &str) -> String {
        let resolved = self.home.target(service, id);
        let named = |_| format!("{}/{}", service.name(), short(id));
        resolved.map_or_else(named, |target| target.key())
    }
}

fn nothing(source: &str) -> Failure {
    let message = format!("{source} is not registered: register it, or correct the order");
    Failure::permanent("not_registered", message)
}

fn unreadable(source: &str, tick: Timestamp, planned: &mut Planned) {
    let why = "its row cannot be read: register it anew";
    planned.idle(source, tick, "unreadable", why);
}
