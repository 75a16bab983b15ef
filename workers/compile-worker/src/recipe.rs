//! The steps of one build of a Python package: what goes into the container, and what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    container::{Answer, Waiting, packed},
    error::{Fault, Stopped},
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
    /// Whether its platform tag was found out by looking at what it links, and not said by the
    /// package.
    pub repaired: bool,
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
    Wheel {
        filename: String,
        size: usize,
        #[serde(default)]
        repaired: bool,
    },
    Requires {
        requires: Vec<String>,
    },
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
pub(crate) async fn compile(
    container: Waiting,
    job: Job<'_>,
    resolved: &Resolved,
    live: UnboundedSender<Vec<u8>>,
) -> Result<(Vec<u8>, Result<Compiled, Fault>), Stopped> {
    let input = input(job, resolved)
        .map_err(|e| Stopped::theirs(format!("the source cannot be handed in: {e}")))?;
    let (log, answer) = container.run(input, live).await?;
    Ok((log, answer.and_then(|answer| Ok(outcome(answer)?))))
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
    let wheels = resolved.wheels.iter();
    let wheels = wheels.map(|(file, bytes)| (format!("wheels/{}", file.filename), &**bytes));
    packed(&plan, [("source.tar.gz".to_owned(), archive)].into_iter().chain(wheels))
}

fn outcome(answer: Answer<Outcome>) -> Result<Compiled, String> {
    let Answer { head, bytes } = answer;
    match head {
        Outcome::Requires { requires } => Ok(Compiled::Requires(requires)),
        Outcome::Wheel { filename, size, repaired } if bytes.len() == size => {
            Ok(Compiled::Wheel(Wheel { filename, bytes, repaired }))
        }
        Outcome::Wheel { .. } => Err("the build did not hand out the whole wheel".to_owned()),
    }
}
