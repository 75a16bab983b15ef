//! How many jobs fit on the machine at a time.

use std::fs;

use crate::config::Reader;

/// The most slots of a worker.
const MOST: usize = 1024;

/// What one job needs while it runs; zero where that is not worth counting.
///
/// A worker gives its kind of job's to [`WorkerConfig::fit`](crate::config::WorkerConfig::fit);
/// `FLOTILLA_JOB_CPUS`, `FLOTILLA_JOB_MEMORY_MIB` and `FLOTILLA_JOB_DISK_MIB` say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Needs {
    /// Processors, as a fraction.
    pub cpus: f64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Disk, in MiB.
    pub disk_mib: u64,
    /// Memory that is taken beside the jobs, however many they are (cells that are kept warm, say),
    /// in MiB.
    pub kept_memory_mib: u64,
}

/// What the machine has.
#[derive(Debug, Clone, Copy)]
struct Machine {
    cpus: f64,
    /// `None` where it does not say.
    memory_mib: Option<f64>,
    disk_mib: Option<f64>,
}

/// One kind of room: what is configured of it, what the machine has, and what a job takes.
struct Room {
    name: &'static str,
    unit: &'static str,
    machine: Option<f64>,
    kept: f64,
    job: &'static str,
    need: f64,
}

/// The slots: `FLOTILLA_SLOTS`, or as many as fit into the room that is configured, whichever is
/// less. Without either, one for each processor.
pub(crate) fn slots(settings: &mut Reader, needs: &Needs) -> usize {
    let machine = Machine::look();
    slots_on(&machine, settings, needs, machine.cpus as usize)
}

/// The same of jobs that need next to nothing; without either, so many.
pub(crate) fn slots_or(settings: &mut Reader, many: usize) -> usize {
    slots_on(&Machine::look(), settings, &Needs::default(), many)
}

fn slots_on(machine: &Machine, settings: &mut Reader, needs: &Needs, many: usize) -> usize {
    settings.knows(&["FLOTILLA_SLOTS"]);
    let mut rooms = rooms(machine, needs);
    for room in &mut rooms {
        room.need = settings.ranged(room.job, room.need, 0.0..=1e9);
    }
    let fits = rooms.each_ref().map(|room| room.fit(settings));
    let given = settings.optional("FLOTILLA_SLOTS").is_some();
    let asked = match fits[0] {
        // As many as the processors that may be used have room for.
        Some(_) if !given => MOST,
        _ => settings.ranged("FLOTILLA_SLOTS", many.max(1), 1..=MOST),
    };
    fits.into_iter().flatten().fold(asked, usize::min).max(1)
}

fn rooms(machine: &Machine, needs: &Needs) -> [Room; 3] {
    let room = |name, unit, machine, job, need| Room { name, unit, machine, kept: 0.0, job, need };
    let (memory, disk) = (machine.memory_mib, machine.disk_mib);
    [
        room("FLOTILLA_CPUS", "processors", Some(machine.cpus), "FLOTILLA_JOB_CPUS", needs.cpus),
        Room {
            kept: needs.kept_memory_mib as f64,
            ..room(
                "FLOTILLA_MEMORY_MIB",
                "MiB of memory",
                memory,
                "FLOTILLA_JOB_MEMORY_MIB",
                needs.memory_mib as f64,
            )
        },
        room(
            "FLOTILLA_DISK_MIB",
            "MiB of disk",
            disk,
            "FLOTILLA_JOB_DISK_MIB",
            needs.disk_mib as f64,
        ),
    ]
}

impl Room {
    /// How many jobs it has room for; `None` where it is no bound. Mistakes are noted.
    fn fit(&self, settings: &mut Reader) -> Option<usize> {
        let Room { name, unit, kept, job, need, .. } = self;
        settings.optional(name)?;
        let room = settings.ranged(name, 0.0, 0.0..=1e9);
        if let Some(has) = self.machine.filter(|has| room > *has) {
            settings.mistake(format!("{name}={room}: this machine has {has:.0} {unit}"));
        }
        if *need <= 0.0 {
            return None;
        }
        // A hair more, since what is left over of a division may be a rounding.
        let count = ((room - kept) / need + 1e-9).floor().max(0.0) as usize;
        if count == 0 {
            let beside =
                if *kept > 0.0 { format!(" beside {kept} that are kept") } else { String::new() };
            settings.mistake(format!("{name}={room}: one job needs {need} {unit}{beside} ({job})"));
        }
        Some(count)
    }
}

impl Machine {
    fn look() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok());
        let limit = limit.and_then(|text| Some(text.trim().parse::<f64>().ok()? / MIB));
        let memory_mib = memory.map(|memory| limit.map_or(memory, |limit| limit.min(memory)));
        let disk = nix::sys::statvfs::statvfs(&std::env::temp_dir()).ok();
        let disk_mib = disk.map(|disk| disk.blocks() as f64 * disk.fragment_size() as f64 / MIB);
        Self { cpus, memory_mib, disk_mib }
    }
}

const MIB: f64 = 1_048_576.0;

/// The total of `/proc/meminfo`, in MiB.
fn total(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MACHINE: Machine =
        Machine { cpus: 8.0, memory_mib: Some(16_384.0), disk_mib: Some(100_000.0) };
    const CELL: Needs = Needs { cpus: 1.0, memory_mib: 256, disk_mib: 0, kept_memory_mib: 256 };

    fn slots(needs: &Needs, pairs: &[(&str, &str)]) -> Result<usize, String> {
        let mut settings = Reader::from_pairs(pairs.iter().copied());
        let slots = slots_on(&MACHINE, &mut settings, needs, MACHINE.cpus as usize);
        settings.finish().map(|()| slots).map_err(|e| e.to_string())
    }

    #[test]
    fn without_room_that_is_configured_there_are_as_many_slots_as_told_or_as_processors() {
        assert_eq!(slots(&CELL, &[]), Ok(8));
        assert_eq!(slots(&CELL, &[("FLOTILLA_SLOTS", "30")]), Ok(30));
    }

    #[test]
    fn the_smallest_room_decides() {
        let memory = ("FLOTILLA_MEMORY_MIB", "1500");
        assert_eq!(slots(&CELL, &[memory]), Ok(4), "1500 less one that is kept warm");
        assert_eq!(slots(&CELL, &[memory, ("FLOTILLA_CPUS", "2.5")]), Ok(2));
        assert_eq!(slots(&CELL, &[memory, ("FLOTILLA_SLOTS", "3")]), Ok(3));
        assert_eq!(slots(&CELL, &[memory, ("FLOTILLA_SLOTS", "64")]), Ok(4));
        let disk = [("FLOTILLA_DISK_MIB", "1000"), ("FLOTILLA_JOB_DISK_MIB", "300")];
        assert_eq!(slots(&CELL, &disk), Ok(3));
        let cpus = [("FLOTILLA_CPUS", "1.5"), ("FLOTILLA_JOB_CPUS", "0.1")];
        assert_eq!(
            slots(&Needs::default(), &cpus),
            Ok(15),
            "more than processors, if they are light"
        );
    }

    #[test]
    fn a_worker_that_waits_for_others_has_more_slots_than_processors_within_its_room() {
        let slots = |pairs: &[(&str, &str)]| {
            slots_on(
                &MACHINE,
                &mut Reader::from_pairs(pairs.iter().copied()),
                &Needs::default(),
                64,
            )
        };
        let room = [("FLOTILLA_MEMORY_MIB", "512"), ("FLOTILLA_JOB_MEMORY_MIB", "128")];
        assert_eq!((slots(&[]), slots(&[("FLOTILLA_SLOTS", "3")]), slots(&room)), (64, 3, 4));
        assert_eq!(
            slots(&[("FLOTILLA_CPUS", "2")]),
            64,
            "a job that takes none of it is not bound"
        );
    }

    #[test]
    fn what_the_machine_does_not_have_and_what_no_job_fits_into_is_reported_by_name() {
        for (name, value) in [
            ("FLOTILLA_CPUS", "9"),
            ("FLOTILLA_MEMORY_MIB", "16385"),
            ("FLOTILLA_DISK_MIB", "100001"),
            ("FLOTILLA_MEMORY_MIB", "511"),
            ("FLOTILLA_CPUS", "0.5"),
            ("FLOTILLA_CPUS", "many"),
            ("FLOTILLA_CPUS", "NaN"),
            ("FLOTILLA_JOB_CPUS", "-1"),
            ("FLOTILLA_MEMORY_MIB", "0"),
        ] {
            let report = slots(&CELL, &[(name, value)]).unwrap_err();
            assert!(report.contains(name), "{name}={value}: {report}");
        }
    }

    proptest! {
        #[test]
        fn what_runs_at_a_time_fits(
            cpus in 0.1f64..8.0, memory in 1u64..16_384, disk in 1u64..100_000,
            job in (0.01f64..2.0, 1u64..4096, 1u64..50_000), asked in prop::option::of(1usize..2000),
        ) {
            let needs = Needs { cpus: job.0, memory_mib: job.1, disk_mib: job.2, kept_memory_mib: 0 };
            let (cpus_text, memory_text, disk_text) =
                (cpus.to_string(), memory.to_string(), disk.to_string());
            let asked = asked.map(|asked| asked.to_string());
            let mut pairs = vec![
                ("FLOTILLA_CPUS", cpus_text.as_str()),
                ("FLOTILLA_MEMORY_MIB", &memory_text),
                ("FLOTILLA_DISK_MIB", &disk_text),
            ];
            pairs.extend(asked.as_deref().map(|asked| ("FLOTILLA_SLOTS", asked)));
            let fits = |slots: usize| {
                slots as f64 * job.0 <= cpus + 1e-6
                    && slots as u64 * job.1 <= memory
                    && slots as u64 * job.2 <= disk
            };
            match slots(&needs, &pairs) {
                Ok(slots) => prop_assert!(fits(slots) && slots <= MOST, "{slots}"),
                Err(report) => prop_assert!(!fits(1) || report.contains("SLOTS"), "{report}"),
            }
        }
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let machine = Machine::look();
        assert!(machine.cpus >= 1.0 && machine.memory_mib.unwrap() > 64.0);
        assert!(machine.disk_mib.unwrap() > 64.0);
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2.0));
    }
}
