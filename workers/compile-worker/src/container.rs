//! A container of one use: what goes into it, and what it answers.

use std::io;

use flotilla_runtime::Failure;
use flotilla_sandbox::{BuildLimits, Builder, Built, Ending, Started};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::{Fault, Stopped, sandbox_failure};

/// How a container ends that somebody else ended: its input broke off, by SIGKILL, by SIGTERM, and
/// unknown. What is built cannot end it so: `build.py` and `crate.py` say 1 where that does.
const KILLED: [i64; 4] = [75, 137, 143, -1];

/// A container that runs already, and waits for what it is to do: it costs its start while the
/// source and the requirements are fetched.
#[derive(Debug)]
pub(crate) struct Waiting {
    started: Started,
    limits: BuildLimits,
}

/// What a container answered: the object at the head of its output, and the bytes behind it.
pub(crate) struct Answer<T> {
    pub(crate) head: T,
    pub(crate) bytes: Vec<u8>,
}

impl Waiting {
    pub(crate) async fn start(builder: &Builder, limits: &BuildLimits) -> Result<Self, Stopped> {
        Self::start_to(builder, limits, &[]).await
    }

    /// One that is told to do something else than to build.
    pub(crate) async fn start_to(
        builder: &Builder,
        limits: &BuildLimits,
        what: &[&str],
    ) -> Result<Self, Stopped> {
        let arguments = what.iter().map(|it| (*it).to_owned()).collect();
        let started = builder.start(arguments, limits.clone()).await;
        let started = started.map_err(|e| Stopped::Ours(sandbox_failure(e)))?;
        Ok(Self { started, limits: limits.clone() })
    }

    /// Hands it what it is to do; gives the log, and the answer or why there is none.
    pub(crate) async fn run<T: DeserializeOwned>(
        self,
        input: Vec<u8>,
        live: UnboundedSender<Vec<u8>>,
    ) -> Result<(Vec<u8>, Result<Answer<T>, Fault>), Stopped> {
        let built = Box::pin(self.started.run(input, Some(live))).await;
        let built = built.map_err(|e| Stopped::Ours(sandbox_failure(e)))?;
        let (wall_ms, started_ms) = (built.wall.as_millis(), built.started_after.as_millis());
        tracing::info!(ending = ?built.ending, wall_ms, started_ms, "a build ended");
        if let Ending::Exited(status) = built.ending
            && KILLED.contains(&status)
        {
            let what = format!("the container of a build was ended from outside (exit {status})");
            return Err(Stopped::Ours(Failure::transient("container_killed", what)));
        }
        let outcome = outcome(&built, &self.limits);
        Ok((built.log, outcome))
    }
}

/// An input with its length before it.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes(), bytes].concat()
}

/// The tar of a plan and these files, with its length before it.
///
/// # Errors
/// When a path is no path in a tar.
pub(crate) fn packed<'f>(
    plan: &impl Serialize,
    files: impl Iterator<Item = (String, &'f [u8])>,
) -> io::Result<Vec<u8>> {
    // The length goes first, and is known last.
    let mut tar = tar::Builder::new(vec![0; 8]);
    add(&mut tar, "plan.json", &serde_json::to_vec(plan)?)?;
    for (path, bytes) in files {
        add(&mut tar, &path, bytes)?;
    }
    let mut input = tar.into_inner()?;
    let length = (input.len() - 8) as u64;
    input[..8].copy_from_slice(&length.to_be_bytes());
    Ok(input)
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, bytes)
}

fn outcome<T: DeserializeOwned>(built: &Built, limits: &BuildLimits) -> Result<Answer<T>, Fault> {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let reason = match built.ending {
        Ending::Exited(0) => {
            let (head, bytes) = answer(&built.result)?;
            return Ok(Answer { head, bytes: bytes.to_vec() });
        }
        Ending::Exited(status) => reason(&built.log, status),
        Ending::OutOfMemory => {
            format!("the build needs more than {} of memory", mib(limits.memory_bytes))
        }
        Ending::TimedOut => {
            format!("the build took over {} s (FLOTILLA_BUILD_SECONDS)", limits.wall.as_secs())
        }
        Ending::LogOverflow => {
            format!("the build wrote over {} of log", mib(limits.log_bytes as u64))
        }
        Ending::ResultOverflow => {
            format!("the result has over {}", mib(limits.result_bytes as u64))
        }
    };
    Err(Fault { reason, overtime: built.ending == Ending::TimedOut })
}

/// The object at the head of a container's output, and the bytes behind it.
pub(crate) fn answer<T: DeserializeOwned>(output: &[u8]) -> Result<(T, &[u8]), String> {
    let short = || "the container did not answer".to_owned();
    let (length, rest) = output.split_first_chunk::<8>().ok_or_else(short)?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|e| e.to_string())?;
    let (text, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((serde_json::from_slice(text).map_err(|e| e.to_string())?, rest))
}

/// The line of a log that says most about a failure.
fn reason(log: &[u8], status: i64) -> String {
    let text = String::from_utf8_lossy(log);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty()).rev();
    let telling = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains("error:") || line.starts_with("error") || line.contains("exception:")
    };
    let line = lines().find(telling).or_else(|| lines().next());
    let line = line.unwrap_or("it said nothing");
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    format!("the build failed (exit {status}): {line}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_reason_is_the_last_line_that_tells() {
        let log = b"x.c:1: fatal error: a.h: No such file\ncompilation terminated.\n  \n";
        let why = "the build failed (exit 1): x.c:1: fatal error: a.h: No such file";
        assert_eq!(reason(log, 1), why);
        assert_eq!(reason(b"one\ntwo\n", 2), "the build failed (exit 2): two");
        assert_eq!(reason(b"", 2), "the build failed (exit 2): it said nothing");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let mut output = 14_u64.to_be_bytes().to_vec();
        output.extend_from_slice(b"{\"a\":\"bcdefg\"}rest");
        let whole: (BTreeMap<String, String>, &[u8]) = answer(&output).unwrap();
        assert_eq!((whole.0["a"].as_str(), whole.1), ("bcdefg", b"rest".as_slice()));
        for cut in 0..22 {
            assert!(answer::<BTreeMap<String, String>>(&output[..cut]).is_err(), "{cut}");
        }
    }
}
