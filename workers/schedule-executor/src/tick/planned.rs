//! What a tick or an order comes to: batches, and what is left alone.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::{
    arn::{Arn, Home, Target, short},
    audit::{Entry, expiry},
    message::{BATCH, Batch, BatchItem, Gate, Order},
    plan::{Action, Wanted},
    rows::{Mode, Scheduling, Service, Settings},
};

/// What a tick or an order comes to.
#[derive(Debug)]
pub struct Planned {
    /// Who wants it: `schedule` or `hand`.
    pub actor: &'static str,
    /// To be sent to the worker's own queue.
    pub batches: Vec<Batch>,
    /// What is left alone already now, and why.
    pub entries: Vec<Entry>,
    /// Which bulk action it is.
    pub bulk: String,
    dry_run: bool,
    settings: Settings,
    home: Home,
    /// Which source a resource went to.
    taken: HashMap<Target, String>,
    groups: BTreeMap<GroupKey, Vec<BatchItem>>,
}

/// What all resources of a batch have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    account: String,
    region: String,
    service: Service,
    action: Action,
    occasion: String,
    gate: Option<Gate>,
    keeps_started: bool,
    dry_run: bool,
}

/// One source's wish.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) source: String,
    pub(super) action: Action,
    pub(super) since: Timestamp,
    pub(super) reason: String,
    pub(super) chosen: bool,
    pub(super) who: Option<String>,
    pub(super) occasion: String,
    pub(super) attrib: String,
    pub(super) mode: Mode,
    pub(super) dry_run: bool,
    pub(super) gate: Option<Gate>,
}

impl Wish {
    /// The first act on a transition has its name, so that it happens once however many ticks see
    /// it; what comes after mends drift, once for each tick.
    pub(super) fn scheduled(
        source: String,
        want: Wanted,
        tick: Timestamp,
        row: &Scheduling,
    ) -> Self {
        let occasion = match want.acted {
            false => format!("transition {}", want.since),
            true => format!("tick {tick}"),
        };
        Self {
            source,
            action: Action::towards(want.power),
            since: want.since,
            reason: want.reason,
            chosen: want.chosen,
            who: want.who,
            occasion,
            attrib: String::new(),
            mode: row.mode,
            dry_run: row.dry_run,
            gate: None,
        }
    }

    /// What the order of this name asks for.
    pub(super) fn by_hand(source: String, order: &Order, name: &str, at: Timestamp) -> Self {
        let why = if order.reason.is_empty() { "" } else { ": " };
        Self {
            source,
            action: order.action,
            since: at,
            reason: format!("{} by hand at {at}{why}{}", order.action.name(), order.reason),
            chosen: true,
            who: None,
            occasion: name.to_owned(),
            attrib: order.attrib.clone().unwrap_or_default(),
            mode: Mode::Enforce,
            dry_run: false,
            gate: None,
        }
    }

    /// The same of a stage. It is looked at anew with every tick until those before it are ready,
    /// so its occasion is the tick, and not the transition.
    pub(super) fn staged(self, context: &str, stage: usize, tick: Timestamp) -> Self {
        let occasion = match self.occasion.starts_with("transition ") {
            true => format!("stage {stage} at {tick}"),
            false => self.occasion,
        };
        let gate = Gate { context: context.to_owned(), stage, undone: None };
        Self { occasion, gate: Some(gate), ..self }
    }
}

impl Planned {
    /// Nothing yet.
    pub(super) fn new(
        actor: &'static str,
        bulk: String,
        dry_run: bool,
        settings: Settings,
        home: Home,
    ) -> Self {
        let (batches, entries, taken, groups) =
            (Vec::new(), Vec::new(), HashMap::new(), BTreeMap::new());
        Self { actor, batches, entries, bulk, dry_run, settings, home, taken, groups }
    }

    pub(super) fn arn(&mut self, arn: &str, wish: &Wish, tick: Timestamp) {
        if let Some(service) = Arn::parse(arn).and_then(|arn| arn.service()) {
            self.resource(service, arn, None, wish, tick);
        }
    }

    pub(super) fn resource(
        &mut self,
        service: Service,
        id: &str,
        region: Option<&str>,
        wish: &Wish,
        tick: Timestamp,
    ) {
        let target = match region {
            None => self.home.target(service, id),
            Some(region) => self.home.in_region(region).target(service, id),
        };
        match target {
            Ok(target) => self.target(target, id, wish, tick),
            Err(why) => {
                let name = format!("{}/{}", service.name(), short(id));
                self.left(&name, wish, tick, "no_such_name", &why);
            }
        }
    }

    /// The same of a resource whose whole name is known; `named` is how its source names it.
    pub(super) fn target(&mut self, target: Target, named: &str, wish: &Wish, tick: Timestamp) {
        let key = target.key();
        if let Err(why) = self.home.reaches(&target) {
            let why = format!("{why}: correct it where the resource is named");
            return self.left(&key, wish, tick, "no_region", &why);
        }
        if let Some(entry) = self.settings.never_touched(&target, named, &self.home.account) {
            let why = format!("it is on the never-touch list, as {entry:?}");
            return self.left(&key, wish, tick, "never_touch", &why);
        }
        if let Some(other) = self.taken.get(&target) {
            let why = format!("it goes by {other}");
            return self.left(&key, wish, tick, "goes_by_another", &why);
        }
        self.taken.insert(target.clone(), wish.source.clone());
        let Target { account, region, id, service } = target;
        let key = GroupKey {
            account,
            region,
            service,
            action: wish.action,
            occasion: wish.occasion.clone(),
            gate: wish.gate.clone(),
            keeps_started: wish.mode == Mode::KeepStarted,
            dry_run: self.dry_run || wish.dry_run,
        };
        self.groups.entry(key).or_default().push(BatchItem {
            id,
            source: wish.source.clone(),
            since: wish.since,
            reason: wish.reason.clone(),
            chosen: wish.chosen,
            who: wish.who.clone(),
            attrib: wish.attrib.clone(),
        });
    }

    /// A resource that is left alone.
    pub(super) fn left(
        &mut self,
        resource: &str,
        wish: &Wish,
        tick: Timestamp,
        kind: &'static str,
        why: &str,
    ) {
        let at = format!("{}#{}#{kind}", wish.since, wish.action.name());
        let (source, action) = (wish.source.clone(), wish.action.name());
        self.skip(resource, at, source, action, tick, kind, why);
    }

    /// A source that wants nothing.
    pub(super) fn idle(&mut self, source: &str, tick: Timestamp, kind: &'static str, why: &str) {
        self.skip(source, format!("NONE#{kind}"), source.to_owned(), "NONE", tick, kind, why);
    }

    /// A source of which a part could not be looked at.
    pub(super) fn unseen(
        &mut self,
        source: &str,
        tick: Timestamp,
        kind: &'static str,
        (part, why): (&str, &str),
    ) {
        let at = format!("NONE#{kind}#{part}");
        self.skip(source, at, source.to_owned(), "NONE", tick, kind, why);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of a row")]
    fn skip(
        &mut self,
        resource: &str,
        at: String,
        source: String,
        action: &str,
        tick: Timestamp,
        kind: &'static str,
        why: &str,
    ) {
        self.entries.push(Entry {
            resource: resource.to_owned(),
            at,
            tick: tick.to_string(),
            source,
            actor: self.actor.to_owned(),
            who: String::new(),
            action: action.to_owned(),
            outcome: "skipped",
            kind,
            reason: why.to_owned(),
            account: String::new(),
            bulk: String::new(),
            before: "unknown".to_owned(),
            after: "unknown".to_owned(),
            expires_at: expiry(),
        });
    }

    /// As batches of the clock `tick`, planned for the instant `at`.
    pub(super) fn batched(mut self, tick: Timestamp, at: Timestamp) -> Self {
        for (key, items) in std::mem::take(&mut self.groups) {
            for items in items.chunks(BATCH) {
                self.batches.push(Batch {
                    account: key.account.clone(),
                    region: key.region.clone(),
                    service: key.service,
                    action: key.action,
                    tick,
                    at: (at != tick).then_some(at),
                    actor: self.actor.to_owned(),
                    bulk: self.bulk.clone(),
                    dry_run: key.dry_run,
                    mode: if key.keeps_started { Mode::KeepStarted } else { Mode::Enforce },
                    gate: key.gate.clone(),
                    occasion: key.occasion.clone(),
                    turn: 0,
                    waited: 0,
                    items: items.to_vec(),
                });
            }
        }
        self
    }
}
