//! A row of the table: what is known of a request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Request;
use crate::{ecosystem, options::Options};

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The table's key of the package, `pypi/markupsafe`.
    pub package: String,
    /// The version that was asked for.
    pub version: String,
    /// The canonical option set.
    pub options: String,
    /// The request key.
    pub request: String,
    /// What the request key is the hash of.
    pub parts: Value,
    /// Which try it is.
    pub epoch: u64,
    /// When it was last sent, in Unix seconds.
    pub ordered_at: u64,
    /// When it ended, in Unix seconds.
    pub ended_at: Option<u64>,
    /// When somebody last got it, in Unix seconds.
    pub downloaded_at: Option<u64>,
    /// Since when it is to be deleted, in Unix seconds.
    pub marked_at: Option<u64>,
    /// What became of it.
    pub state: State,
    /// What it is built with, once that is chosen.
    pub lock: Option<Lock>,
    /// How much of the log of the running build there is.
    pub live: Option<Live>,
    /// Whether building it twice gave the same.
    pub verdict: Option<Verdict>,
    /// Whether the message of this try is known to be on the queue.
    pub sent: bool,
    /// The groups that wait for its end.
    pub groups: BTreeSet<String>,
    /// Of an artifact that another try of its request has overtaken, the key of what stands in its
    /// place: of the artifact, or of the request where that is not built.
    pub overtaken_by: Option<String>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It waits, or is being built.
    Ordered,
    /// It is built.
    Done(Artifact),
    /// It cannot be built.
    Failed(Failed),
}

/// An artifact in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The artifact key.
    pub artifact: String,
    /// What the artifact key is the hash of.
    pub parts: BTreeMap<String, Value>,
    /// The file's name.
    pub filename: String,
    /// The key of the object.
    pub blob: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// The key of the log.
    pub log: String,
    /// The key of its metadata, as an object of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// The build requirements as they were said, those that only the build itself named included.
    pub requires: Vec<String>,
    /// SHA-256 of each library inside that was not built, but brought along, by its path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bundled: BTreeMap<String, String>,
    /// From the receipt of the order to the artifact, in milliseconds.
    pub build_ms: u64,
}

/// Why there is no artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// In words for the one who asked.
    pub reason: String,
    /// Whether it was our fault and not the package's.
    pub ours: bool,
    /// The key of the log, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// From when on it may be tried again, in Unix seconds.
    pub retry_at: u64,
}

/// What a build is given, chosen once and kept until a retry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lock {
    /// The requirements that the choice satisfies.
    pub requires: Vec<String>,
    /// The wheels.
    pub wheels: Vec<Locked>,
}

/// A wheel that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// Its name.
    pub filename: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Where it is fetched from; nothing for a wheel of the builder image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What came of building an artifact a second time with the same requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is the same, bit by bit.
    pub reproducible: bool,
    /// SHA-256 of the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why there is no second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was built, in Unix seconds.
    pub at: u64,
}

/// The log of a running build: objects in the bucket, one for every second in which it spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// The generation of the worker that builds.
    pub generation: u64,
    /// How many there are.
    pub pieces: u64,
}

impl State {
    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
        }
    }
}

impl Lock {
    /// SHA-256 of each wheel by file name.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let hash = |wheel: &Locked| (wheel.filename.clone(), wheel.sha256.clone());
        self.wheels.iter().map(hash).collect()
    }
}

impl Row {
    /// The package manager's world, and the package's name in it.
    pub fn named(&self) -> (&str, &str) {
        self.package.split_once('/').unwrap_or(("", &self.package))
    }

    /// The request that the row is of; `None` for options that there are no more.
    pub fn request(&self) -> Option<Request> {
        let (ecosystem, name) = self.named();
        let rules = &ecosystem::named(ecosystem)?.options;
        Some(Request {
            ecosystem: ecosystem.to_owned(),
            name: name.to_owned(),
            version: self.version.clone(),
            options: Options::parse(&self.options, rules).ok()?,
            key: self.request.clone(),
            parts: self.parts.clone(),
        })
    }
}

/// The row in an item; `None` for what is no row of a request.
pub(super) fn read(item: &HashMap<String, Attr>) -> Option<Row> {
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    let count = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let state = match text("detail") {
        Some(detail) => serde_json::from_str(&detail).ok()?,
        None => State::Ordered,
    };
    let live = count("live_generation").zip(count("live_pieces"));
    Some(Row {
        package: text("package")?,
        version: text("version")?,
        options: text("options")?,
        request: text("request")?,
        parts: text("parts").and_then(|it| serde_json::from_str(&it).ok()).unwrap_or_default(),
        epoch: count("epoch")?,
        sent: count("sent_epoch").is_some_and(|sent| Some(sent) == count("epoch")),
        ordered_at: count("ordered_at")?,
        ended_at: count("ended_at"),
        downloaded_at: count("downloaded_at"),
        marked_at: count("marked_at"),
        state,
        lock: text("build_lock").and_then(|it| serde_json::from_str(&it).ok()),
        verdict: text("verdict").and_then(|it| serde_json::from_str(&it).ok()),
        groups: set(item, "groups"),
        overtaken_by: None,
        live: live.map(|(generation, pieces)| Live { generation, pieces }),
    })
}

/// A set of strings in an item.
pub(crate) fn set(item: &HashMap<String, Attr>, name: &str) -> BTreeSet<String> {
    let set = item.get(name).and_then(|it| it.as_ss().ok());
    set.into_iter().flatten().cloned().collect()
}
