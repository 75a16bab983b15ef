//! What a worker remembers while it has the tables to itself.

mod compare;
mod nearly;
mod read;

use std::collections::{BTreeSet, HashMap, HashSet};

use flotilla_runtime::Failure;
use futures::future::try_join_all;

use super::{Measured, Worker};
use crate::{
    engine::{Limits, Net, Unit},
    plans::Known,
    reading::Reading,
    tables::{New, Said, Subject},
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

/// What came of a reading before it is compared.
struct Stored {
    what: &'static str,
    /// Whether nothing is left to be taken of it.
    taken: bool,
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
            let Some(done) = self.store_nearly_late(epoch, work).await? else { continue };
            let Some(stored) = self.store_new(work, &done).await? else { continue };
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

    /// Stores what is not known yet and was not [done](Self::store_nearly_late); says of each reading
    /// what came of it. None where the devices are not remembered any more, or one is late by now.
    async fn store_new(
        &self,
        work: &[&Measured],
        done: &[Option<&'static str>],
    ) -> Result<Option<Vec<Stored>>, Failure> {
        let (mut stored, mut new) = (Vec::new(), Vec::new());
        {
            let memory = self.memory();
            let mut newer: HashMap<usize, Reading> = HashMap::new();
            let mut keys = HashSet::new();
            for (Measured { device, reading, .. }, done) in work.iter().zip(done) {
                let Some(number) = memory.net.device(device) else { return Ok(None) };
                if let Some(what) = done {
                    stored.push(Stored { what, taken: true });
                    continue;
                }
                if memory.net.knows(number, reading) || !keys.insert((device, reading.key())) {
                    stored.push(Stored { what: "duplicate", taken: false });
                    continue;
                }
                if !memory.net.late_for(number, reading.at).is_empty() {
                    return Ok(None);
                }
                let level = |it: usize| newer.get(&it).map(|it| it.filling);
                let said = Said::of(memory.net.compare(number, reading.filling, level));
                stored.push(Stored { what: "stored", taken: false });
                new.push(New { device, reading, said });
                let before = newer.entry(number).or_insert(*reading);
                if before.order(reading).is_lt() {
                    *before = *reading;
                }
            }
        }
        self.readings.store_all(&new, self.config.retention).await?;
        Ok(Some(stored))
    }

    /// Takes readings that are stored; what is to be looked at again because of them, or because
    /// it was not yet since they were stored the first time.
    fn push(&self, work: &[&Measured], stored: &[Stored]) -> Option<Taken> {
        let mut memory = self.memory();
        let (mut devices, mut late) = (HashSet::new(), Vec::new());
        for (place, (work, stored)) in work.iter().zip(stored).enumerate() {
            let number = memory.net.device(&work.device)?;
            devices.insert(number);
            if stored.taken {
                continue;
            }
            if stored.what == "stored" {
                let (of, _) = memory.late_for(number, work.reading.at);
                late.extend((!of.is_empty()).then_some((place, of)));
            }
            memory.hear(work);
        }
        let units = devices.into_iter().flat_map(|it| memory.net.units(it));
        let mut stale: Vec<_> = units.filter(|unit| memory.net.is_stale(*unit)).collect();
        stale.sort_unstable();
        stale.dedup();
        Some(Taken { generation: memory.generation, stale, late })
    }
}
