//! How what is remembered is read.

use std::{collections::HashSet, sync::Arc};

use flotilla_runtime::Failure;
use futures::future::try_join_all;

use crate::{
    engine::{DeviceStand, EdgeStand, State},
    job::{Worker, shared::subject},
    plans::Known,
    reading::Reading,
    tables::Subject,
    topology::Join,
};

/// What is read of a device before it is remembered.
struct Found {
    id: String,
    readings: Vec<Reading>,
    state: Option<(u64, State<DeviceStand>)>,
}

impl Worker {
    /// Reads what is not remembered of devices and their neighbours; nothing is added where all was
    /// forgotten meanwhile.
    pub(in crate::job) async fn remember(
        &self,
        epoch: u64,
        known: &Arc<Known>,
        ids: &[&str],
    ) -> Result<(), Failure> {
        if self.remembers(epoch, known, ids) {
            return Ok(());
        }
        let _one_at_a_time = self.reading.lock().await;
        let (generation, missing): (_, HashSet<&str>) = {
            let mut memory = self.memory();
            let generation = memory.begin(epoch, known, self.config.limits);
            (generation, ids.iter().copied().filter(|id| !memory.has(id)).collect())
        };
        let joins = try_join_all(missing.iter().map(|id| self.joins_of(known, id))).await?;
        let joins: Vec<Arc<Join>> = joins.into_iter().flatten().collect();
        let ends = joins.iter().flat_map(|it| [it.current.as_str(), it.following.as_str()]);
        let needed: HashSet<&str> = missing.iter().copied().chain(ends).collect();
        let needed: Vec<&str> =
            needed.into_iter().filter(|id| self.memory().net.device(id).is_none()).collect();
        let edges = try_join_all(joins.iter().map(async |join| {
            let (current, following) = (join.current.clone(), join.following.clone());
            let state = self.edges.load::<EdgeStand>(&Subject::Edge { current, following }).await?;
            Ok::<_, Failure>((join, state.unwrap_or_default()))
        }));
        let devices = try_join_all(needed.iter().map(|id| self.find(known, id)));
        let (edges, devices) = futures::try_join!(edges, devices)?;
        let mut memory = self.memory();
        if memory.generation != generation {
            // Others began anew meanwhile, by another version of the topologies.
            return Ok(());
        }
        for Found { id, readings, state } in devices {
            memory.net.add_device(&id, known.plan.device(&id).clone(), readings, state);
        }
        for (join, (version, state)) in edges {
            memory.net.add_edge(join, version, state);
        }
        let whole: Vec<_> = missing.iter().filter_map(|id| memory.net.device(id)).collect();
        memory.whole.extend(whole);
        Ok(())
    }

    fn remembers(&self, epoch: u64, known: &Known, ids: &[&str]) -> bool {
        let mut memory = self.memory();
        memory.begin(epoch, known, self.config.limits);
        ids.iter().all(|id| memory.has(id))
    }

    /// The edges of a device whose other end was ever heard, or is named in a topology.
    pub(in crate::job) async fn joins_of(
        &self,
        known: &Known,
        id: &str,
    ) -> Result<Vec<Arc<Join>>, Failure> {
        let mut joins = known.plan.edges_of(id);
        let there = joins.iter().map(async |join| {
            let other = if join.current == id { &join.following } else { &join.current };
            Ok::<_, Failure>(!join.derived || self.is_registered(other).await?)
        });
        let mut there = try_join_all(there).await?.into_iter();
        joins.retain(|_| there.next().unwrap_or(false));
        Ok(joins)
    }

    /// Reads all readings of a device that any of its machines may need.
    async fn find(&self, known: &Known, id: &str) -> Result<Found, Failure> {
        let watched = known.plan.device(id).is_watched();
        let limits = &self.config.limits;
        let joins = self.joins_of(known, id).await?;
        let own = watched.then(|| Subject::Device(id.to_owned()));
        let subjects: Vec<_> = own.into_iter().chain(joins.iter().map(|it| subject(it))).collect();
        let needs = try_join_all(subjects.iter().map(async |subject| match subject {
            Subject::Device(_) => {
                let state = self.edges.load::<DeviceStand>(subject).await?;
                let (version, state) = state.unwrap_or_else(|| (0, known.beginning(id)));
                let needs = state.needs_after(known.plan.device(id), limits);
                Ok::<_, Failure>((needs, Some((version, state))))
            }
            Subject::Edge { current, following } => {
                let (_, state) = self.edges.load::<EdgeStand>(subject).await?.unwrap_or_default();
                let rule = known.plan.rule(current, following);
                Ok((state.needs_after(&rule, limits), None))
            }
        }))
        .await?;
        let after = needs.iter().map(|it| it.0).min();
        let readings = match after {
            Some(after) => {
                let subjects: Vec<_> = subjects.iter().map(Subject::key).collect();
                self.readings.after(id, after, &subjects).await?
            }
            None => self.readings.last(id).await?.into_iter().collect(),
        };
        let state = needs.into_iter().find_map(|it| it.1).filter(|_| watched);
        Ok(Found { id: id.to_owned(), readings, state })
    }
}
