//! The steps of one build: what goes into the container, and what comes out.

use std::collections::BTreeMap;

use flotilla_sandbox::{Build, BuildLimits, Builder, Built, Ending};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    error::{Stopped, sandbox_failure},
    options::Options,
    resolve::Resolved,
    sdist::Source,
};

/// A wheel as it came out, unchecked.
#[derive(Debug, Clone)]
pub struct Wheel {
    /// Its name.
    pub filename: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Plan<'a> {
    backend: &'a str,
    backend_path: &'a [String],
    config: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    vendored: &'a [String],
    requires: &'a [String],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Outcome {
    Wheel { filename: String, size: usize },
    Requires { requires: Vec<String> },
}

/// What a container came to.
#[derive(Debug, Clone)]
pub enum Compiled {
    /// A wheel.
    Wheel(Wheel),
    /// Nothing yet: the build backend wants these requirements beside those that it was given.
    Requires(Vec<String>),
}

/// A source, and how it is to be compiled.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The archive.
    pub archive: &'a [u8],
    /// What it says of itself.
    pub source: &'a Source,
    /// The options.
    pub options: &'a Options,
}

/// Builds a source in a container of its own; gives the log, and the wheel or why there is none.
///
/// # Errors
/// Only ours.
pub async fn compile(
    builder: &Builder,
    limits: &BuildLimits,
    job: Job<'_>,
    resolved: &Resolved,
    live: UnboundedSender<Vec<u8>>,
) -> Result<(Vec<u8>, Result<Compiled, String>), Stopped> {
    let input = input(job, resolved)
        .map_err(|e| Stopped::theirs(format!("the source cannot be handed in: {e}")))?;
    let build = Build { arguments: Vec::new(), input, limits: limits.clone(), live: Some(live) };
    let built = builder.run(build).await.map_err(|e| Stopped::Ours(sandbox_failure(e)))?;
    let (wall_ms, started_ms) = (built.wall.as_millis(), built.started_after.as_millis());
    tracing::info!(ending = ?built.ending, wall_ms, started_ms, "a build ended");
    let outcome = outcome(&built, limits);
    Ok((built.log, outcome))
}

fn input(job: Job<'_>, resolved: &Resolved) -> std::io::Result<Vec<u8>> {
    let Job { archive, source, options } = job;
    let mut env = options.environment();
    env.insert("SOURCE_DATE_EPOCH".to_owned(), source.newest.to_string());
    let plan = Plan {
        backend: &source.backend,
        backend_path: &source.backend_path,
        config: options.config_settings(),
        env,
        vendored: &resolved.vendored,
        requires: &resolved.lock.requires,
    };
    // The length of the tar goes first, and is known last.
    let mut tar = tar::Builder::new(vec![0; 8]);
    add(&mut tar, "plan.json", &serde_json::to_vec(&plan)?)?;
    add(&mut tar, "source.tar.gz", archive)?;
    for (file, bytes) in &resolved.wheels {
        add(&mut tar, &format!("wheels/{}", file.filename), bytes)?;
    }
    let mut input = tar.into_inner()?;
    let length = (input.len() - 8) as u64;
    input[..8].copy_from_slice(&length.to_be_bytes());
    Ok(input)
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, bytes)
}

fn outcome(built: &Built, limits: &BuildLimits) -> Result<Compiled, String> {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    match built.ending {
        Ending::Exited(0) => {
            let (outcome, bytes): (Outcome, _) = answer(&built.result)?;
            match outcome {
                Outcome::Requires { requires } => Ok(Compiled::Requires(requires)),
                Outcome::Wheel { filename, size } if bytes.len() == size => {
                    Ok(Compiled::Wheel(Wheel { filename, bytes: bytes.to_vec() }))
                }
                Outcome::Wheel { .. } => {
                    Err("the build did not hand out the whole wheel".to_owned())
                }
            }
        }
        Ending::Exited(status) => Err(reason(&built.log, status)),
        Ending::OutOfMemory => {
            Err(format!("the build needs more than {} of memory", mib(limits.memory_bytes)))
        }
        Ending::TimedOut => Err(format!("the build took over {} s", limits.wall.as_secs())),
        Ending::LogOverflow => {
            Err(format!("the build wrote over {} of log", mib(limits.log_bytes as u64)))
        }
        Ending::ResultOverflow => {
            Err(format!("the wheel has over {}", mib(limits.result_bytes as u64)))
        }
    }
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
