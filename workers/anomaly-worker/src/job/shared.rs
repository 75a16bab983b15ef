//! What a worker does while others write the same tables: it reads whatever it compares.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use flotilla_runtime::Failure;
use futures::future::try_join_all;
use serde::{Serialize, de::DeserializeOwned};

use super::{CONFLICTS, Measured, WRITES, Worker, conflict, restless};
use crate::{
    crew::Mode,
    engine::{EdgeStand, Kind, Limits, Machine, State},
    plans::Known,
    reading::Reading,
    tables::{New, Said, Subject},
    topology::Join,
};

/// So many silent devices are looked at together.
const AT_ONCE: usize = 16;

impl Worker {
    /// Stores a reading, and compares what it changes with what is stored.
    pub(super) async fn take_shared(&self, work: &Measured) -> Result<&'static str, Failure> {
        let Measured { device, reading, .. } = work;
        let known = self.plans.get().await?;
        self.register(&[device]).await?;
        let joins = self.joins_of(&known, device).await?;
        let newest = self.newest_of(&joins, device).await?;
        let said = Said::of(compared(&joins, device, reading, &newest));
        let late = self.late_for(&known, &joins, work, Some(&newest)).await?;
        let (new, keep) = (New { device, reading, said }, self.config.retention);
        let is_new = match late.is_empty() {
            true => self.readings.store(new, keep).await?,
            false => self.readings.store_late(new, late.clone(), keep).await?,
        };
        // Whoever came since this one was stored is followed by its own comparison.
        let joins = self.joins_of(&known, device).await?;
        let mut is_late = !late.is_empty();
        if is_new {
            // Others may have moved a base meanwhile.
            let now = self.late_for(&known, &joins, work, None).await?;
            if now.iter().any(|it| !late.contains(it)) {
                self.readings.mark_late(device, reading, now, keep).await?;
                is_late = true;
            }
        }
        for join in &joins {
            let subject = subject(join);
            let look = async || {
                let ends = [Some(join.current.as_str()), Some(join.following.as_str())];
                let plain = State::<EdgeStand>::default;
                let limits = &self.config.limits;
                self.compare_stored(&subject, &join.rule, limits, ends, 0, plain).await
            };
            self.turns.after_now(&subject.key(), look).await?;
        }
        if known.plan.device(device).is_watched() {
            let subject = Subject::Device(device.clone());
            let look = async || self.look_at(&known, device, 0).await;
            self.turns.after_now(&subject.key(), look).await?;
        }
        Ok(match (is_new, is_late) {
            (_, true) => "late",
            (true, false) => "stored",
            (false, false) => "duplicate",
        })
    }

    /// The newest reading of a device and of its neighbours.
    async fn newest_of(
        &self,
        joins: &[Arc<Join>],
        device: &str,
    ) -> Result<HashMap<String, Reading>, Failure> {
        let ends = joins.iter().flat_map(|it| [it.current.as_str(), it.following.as_str()]);
        let ids: BTreeSet<&str> = ends.chain([device]).collect();
        let newest = ids.into_iter().map(async |id| {
            let found = self.readings.newest(id, 1, self.config.limits.lateness).await?;
            Ok::<_, Failure>(found.last().map(|it| (id.to_owned(), *it)))
        });
        Ok(try_join_all(newest).await?.into_iter().flatten().collect())
    }

    /// The keys of the subjects that a reading comes too late for: with the newest readings, all of
    /// them, and their bases are moved beyond it; without, those whose bases are.
    async fn late_for(
        &self,
        known: &Known,
        joins: &[Arc<Join>],
        Measured { device, reading, .. }: &Measured,
        newest: Option<&HashMap<String, Reading>>,
    ) -> Result<Vec<String>, Failure> {
        let time = |id: &str| newest.and_then(|it| Some(it.get(id)?.at));
        let edges = joins.iter().map(async |join| {
            let delay = if join.current == *device { join.rule.delay } else { 0 };
            let horizon = time(&join.current).max(time(&join.following));
            let ends = [Some(join.current.as_str()), Some(join.following.as_str())];
            let plain = State::<EdgeStand>::default;
            let at = reading.at + delay;
            self.is_late(&subject(join), &join.rule, ends, (at, horizon), plain).await
        });
        let mut late: Vec<_> = try_join_all(edges).await?.into_iter().flatten().collect();
        if known.plan.device(device).is_watched() {
            let (subject, rule) = (Subject::Device(device.clone()), known.plan.device(device));
            let (ends, when) = ([Some(device.as_str()), None], (reading.at, time(device)));
            let plain = || known.beginning(device);
            late.extend(self.is_late(&subject, &**rule, ends, when, plain).await?);
        }
        Ok(late)
    }

    /// The key of the subject, if what counts at this time comes too late when the newest reading is
    /// of that one (Unix milliseconds).
    async fn is_late<M>(
        &self,
        subject: &Subject,
        rule: &M::Rule,
        ends: [Option<&str>; 2],
        (at, horizon): (i64, Option<i64>),
        plain: impl Fn() -> State<M>,
    ) -> Result<Option<String>, Failure>
    where
        M: Machine + Serialize + DeserializeOwned,
    {
        let limits = &self.config.limits;
        let state = self.edges.load::<M>(subject).await?.map_or_else(&plain, |it| it.1);
        let settled = at <= state.settled_until();
        if settled || horizon.is_none_or(|it| at > state.late_until(limits, it)) {
            return Ok(settled.then(|| subject.key()));
        }
        let all = Limits { fold: 0, ..*limits };
        let look = async || self.compare_stored(subject, rule, &all, ends, 0, &plain).await;
        self.turns.alone(&subject.key(), look).await?;
        Ok(Some(subject.key()))
    }

    /// Looks at what is looked at of a device alone.
    async fn look_at(&self, known: &Known, device: &str, clock: i64) -> Result<(), Failure> {
        let subject = Subject::Device(device.to_owned());
        let ends = [Some(device), None];
        let rule = known.plan.device(device);
        let (limits, plain) = (&self.config.limits, || known.beginning(device));
        self.compare_stored(&subject, &**rule, limits, ends, clock, plain).await
    }

    /// Looks until the problems are what the readings say.
    ///
    /// The row is read before the readings, and what was written is looked at once more: so of two
    /// workers at one edge, the one that read before the other's reading was stored either finds
    /// the row changed, or is the one who looks again.
    async fn compare_stored<M>(
        &self,
        subject: &Subject,
        rule: &M::Rule,
        limits: &Limits,
        ends: [Option<&str>; 2],
        clock: i64,
        plain: impl Fn() -> State<M>,
    ) -> Result<(), Failure>
    where
        M: Machine + Serialize + DeserializeOwned,
    {
        let (mut conflicts, mut writes) = (0, 0);
        let of = [subject.key()];
        while conflicts < CONFLICTS {
            let loaded = self.edges.load(subject).await?;
            let (version, state) = loaded.unwrap_or_else(|| (0, plain()));
            let after = state.needs_after(rule, limits);
            let readings = ends.map(async |id| match id {
                Some(id) => self.readings.after(id, after, &of).await,
                None => Ok(Vec::new()),
            });
            let mut readings = try_join_all(readings).await?.into_iter();
            let mut next = || readings.next().unwrap_or_default();
            let at_clock = state.clone().at_clock(limits, clock);
            let review = at_clock.review(rule, limits, next(), next());
            // The clock alone is no reason to write.
            if review.next == at_clock {
                return Ok(());
            }
            if !self.write(subject, version, &review).await? {
                conflicts += 1;
                self.outrun(conflicts).await;
            }
            writes += 1;
            if writes > WRITES {
                return Err(restless(subject));
            }
        }
        Err(conflict(subject))
    }

    /// Looks for devices that are silent now, among those that are expected.
    pub(super) async fn sweep_shared(
        &self,
        known: &Known,
        ids: &[String],
        clock: i64,
    ) -> Result<(), Failure> {
        for some in ids.chunks(AT_ONCE) {
            if self.crew.mode() != Mode::Shared {
                break;
            }
            try_join_all(some.iter().map(|device| self.look_at(known, device, clock))).await?;
        }
        Ok(())
    }
}

/// What is wrong beside the last of the sensors that follow.
fn compared(
    joins: &[Arc<Join>],
    device: &str,
    reading: &Reading,
    newest: &HashMap<String, Reading>,
) -> Option<Option<Kind>> {
    let following = joins.iter().filter(|join| join.current == device);
    let compare = |join: &Arc<Join>| {
        let newest = newest.get(&join.following)?;
        Some(join.rule.compare(reading.filling, newest.filling))
    };
    following.filter_map(compare).max()
}

pub(super) fn subject(join: &Join) -> Subject {
    Subject::Edge { current: join.current.clone(), following: join.following.clone() }
}
