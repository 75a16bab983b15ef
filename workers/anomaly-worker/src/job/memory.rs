//! What a worker remembers while it has the tables to itself.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use flotilla_runtime::Failure;
use futures::future::try_join_all;
use serde::de::DeserializeOwned;

use super::{Measured, Worker, shared::subject};
use crate::{
    engine::{Arrival, DeviceStand, EdgeStand, Limits, Machine, Net, Review, State, Unit},
    plans::Known,
    reading::Reading,
    tables::{New, Said, Subject},
    topology::Join,
};

/// With more devices than this all are forgotten, and read again.
const DEVICES: usize = 200_000;
/// How often readings are taken again when all was forgotten meanwhile.
const TIMES: usize = 5;

/// Which time of being sole, which version of the topologies, and how often all was forgotten.
type Generation = (u64, u64, u64);

/// The network, as long as this worker has the tables to itself and the topologies do not change.
#[derive(Debug)]
pub(super) struct Memory {
    generation: Generation,
    net: Net,
    /// The devices whose machines are all there.
    whole: HashSet<usize>,
}

/// What is read of a device before it is remembered.
struct Found {
    id: String,
    readings: Vec<Reading>,
    state: Option<(u64, State<DeviceStand>)>,
}

/// What came of a reading before it is compared.
struct Stored {
    what: &'static str,
    /// Whether it came too late for all machines of its device.
    out: bool,
}

/// What is to be done once readings are taken.
struct Taken {
    generation: Generation,
    /// What is to be looked at again.
    stale: Vec<Unit>,
    /// Readings, by their place in the batch, that others made late while they were stored; and for
    /// what.
    late: Vec<(usize, Vec<String>)>,
}

impl Memory {
    pub(super) fn new(limits: Limits) -> Self {
        Self { generation: (0, 0, 0), net: Net::new(limits), whole: HashSet::new() }
    }

    /// Forgets all that is of another generation, or too much.
    fn begin(&mut self, epoch: u64, known: &Known, limits: Limits) -> Generation {
        let (old_epoch, version, _) = self.generation;
        if (old_epoch, version) != (epoch, known.version) || self.net.len() > DEVICES {
            self.forget((epoch, known.version), limits);
        }
        self.generation
    }

    fn forget(&mut self, (epoch, version): (u64, u64), limits: Limits) {
        self.generation = (epoch, version, self.generation.2 + 1);
        (self.net, self.whole) = (Net::new(limits), HashSet::new());
    }

    fn has(&self, id: &str) -> bool {
        self.net.device(id).is_some_and(|device| self.whole.contains(&device))
    }

    /// The keys of the machines of a device that do not compare a reading any more, and whether
    /// these are all it has.
    fn late_for(&self, device: usize, at: i64) -> (Vec<String>, bool) {
        let late = self.net.late_for(device, at).into_iter().filter(|it| it.1);
        let late: Vec<_> = late.map(|it| self.subject(it.0).key()).collect();
        let out = !late.is_empty() && late.len() == self.net.units(device).len();
        (late, out)
    }

    fn subject(&self, unit: Unit) -> Subject {
        match unit {
            Unit::Edge(edge) => {
                let ends = self.net.ends(edge);
                let [current, following] = ends.map(|end| self.net.id(end).to_string());
                Subject::Edge { current, following }
            }
            Unit::Device(device) => Subject::Device(self.net.id(device).to_string()),
        }
    }
}

impl Worker {
    /// Stores readings, and compares what they change with what is remembered.
    pub(super) async fn take_sole(
        &self,
        epoch: u64,
        work: &[&Measured],
    ) -> Result<Vec<&'static str>, Failure> {
        let ids: Vec<&str> = work.iter().map(|it| it.device.as_str()).collect();
        self.register(&ids).await?;
        for _ in 0..TIMES {
            let known = self.plans.get().await?;
            self.remember(epoch, &known, &ids).await?;
            if !self.settle(work).await? {
                continue;
            }
            let Some(stored) = self.store_new(work).await? else { continue };
            self.still(epoch)?;
            let Some(taken) = self.push(work, &stored) else { continue };
            let keep = self.config.retention;
            let marks = taken.late.into_iter().map(|(place, of)| {
                let Measured { device, reading, .. } = work[place];
                self.readings.mark_late(device, reading, of, keep)
            });
            try_join_all(marks).await?;
            let looks = taken.stale.iter().map(|unit| self.compare(taken.generation, *unit, 0));
            try_join_all(looks).await?;
            return Ok(stored.into_iter().map(|it| it.what).collect());
        }
        let what = "what was remembered was forgotten again and again: are there other workers?";
        Err(Failure::transient("forgotten", what))
    }

    /// Moves the bases of the machines that readings come too late for, so that these are not
    /// compared; `false` where the devices are not remembered any more.
    async fn settle(&self, work: &[&Measured]) -> Result<bool, Failure> {
        let (generation, units) = {
            let mut memory = self.memory();
            let mut units = BTreeSet::new();
            for Measured { device, reading, .. } in work {
                let Some(number) = memory.net.device(device) else { return Ok(false) };
                if !memory.net.knows(number, reading) {
                    let late = memory.net.late_for(number, reading.at).into_iter();
                    units.extend(late.filter(|it| !it.1).map(|it| it.0));
                }
            }
            units.iter().for_each(|unit| memory.net.settle(*unit));
            (memory.generation, units)
        };
        try_join_all(units.into_iter().map(|unit| self.compare(generation, unit, 0))).await?;
        Ok(true)
    }

    /// Stores what is not known yet; says of each reading what came of it. None where the devices
    /// are not remembered any more.
    async fn store_new(&self, work: &[&Measured]) -> Result<Option<Vec<Stored>>, Failure> {
        let (mut stored, mut new, mut late) = (Vec::new(), Vec::new(), Vec::new());
        {
            let memory = self.memory();
            let mut newer: HashMap<usize, Reading> = HashMap::new();
            let mut keys = HashSet::new();
            for Measured { device, reading, .. } in work {
                let Some(number) = memory.net.device(device) else { return Ok(None) };
                if memory.net.knows(number, reading) || !keys.insert((device, reading.key())) {
                    stored.push(Stored { what: "duplicate", out: false });
                    continue;
                }
                let level = |it: usize| newer.get(&it).map(|it| it.filling);
                let said = Said::of(memory.net.compare(number, reading.filling, level));
                let (late_for, out) = memory.late_for(number, reading.at);
                let what = if late_for.is_empty() { "stored" } else { "late" };
                stored.push(Stored { what, out });
                match late_for.is_empty() {
                    true => new.push(New { device, reading, said }),
                    false => late.push((New { device, reading, said }, late_for)),
                }
                let before = newer.entry(number).or_insert(*reading);
                if before.order(reading).is_lt() {
                    *before = *reading;
                }
            }
        }
        // What is settled is not remembered, so only the table can tell whether it was there.
        let keep = self.config.retention;
        let late = late.into_iter().map(|(new, of)| self.readings.store_late(new, of, keep));
        futures::try_join!(self.readings.store_all(&new, keep), try_join_all(late))?;
        Ok(Some(stored))
    }

    /// Takes readings that are stored; what is to be looked at again because of them, or because
    /// it was not yet since they were stored the first time.
    fn push(&self, work: &[&Measured], stored: &[Stored]) -> Option<Taken> {
        let mut memory = self.memory();
        let (mut devices, mut late) = (HashSet::new(), Vec::new());
        for (place, (Measured { device, reading, .. }, stored)) in
            work.iter().zip(stored).enumerate()
        {
            let number = memory.net.device(device)?;
            devices.insert(number);
            // A reading of a number that is not compared must not make others its duplicates.
            if stored.out {
                continue;
            }
            if stored.what == "stored" {
                let (of, _) = memory.late_for(number, reading.at);
                late.extend((!of.is_empty()).then_some((place, of)));
            }
            // What is late for one machine may be in time for another.
            if memory.net.take(number, *reading).arrival != Arrival::Duplicate {
                memory.net.trim(number);
            }
        }
        let units = devices.into_iter().flat_map(|it| memory.net.units(it));
        let mut stale: Vec<_> = units.filter(|unit| memory.net.is_stale(*unit)).collect();
        stale.sort_unstable();
        stale.dedup();
        Some(Taken { generation: memory.generation, stale, late })
    }

    /// Reads what is not remembered of devices and their neighbours; nothing is added where all was
    /// forgotten meanwhile.
    pub(super) async fn remember(
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
    pub(super) async fn joins_of(
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
            None => self.readings.newest(id, 1, limits.lateness).await?,
        };
        let state = needs.into_iter().find_map(|it| it.1).filter(|_| watched);
        Ok(Found { id: id.to_owned(), readings, state })
    }

    /// Looks at a machine until its problems are what its readings say, at a clock that has come
    /// so far (Unix milliseconds). What was forgotten is left to whoever remembers it next.
    pub(super) async fn compare(
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
            Unit::Edge(edge) => self.compare_edge(generation, edge, &subject).await,
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
    ) -> Result<(), Failure> {
        let (mut conflicts, mut writes) = (0, 0);
        loop {
            let (version, review): (u64, Review<EdgeStand>) = {
                let mut memory = self.memory_of(generation)?;
                if !memory.net.is_stale(Unit::Edge(edge)) {
                    return Ok(());
                }
                let reviewed = memory.net.review_edge(edge);
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
        if *writes > super::WRITES {
            return Err(super::restless(subject));
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
        if conflicts > super::CONFLICTS {
            return Err(super::conflict(subject));
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

    fn memory_of(
        &self,
        generation: Generation,
    ) -> Result<std::sync::MutexGuard<'_, Memory>, Failure> {
        let memory = self.memory();
        if memory.generation == generation { Ok(memory) } else { Err(forgotten()) }
    }

    /// Looks for devices that are silent now, among those that are expected.
    pub(super) async fn sweep_sole(
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

fn forgotten() -> Failure {
    Failure::transient("forgotten", "topologies or workers changed: it is compared again")
}
