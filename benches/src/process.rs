//! Processes under test: each on a core of its own, in a process group that is gone with it, and
//! its costs as the kernel counts them.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::{Signal, killpg},
    unistd::{Pid, SysconfVar, sysconf},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
};

use crate::Trouble;

/// The core that the endpoint has.
pub const ENDPOINT_CORE: usize = 0;
/// The core that the consumer under test has.
pub const CONSUMER_CORE: usize = 1;

/// How many of a process's last words are kept.
const LAST_WORDS: usize = 12;

/// A process, with all that it starts.
#[derive(Debug)]
pub struct Process {
    name: String,
    group: Pid,
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
}

/// What a process has cost so far.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds of processor time, in user and kernel, of all processes of the group that live.
    pub cpu: f64,
    /// Resident memory of them, in MiB.
    pub rss: f64,
}

impl Process {
    /// Starts a command on a core, its standard output piped or thrown away.
    ///
    /// # Errors
    /// When it cannot be started; the error names the program.
    pub fn start(mut command: Command, core: usize, output: Stdio) -> Result<Self, Trouble> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let failed = |e: &dyn std::fmt::Display| Trouble::new(format!("cannot start {name}: {e}"));
        let here = sched_getaffinity(Pid::from_raw(0)).map_err(|e| failed(&e))?;
        // Inherited by the child; this thread gets its own back.
        sched_setaffinity(Pid::from_raw(0), &only(core, &here)).map_err(|e| failed(&e))?;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn();
        sched_setaffinity(Pid::from_raw(0), &here).map_err(|e| failed(&e))?;
        let mut child = child.map_err(|e| failed(&e))?;
        let said = child.stderr.take().map(listen).unwrap_or_default();
        let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        Ok(Self { name, group: Pid::from_raw(id), child, said })
    }

    /// The process itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The last lines that it wrote to its standard error.
    pub fn last_words(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().fold(String::new(), |text, line| text + "\n      | " + line)
    }

    /// What the process and those that it started have cost.
    pub fn cost(&self) -> Cost {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as f64;
        let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
        let stats = stats.filter_map(|entry| stat(&entry.path()));
        let ours = stats.filter(|stat| stat.group == self.group.as_raw());
        ours.fold(Cost { cpu: 0.0, rss: 0.0 }, |sum, stat| Cost {
            cpu: sum.cpu + stat.ticks as f64 / ticks,
            rss: sum.rss + stat.pages as f64 * page / 1_048_576.0,
        })
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended meanwhile, which is what the caller waits for.
        let _ = nix::sys::signal::kill(self.group, signal);
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, Trouble> {
        let name = self.name.clone();
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let words = self.last_words();
        let late = |_| Trouble::new(format!("{name} did not end within {limit:?}{words}"));
        let status = ended.map_err(late)?;
        status.map_err(|e| Trouble::new(format!("cannot wait for {name}: {e}")))
    }

    /// Ends the process and all that it started, at once.
    pub async fn kill(mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.child.wait().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A group whose processes have all been waited for may be another's by now.
        if self.child.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

/// Reads what a process says for as long as it says anything, and keeps the end of it.
fn listen(stderr: ChildStderr) -> Arc<Mutex<VecDeque<String>>> {
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let kept = said.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > LAST_WORDS {
                kept.pop_front();
            }
        }
    });
    said
}

/// The core, where this machine has it for us, else any that it has.
fn only(core: usize, here: &CpuSet) -> CpuSet {
    let has = |core: &usize| here.is_set(*core).unwrap_or(false);
    let cores: Vec<_> = (0..CpuSet::count()).filter(has).collect();
    let mut set = CpuSet::new();
    let chosen = cores.get(core % cores.len().max(1)).copied().unwrap_or_default();
    let _ = set.set(chosen);
    set
}

/// How many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load of the machine over the last minute: who else was there while we measured.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

struct Stat {
    group: i32,
    ticks: u64,
    pages: u64,
}

/// Fields of `/proc/PID/stat` (proc(5)): the process group, user and system time, and pages.
fn stat(process: &Path) -> Option<Stat> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything, parentheses too.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        group: fields.get(5 - 3)?.parse().ok()?,
        ticks: number(14)? + number(15)?,
        pages: number(24)?,
    })
}

/// The path of a program that was built with this one.
pub fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new(".")).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_process_and_its_children_cost_is_counted_until_they_are_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said >&2; sh -c 'while :; do :; done' & while :; do :; done"]);
        let process = Process::start(command, CONSUMER_CORE, Stdio::null()).unwrap();
        let group = process.group;
        let spent = async {
            while process.cost().cpu < 0.2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), spent).await.unwrap();
        assert!(process.cost().rss > 0.5, "two shells have more than 0.5 MiB");
        assert_eq!(process.last_words(), "\n      | said");
        process.kill().await;
        let gone = async {
            while killpg(group, None).is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
