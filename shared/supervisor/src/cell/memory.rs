//! The memory of a run's processes while they live.

use std::fs;

use nix::unistd::Pid;

/// The largest resident set that any process but this one and the run's first (a copy of this one)
/// has had so far, in bytes. A cell does one run at a time, so all others are of that run. Processes
/// that ended before are not seen: this is for a run that is about to be killed, of which nobody
/// will tell, and as good as can be had where the cgroup's own mark cannot be reset.
pub(super) fn largest(first: Pid) -> u64 {
    let ours = [std::process::id().to_string(), first.to_string()];
    let of_the_run =
        |name: &String| name.bytes().all(|b| b.is_ascii_digit()) && !ours.contains(name);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(of_the_run);
    let status = |pid| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    pids.filter_map(status).map(|status| high_water_mark(&status)).max().unwrap_or(0)
}

/// `VmHWM`, which a process without memory of its own (a zombie) does not have, in bytes.
fn high_water_mark(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_in_bytes_and_nothing_for_a_zombie() {
        assert_eq!(
            high_water_mark("Name:\tVmHWM: 1\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"),
            2 << 20
        );
        assert_eq!(high_water_mark("Name:\tpython3\nState:\tZ (zombie)\n"), 0);
    }
}
