//! Readings that are nearly too late, or are.
//!
//! A base may pass such a reading while it is stored, and then nobody compares it: it is late, and that
//! must be written, or a replay would compare it. So it is stored in the turn of its machines, in one
//! transaction with their rows: a worker that is killed or replaced at any time leaves a reading that
//! is marked late, or one that whoever moves a base has read, or none.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::TransactWriteItem;
use flotilla_runtime::Failure;

use super::{Generation, Memory, compare::forgotten};
use crate::{
    engine::{Arrival, Unit},
    job::{MACHINES, Measured, Worker},
    tables::{Kept, New, Said},
};

/// How a reading is to be stored.
struct Plan {
    said: Said,
    /// The keys of the machines that it comes too late for, and whether these are all.
    late: (Vec<String>, bool),
    /// What it comes nearly too late for, and what writes their rows again.
    machines: Vec<(Unit, TransactWriteItem)>,
}

impl Worker {
    /// Stores and takes what is nearly too late, or is, and says what came of it. None where what is
    /// remembered is to be looked at once more.
    pub(super) async fn store_nearly_late(
        &self,
        epoch: u64,
        work: &[&Measured],
    ) -> Result<Option<Vec<Option<&'static str>>>, Failure> {
        let Some(nearly) = self.nearly_late(work) else { return Ok(None) };
        let mut done = vec![None; work.len()];
        for place in nearly {
            done[place] = self.store_in_turn(epoch, work[place]).await?;
            if done[place].is_none() {
                return Ok(None);
            }
        }
        Ok(Some(done))
    }

    /// The places of what is not known and nearly too late; none where a device is not remembered.
    fn nearly_late(&self, work: &[&Measured]) -> Option<Vec<usize>> {
        let (memory, mut places) = (self.memory(), Vec::new());
        for (place, Measured { device, reading, .. }) in work.iter().enumerate() {
            let number = memory.net.device(device)?;
            let nearly = !memory.net.nearly_late_for(number, reading.at).is_empty();
            places.extend((nearly && !memory.net.knows(number, reading)).then_some(place));
        }
        Some(places)
    }

    /// Stores a reading, and takes it, while nobody compares its machines from memory.
    async fn store_in_turn(
        &self,
        epoch: u64,
        work: &Measured,
    ) -> Result<Option<&'static str>, Failure> {
        let Some((generation, names)) = self.memory().machines_of(&work.device) else {
            return Ok(None);
        };
        let _turns = self.turns.hold(&names).await;
        self.still(epoch)?;
        let Some(Plan { said, late, machines }) = self.plan(generation, work)? else {
            return Ok(None);
        };
        let (units, rows): (Vec<_>, Vec<_>) = machines.into_iter().unzip();
        let new = New { device: &work.device, reading: &work.reading, said };
        let (late, out) = late;
        let is_late = !late.is_empty();
        let kept = self.readings.store_with(new, late, self.config.retention, rows).await?;
        if kept == Kept::Outrun {
            self.outrun(1).await;
        }
        self.still(epoch)?;
        let mut memory = self.memory_of(generation)?;
        match kept {
            // What is remembered is not what is stored.
            Kept::Outrun => {
                memory.forget((generation.0, generation.1), self.config.limits);
                return Ok(None);
            }
            Kept::New => units.into_iter().for_each(|unit| memory.net.written_again(unit)),
            Kept::There => {}
        }
        // A reading of a number that is not compared must not make others its duplicates.
        if !out {
            memory.hear(work);
        }
        let other = if kept == Kept::New { "stored" } else { "duplicate" };
        Ok(Some(if is_late { "late" } else { other }))
    }

    /// How a reading is to be stored; none where a base is to be moved first.
    fn plan(&self, generation: Generation, work: &Measured) -> Result<Option<Plan>, Failure> {
        let (memory, at) = (self.memory_of(generation)?, work.reading.at);
        let Some(number) = memory.net.device(&work.device) else { return Ok(None) };
        if memory.net.late_for(number, at).iter().any(|it| !it.1) {
            return Ok(None);
        }
        let nearly = memory.net.nearly_late_for(number, at).into_iter();
        let nearly = nearly.filter(|it| !it.1).map(|it| it.0).take(MACHINES);
        let machines = nearly.map(|unit| Ok((unit, self.again(&memory, unit)?)));
        let machines = machines.collect::<Result<_, Failure>>()?;
        let said = Said::of(memory.net.compare(number, work.reading.filling, |_| None));
        Ok(Some(Plan { said, late: memory.late_for(number, at), machines }))
    }

    /// What writes the row of a machine again.
    fn again(&self, memory: &Memory, unit: Unit) -> Result<TransactWriteItem, Failure> {
        let (subject, version) = (memory.subject(unit), memory.net.version(unit));
        match unit {
            Unit::Edge(edge) => self.edges.again(&subject, version, memory.net.edge_state(edge)),
            Unit::Device(device) => {
                let state = memory.net.device_state(device).ok_or_else(forgotten)?;
                self.edges.again(&subject, version, state)
            }
        }
    }
}

impl Memory {
    /// The keys of the machines of a device, if it is remembered.
    fn machines_of(&self, device: &str) -> Option<(Generation, BTreeSet<String>)> {
        let units = self.net.units(self.net.device(device)?).into_iter();
        Some((self.generation, units.map(|it| self.subject(it).key()).collect()))
    }

    /// Takes a reading that is stored.
    pub(super) fn hear(&mut self, Measured { device, reading, .. }: &Measured) {
        let Some(number) = self.net.device(device) else { return };
        if self.net.take(number, *reading).arrival != Arrival::Duplicate {
            self.net.trim(number);
        }
    }
}
