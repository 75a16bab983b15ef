//! The cell's own control group: CPU time used and processes killed for want of memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{Failed, Stage as _};

/// Open counters of either cgroup version.
pub(super) struct Cgroup {
    version: &'static str,
    cpu: File,
    memory: File,
}

/// Places to look: version, CPU counter, out-of-memory counter.
const PLACES: [(&str, &str, &str); 3] = [
    ("v2", "cpu.stat", "memory.events"),
    ("v1", "cpuacct/cpuacct.usage", "memory/memory.oom_control"),
    ("v1", "cpu,cpuacct/cpuacct.usage", "memory/memory.oom_control"),
];

impl Cgroup {
    /// Finds the counters below `/sys/fs/cgroup`.
    pub(super) fn open() -> Result<Self, Failed> {
        let mut last = Err(nix::errno::Errno::ENOENT).stage("cgroup");
        for (version, cpu, memory) in PLACES {
            last = Self::open_at(version, cpu, memory).stage("open the cgroup's counters");
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn open_at(version: &'static str, cpu: &str, memory: &str) -> std::io::Result<Self> {
        let open = |name: &str| File::open(format!("/sys/fs/cgroup/{name}"));
        Ok(Self { version, cpu: open(cpu)?, memory: open(memory)? })
    }

    /// `v1` or `v2`.
    pub(super) fn version(&self) -> &'static str {
        self.version
    }

    /// CPU time of everything in the cell since it started, in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        let text = read(&self.cpu);
        match self.version {
            "v1" => text.trim().parse::<u64>().unwrap_or(0) / 1_000,
            _ => field(&text, "usage_usec"),
        }
    }

    /// Processes killed for want of memory since the cell started.
    pub(super) fn oom_kills(&self) -> u64 {
        field(&read(&self.memory), "oom_kill")
    }
}

/// The small file's current text; these files are made anew at every read from their start.
fn read(file: &File) -> String {
    let mut bytes = [0; 4096];
    let n = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

/// The number after `key` in lines of `key value`, or 0.
fn field(text: &str, key: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 1\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "oom"), 0);
        assert_eq!(field("usage_usec 17\nuser_usec 3\n", "usage_usec"), 17);
    }
}
