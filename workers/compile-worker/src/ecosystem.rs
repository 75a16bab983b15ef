//! What a package manager's world must say so that its packages can be built here.
//!
//! An ecosystem is one module: its [`Grammar`] says how its packages and options are named, which
//! everybody needs who takes requests, and its [`Ecosystem`] makes artifacts, which only workers
//! do. [`ALL`] lists the first, [`Ecosystems`](crate::ecosystems::Ecosystems) the second.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use flotilla_runtime::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    builder::{BuilderInfo, Workshop},
    crates,
    error::{Fault, Stopped},
    message::BuildOrder,
    options::{BadOptions, Options, Rules},
    progress::Progress,
    pypi,
};

/// How an ecosystem names its packages, versions and options.
#[derive(Debug)]
pub struct Grammar {
    /// Its own name, in orders, keys and addresses.
    pub name: &'static str,
    /// The type of its packages in package URLs (purl).
    pub purl: &'static str,
    /// The one spelling of a package's name, or why it is none.
    pub package: fn(&str) -> Result<String, String>,
    /// The one spelling that equal versions share.
    pub version: fn(&str) -> String,
    /// The package and the version of a file that builds are given, by its name.
    pub given: fn(&str) -> Option<(String, String)>,
    /// Its options.
    pub options: Rules,
    /// The options without what this builder does anyway, or why it cannot do them.
    pub settled: fn(Options, &BuilderInfo) -> Result<Options, BadOptions>,
}

/// All ecosystems; the first is meant where none is named.
pub static ALL: [&Grammar; 2] = [&pypi::GRAMMAR, &crates::GRAMMAR];

/// The ecosystem of this name.
pub fn named(name: &str) -> Option<&'static Grammar> {
    ALL.into_iter().find(|it| it.name == name)
}

/// The names of all ecosystems.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|it| it.name)
}

/// Everything between an order and its artifact that depends on the package manager.
pub trait Ecosystem: Send + Sync + 'static {
    /// How it names things.
    fn grammar(&self) -> &'static Grammar;

    /// Where it builds.
    fn workshop(&self) -> &Workshop;

    /// Makes the artifact of an order.
    ///
    /// # Errors
    /// [`Stopped::Ours`] where another attempt may help; what the package itself does wrong is in
    /// [`Made::artifact`], with the log.
    fn make(
        &self,
        order: &BuildOrder,
        progress: &Progress<'_>,
    ) -> impl Future<Output = Result<Made, Stopped>> + Send;

    /// The versions of a package, unless its page still has this validator.
    ///
    /// # Errors
    /// Transient, when upstream does not answer.
    fn versions(
        &self,
        name: &str,
        validator: Option<&str>,
    ) -> impl Future<Output = Result<Option<Versions>, Failure>> + Send;
}

/// What came of a build.
#[derive(Debug, Clone)]
pub struct Made {
    /// The log.
    pub log: Vec<u8>,
    /// The artifact, or why there is none.
    pub artifact: Result<Product, Fault>,
}

impl Made {
    /// What a build came to that stopped, or did not. Where one said nothing, its log says why it failed:
    /// that is what people are sent to.
    ///
    /// # Errors
    /// Ours.
    pub fn of(log: Vec<u8>, built: Result<Product, Stopped>) -> Result<Self, Stopped> {
        match built {
            Ok(product) => Ok(Self { log, artifact: Ok(product) }),
            Err(Stopped::Theirs(why)) => {
                let silent = log.iter().all(u8::is_ascii_whitespace);
                let log = if silent { format!("{}\n", why.reason).into_bytes() } else { log };
                Ok(Self { log, artifact: Err(why) })
            }
            Err(ours) => Err(ours),
        }
    }
}

/// An artifact that was checked.
#[derive(Debug, Clone)]
pub struct Product {
    /// The artifact key.
    pub key: String,
    /// What the key is the hash of.
    pub parts: BTreeMap<String, Value>,
    /// The name of the file.
    pub filename: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its metadata, where the ecosystem serves that apart.
    pub metadata: Option<String>,
    /// The build requirements as they were said.
    pub requires: Vec<String>,
    /// SHA-256 of each library inside that was not built, but brought along, by its path.
    pub bundled: BTreeMap<String, String>,
}

/// The versions of a package with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// As upstream writes them.
    pub all: BTreeSet<String>,
    /// What is said of them, of those that something is said of.
    pub about: BTreeMap<String, About>,
    /// The validator of the page that they are from.
    pub validator: Option<String>,
    /// Its serial.
    pub serial: Option<u64>,
    /// Its SHA-256.
    pub digest: String,
}

/// What an index says of a version, beside that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Which Python it wants, as a version specifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_python: Option<String>,
    /// Why it was withdrawn (empty where nobody says), if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_build_that_said_nothing_says_why_it_failed() {
        let log = |said: &[u8]| {
            Made::of(said.to_vec(), Err(Stopped::theirs("no wheel satisfies a"))).unwrap().log
        };
        assert_eq!(log(b"\n"), b"no wheel satisfies a\n");
        assert_eq!(log(b"x.c: error"), b"x.c: error");
    }
}
