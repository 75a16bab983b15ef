//! What a worker does while others write the same tables: it reads whatever it compares.

use std::sync::Arc;

use flotilla_runtime::Failure;
use futures::future::try_join_all;
use serde::{Serialize, de::DeserializeOwned};

use super::{CONFLICTS, Measured, Worker, conflict};
use crate::{
    engine::{DeviceStand, EdgeStand, Kind, Machine, State},
    plans::Known,
    reading::Reading,
    tables::{Said, Subject},
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
        let said = Said::of(self.compared(&joins, device, reading).await?);
        let new = self.readings.store(device, reading, said, self.config.retention).await?;
        // Whoever came since this one was stored is followed by its own comparison.
        let joins = self.joins_of(&known, device).await?;
        let late = match new {
            true => self.late_for(&known, &joins, device, reading).await?,
            false => Vec::new(),
        };
        for join in &joins {
            let subject = subject(join);
            let look = async || {
                let ends = [Some(join.current.as_str()), Some(join.following.as_str())];
                let plain = State::<EdgeStand>::default;
                self.compare_stored(&subject, &join.rule, ends, 0, plain).await
            };
            self.turns.after_now(&subject.key(), look).await?;
        }
        if known.plan.device(device).is_watched() {
            let subject = Subject::Device(device.clone());
            let look = async || self.look_at(&known, device, 0).await;
            self.turns.after_now(&subject.key(), look).await?;
        }
        if !late.is_empty() {
            self.readings.mark_late(device, reading, late, self.config.retention).await?;
            return Ok("late");
        }
        Ok(if new { "stored" } else { "duplicate" })
    }

    /// What is wrong beside the last of the sensors that follow.
    async fn compared(
        &self,
        joins: &[Arc<Join>],
        device: &str,
        reading: &Reading,
    ) -> Result<Option<Option<Kind>>, Failure> {
        let mut found = None;
        for join in joins.iter().filter(|join| join.current == device) {
            let newest = self.readings.newest(&join.following, 1).await?;
            let kind = newest.last().map(|it| join.rule.compare(reading.filling, it.filling));
            found = found.max(kind);
        }
        Ok(found)
    }

    /// The keys of the subjects that a reading comes too late for.
    async fn late_for(
        &self,
        known: &Known,
        joins: &[Arc<Join>],
        device: &str,
        reading: &Reading,
    ) -> Result<Vec<String>, Failure> {
        let edges = try_join_all(joins.iter().map(async |join| {
            let subject = subject(join);
            let (_, state) = self.edges.load::<EdgeStand>(&subject).await?.unwrap_or_default();
            let delay = if join.current == device { join.rule.delay } else { 0 };
            let late = reading.at + delay <= state.settled_until();
            Ok::<_, Failure>(late.then(|| subject.key()))
        }));
        let mut late: Vec<_> = edges.await?.into_iter().flatten().collect();
        if known.plan.device(device).is_watched() {
            let subject = Subject::Device(device.to_owned());
            let own = self.edges.load::<DeviceStand>(&subject).await?;
            let is_late = own.is_some_and(|(_, state)| reading.at <= state.settled_until());
            late.extend(is_late.then(|| subject.key()));
        }
        Ok(late)
    }

    /// Looks at what is looked at of a device alone.
    async fn look_at(&self, known: &Known, device: &str, clock: i64) -> Result<(), Failure> {
        let subject = Subject::Device(device.to_owned());
        let ends = [Some(device), None];
        let rule = known.plan.device(device);
        self.compare_stored(&subject, &**rule, ends, clock, || known.beginning(device)).await
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
        ends: [Option<&str>; 2],
        clock: i64,
        plain: impl Fn() -> State<M>,
    ) -> Result<(), Failure>
    where
        M: Machine + Serialize + DeserializeOwned,
    {
        let (limits, mut conflicts) = (&self.config.limits, 0);
        while conflicts < CONFLICTS {
            let loaded = self.edges.load(subject).await?;
            let (version, state) = loaded.unwrap_or_else(|| (0, plain()));
            let after = state.needs_after(rule, limits);
            let readings = ends.map(async |id| match id {
                Some(id) => self.readings.after(id, after).await,
                None => Ok(Vec::new()),
            });
            let mut readings = try_join_all(readings).await?.into_iter();
            let mut next = || readings.next().unwrap_or_default();
            let at_clock = state.clone().at_clock(clock);
            let review = at_clock.review(rule, limits, next(), next());
            // The clock alone is no reason to write.
            if review.next == at_clock {
                return Ok(());
            }
            if !self.write(subject, version, &review).await? {
                conflicts += 1;
                self.outrun(conflicts).await;
            }
        }
        Err(conflict(subject))
    }

    /// Looks for devices that are silent now, among those that are expected.
    pub(super) async fn sweep_shared(&self, clock: i64) -> Result<(), Failure> {
        let known = self.plans.get().await?;
        let expected: Vec<&str> = known.plan.expected().collect();
        for some in expected.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|device| self.look_at(&known, device, clock))).await?;
        }
        Ok(())
    }
}

pub(super) fn subject(join: &Join) -> Subject {
    Subject::Edge { current: join.current.clone(), following: join.following.clone() }
}
