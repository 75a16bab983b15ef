//! A tick: what every schedule wants now, as batches.

use std::collections::{BTreeMap, HashMap};

use aws_config::SdkConfig;
use flotilla_runtime::Failure;
use jiff::Timestamp;

use crate::{
    arn::{Arn, Target},
    audit::{Entry, expiry},
    handlers::{Refusal, tagging::tagged},
    message::{BATCH, Batch, BatchItem, Order},
    plan::{Action, Wanted, wanted},
    rows::{Context, Service, Tag},
    store::Store,
};

/// What stands behind a tick or an order.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The tables.
    pub store: Store,
    /// The SDK, for the tagging service.
    pub sdk: SdkConfig,
    /// Where tags are looked up.
    pub regions: Vec<String>,
    /// The region of ids that are no ARNs.
    pub home: String,
}

/// What a tick or an order comes to.
#[derive(Debug, Default)]
pub struct Planned {
    /// Who wants it: `schedule` or `hand`.
    pub actor: &'static str,
    /// To be sent to the worker's own queue.
    pub batches: Vec<Batch>,
    /// What is left alone already now, and why.
    pub entries: Vec<Entry>,
    /// Which source a resource went to.
    taken: HashMap<Target, String>,
    groups: BTreeMap<GroupKey, Vec<BatchItem>>,
}

/// Account, region, kind, action and occasion.
type GroupKey = (String, String, Service, Action, String);

/// One source's wish.
#[derive(Debug, Clone)]
struct Wish {
    source: String,
    action: Action,
    since: Timestamp,
    reason: String,
    occasion: String,
    attrib: String,
}

impl Sources {
    /// Plans a tick of the clock `tick`, with the schedules' state at `at`.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub async fn tick(&self, tick: Timestamp, at: Timestamp) -> Result<Planned, Failure> {
        let mut planned = Planned { actor: "schedule", ..Planned::default() };
        if !self.store.running().await? {
            planned.idle("scheduler", tick, "scheduler_stopped", "the scheduler is stopped");
            return Ok(planned);
        }
        for context in self.store.contexts().await? {
            let source = format!("context/{}", context.id);
            match wanted(&context.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick);
                    self.context(&context, &wish, tick, &mut planned).await?;
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        for tag in self.store.tags().await? {
            let source = format!("tag/{}", tag.key);
            match wanted(&tag.scheduling, at) {
                Ok(want) => {
                    let wish = Wish::scheduled(source, want, tick);
                    self.tag(&tag, &wish, tick, &mut planned).await?;
                }
                Err(why) => planned.idle(&source, tick, "not_wanted", &why),
            }
        }
        Ok(planned.batched(tick))
    }

    /// Plans an order, which came in the message `id`.
    ///
    /// # Errors
    /// Permanent, when it names a context or tag that is not registered.
    pub async fn order(&self, order: &Order, id: &str, at: Timestamp) -> Result<Planned, Failure> {
        let mut planned = Planned { actor: "hand", ..Planned::default() };
        let reason = format!("{} by hand at {at}", order.action.name());
        let wish = |source: String| Wish {
            source,
            action: order.action,
            since: at,
            reason: reason.clone(),
            occasion: id.to_owned(),
            attrib: order.attrib.clone().unwrap_or_default(),
        };
        let on = order.action == Action::Start;
        if let Some(name) = &order.context {
            let context =
                self.store.context(name).await?.ok_or_else(|| nothing("context", name))?;
            self.store.context_by_hand(name, on, at).await?;
            let wish = wish(format!("context/{name}"));
            self.context(&context, &wish, at, &mut planned).await?;
        }
        if let Some(key) = &order.tag {
            let tag = self.store.tag(key).await?.ok_or_else(|| nothing("tag", key))?;
            self.store.tag_by_hand(key, on, at).await?;
            let wish = wish(format!("tag/{key}"));
            self.tag(&tag, &wish, at, &mut planned).await?;
        }
        if let Some(service) = order.service {
            let region = order.region.as_deref().unwrap_or(&self.home);
            let wish = wish("ids".to_owned());
            for id in &order.ids {
                planned.resource(service, id, region, &wish, at);
            }
        }
        Ok(planned.batched(at))
    }

    async fn context(
        &self,
        context: &Context,
        wish: &Wish,
        tick: Timestamp,
        planned: &mut Planned,
    ) -> Result<(), Failure> {
        let row = self.store.resources(&context.id).await?;
        for (service, list) in &row.lists {
            for (id, scheduled) in list.id.iter().zip(&list.scheduled) {
                match scheduled {
                    true => planned.resource(*service, id, &self.home, wish, tick),
                    false => {
                        let why = "it is taken out of its context's schedule";
                        let name = named(*service, id, &self.home);
                        planned.left(&name, wish, tick, "taken_out", why);
                    }
                }
            }
        }
        if row.lists.iter().all(|(_, list)| list.id.is_empty()) {
            planned.idle(&wish.source, tick, "empty", "it has no resources");
        }
        Ok(())
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
        for region in &self.regions {
            match tagged(&self.sdk, region, tag).await {
                Ok(arns) => arns.iter().for_each(|arn| planned.arn(arn, wish, tick)),
                Err(why) if why.passes() => return Err(lookup(tag, region, &why)),
                Err(why) => {
                    planned.idle(
                        &wish.source,
                        tick,
                        why.kind,
                        &lookup(tag, region, &why).to_string(),
                    );
                }
            }
        }
        Ok(())
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

impl Wish {
    /// The first act on a transition has its name, so that it happens once however many ticks see
    /// it; what comes after mends drift, once for each tick.
    fn scheduled(source: String, want: Wanted, tick: Timestamp) -> Self {
        let occasion = match want.acted {
            false => format!("transition {}", want.since),
            true => format!("tick {tick}"),
        };
        let action = Action::towards(want.power);
        let attrib = String::new();
        Self { source, action, since: want.since, reason: want.reason, occasion, attrib }
    }
}

impl Planned {
    fn arn(&mut self, arn: &str, wish: &Wish, tick: Timestamp) {
        if let Some(service) = Arn::parse(arn).and_then(|arn| arn.service()) {
            self.resource(service, arn, "", wish, tick);
        }
    }

    fn resource(&mut self, service: Service, id: &str, region: &str, wish: &Wish, tick: Timestamp) {
        let target = match Target::resolve(service, id, region) {
            Ok(target) => target,
            Err(why) => {
                let name = format!("{}/{id}", service.name());
                return self.left(&name, wish, tick, "no_such_name", &why);
            }
        };
        // The account is not told by a plain id, so it does not count here.
        let place = Target { account: String::new(), ..target.clone() };
        if let Some(other) = self.taken.get(&place) {
            let why = format!("it goes by {other}");
            return self.left(&target.key(), wish, tick, "goes_by_another", &why);
        }
        self.taken.insert(place, wish.source.clone());
        let Target { account, region, id, .. } = target;
        let key = (account, region, service, wish.action, wish.occasion.clone());
        self.groups.entry(key).or_default().push(BatchItem {
            id,
            source: wish.source.clone(),
            since: wish.since,
            reason: wish.reason.clone(),
            attrib: wish.attrib.clone(),
        });
    }

    /// A resource that is left alone.
    fn left(
        &mut self,
        resource: &str,
        wish: &Wish,
        tick: Timestamp,
        kind: &'static str,
        why: &str,
    ) {
        self.entries.push(Entry {
            resource: resource.to_owned(),
            at: format!("{}#{}#{kind}", wish.since, wish.action.name()),
            tick: tick.to_string(),
            source: wish.source.clone(),
            actor: self.actor.to_owned(),
            action: wish.action.name().to_owned(),
            outcome: "skipped",
            kind,
            reason: why.to_owned(),
            before: "unknown".to_owned(),
            after: "unknown".to_owned(),
            expires_at: expiry(),
        });
    }

    /// A source that wants nothing.
    fn idle(&mut self, source: &str, tick: Timestamp, kind: &'static str, why: &str) {
        self.entries.push(Entry {
            resource: source.to_owned(),
            at: format!("NONE#{kind}"),
            tick: tick.to_string(),
            source: source.to_owned(),
            actor: self.actor.to_owned(),
            action: "NONE".to_owned(),
            outcome: "skipped",
            kind,
            reason: why.to_owned(),
            before: "unknown".to_owned(),
            after: "unknown".to_owned(),
            expires_at: expiry(),
        });
    }

    fn batched(mut self, tick: Timestamp) -> Self {
        for ((account, region, service, action, occasion), items) in
            std::mem::take(&mut self.groups)
        {
            for items in items.chunks(BATCH) {
                self.batches.push(Batch {
                    account: account.clone(),
                    region: region.clone(),
                    service,
                    action,
                    tick,
                    actor: self.actor.to_owned(),
                    occasion: occasion.clone(),
                    items: items.to_vec(),
                });
            }
        }
        self
    }
}
