//! Machines compared by what is remembered.

use std::sync::{Arc, MutexGuard};

use flotilla_runtime::Failure;
use serde::de::DeserializeOwned;

use super::{Generation, Memory};
use crate::{
    engine::{EdgeStand, Machine, Review, State, Unit},
    job::{CONFLICTS, WRITES, Worker, conflict, restless},
    plans::Known,
    tables::Subject,
};

impl Worker {
    /// Looks at a machine until its problems are what its readings say, at a clock that has come
    /// so far (Unix milliseconds); of an edge, what was said until then is final. What was forgotten
    /// is left to whoever remembers it next.
    pub(in crate::job) async fn compare(
        &self,
        generation: Generation,
        unit: Unit,
        clock: i64,
    ) -> Result<(), Failure> {
        let subject = {
            let memory = self.memory();
            if memory.generation != generation {
                return Err(forgotten());
            }
            memory.subject(unit)
        };
        let name = subject.key();
        let look = async || match unit {
            Unit::Edge(edge) => self.compare_edge(generation, edge, &subject, clock).await,
            Unit::Device(device) => self.compare_device(generation, device, &subject, clock).await,
        };
        match clock {
            0 => self.turns.after_now(&name, look).await,
            // A clock is looked at for itself, by this one.
            _ => self.turns.alone(&name, look).await,
        }
    }

    async fn compare_edge(
        &self,
        generation: Generation,
        edge: usize,
        subject: &Subject,
        until: i64,
    ) -> Result<(), Failure> {
        let (mut conflicts, mut writes) = (0, 0);
        loop {
            let (version, review): (u64, Review<EdgeStand>) = {
                let mut memory = self.memory_of(generation)?;
                if until > 0 {
                    memory.net.outdate(Unit::Edge(edge));
                } else if !memory.net.is_stale(Unit::Edge(edge)) {
                    return Ok(());
                }
                let reviewed = match until {
                    0 => memory.net.review_edge(edge),
                    _ => memory.net.review_quiet_edge(edge, until),
                };
                if !memory.net.is_stale(Unit::Edge(edge)) {
                    return Ok(());
                }
                reviewed
            };
            self.may_write(generation, subject, &mut writes)?;
            if self.write(subject, version, &review).await? {
                self.memory_of(generation)?.net.written_edge(edge, version + 1, review.next);
                continue;
            }
            conflicts += 1;
            let state = self.after_conflict(generation, subject, version, conflicts).await?;
            self.memory_of(generation)?.net.outrun_edge(edge, version, state);
        }
    }

    async fn compare_device(
        &self,
        generation: Generation,
        device: usize,
        subject: &Subject,
        clock: i64,
    ) -> Result<(), Failure> {
        let (mut conflicts, mut writes) = (0, 0);
        loop {
            let (version, review) = {
                let mut memory = self.memory_of(generation)?;
                if clock > 0 {
                    memory.net.outdate(Unit::Device(device));
                } else if !memory.net.is_stale(Unit::Device(device)) {
                    return Ok(());
                }
                let Some(reviewed) = memory.net.review_device(device, clock) else {
                    return Ok(());
                };
                if !memory.net.is_stale(Unit::Device(device)) {
                    return Ok(());
                }
                reviewed
            };
            self.may_write(generation, subject, &mut writes)?;
            if self.write(subject, version, &review).await? {
                self.memory_of(generation)?.net.written_device(device, version + 1, review.next);
                continue;
            }
            conflicts += 1;
            let state = self.after_conflict(generation, subject, version, conflicts).await?;
            self.memory_of(generation)?.net.outrun_device(device, version, state);
        }
    }

    /// Whether what was decided from memory may be written, once more.
    fn may_write(
        &self,
        generation: Generation,
        subject: &Subject,
        writes: &mut u32,
    ) -> Result<(), Failure> {
        *writes += 1;
        if *writes > WRITES {
            return Err(restless(subject));
        }
        self.still(generation.0)
    }

    /// The state after a write was refused though nobody wrote the row: somebody acknowledged a
    /// problem, say. Where somebody did, what is remembered is not what is stored, and is forgotten.
    async fn after_conflict<M: Machine + DeserializeOwned>(
        &self,
        generation: Generation,
        subject: &Subject,
        version: u64,
        conflicts: u32,
    ) -> Result<State<M>, Failure> {
        if conflicts > CONFLICTS {
            return Err(conflict(subject));
        }
        self.outrun(conflicts).await;
        let loaded = self.edges.load::<M>(subject).await?;
        self.still(generation.0)?;
        match loaded {
            Some((stored, state)) if stored == version => Ok(state),
            _ => {
                let mut memory = self.memory_of(generation)?;
                memory.forget((generation.0, generation.1), self.config.limits);
                Err(forgotten())
            }
        }
    }

    pub(super) fn memory_of(
        &self,
        generation: Generation,
    ) -> Result<MutexGuard<'_, Memory>, Failure> {
        let memory = self.memory();
        if memory.generation == generation { Ok(memory) } else { Err(forgotten()) }
    }

    /// Looks at an edge where nothing came for so long that what was said until then (Unix milliseconds)
    /// is final.
    pub(in crate::job) async fn close_sole(
        &self,
        epoch: u64,
        known: &Arc<Known>,
        ends: [&str; 2],
        until: i64,
    ) -> Result<(), Failure> {
        self.remember(epoch, known, &ends).await?;
        let (generation, edge) = {
            let memory = self.memory();
            (memory.generation, memory.net.edge(ends[0], ends[1]))
        };
        match edge {
            Some(edge) => self.compare(generation, Unit::Edge(edge), until).await,
            None => Ok(()),
        }
    }

    /// Looks for devices that are silent now, among those that are expected.
    pub(in crate::job) async fn sweep_sole(
        &self,
        epoch: u64,
        known: &Arc<Known>,
        ids: &[String],
        clock: i64,
    ) -> Result<(), Failure> {
        for some in ids.chunks(64) {
            self.still(epoch)?;
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            self.remember(epoch, known, &some).await?;
        }
        let (generation, overdue) = {
            let memory = self.memory();
            (memory.generation, memory.net.overdue(clock))
        };
        for device in overdue {
            self.compare(generation, Unit::Device(device), clock).await?;
        }
        Ok(())
    }
}

pub(super) fn forgotten() -> Failure {
    Failure::transient("forgotten", "topologies or workers changed: it is compared again")
}
