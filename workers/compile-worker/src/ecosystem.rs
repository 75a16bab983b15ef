//! What a package manager's world must say so that its packages can be built here.

use std::{collections::BTreeMap, future::Future};

use flotilla_runtime::Failure;
use serde_json::Value;

use crate::{error::Stopped, message::BuildOrder, progress::Progress, upstream::Changes};

/// Everything between an order and its artifact that depends on the package manager.
pub trait Ecosystem: Send + Sync + 'static {
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

    /// The serial of upstream's latest change, asked at `url`.
    ///
    /// # Errors
    /// Transient, when upstream does not answer.
    fn last_serial(&self, url: &str) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// What has changed upstream since a serial.
    ///
    /// # Errors
    /// Transient, when upstream does not answer.
    fn changes(
        &self,
        url: &str,
        since: u64,
    ) -> impl Future<Output = Result<Changes, Failure>> + Send;

    /// The versions of a package, unless its page still has this ETag.
    ///
    /// # Errors
    /// Transient, when upstream does not answer.
    fn versions(
        &self,
        name: &str,
        etag: Option<&str>,
    ) -> impl Future<Output = Result<Option<Versions>, Failure>> + Send;
}

/// What came of a build.
#[derive(Debug, Clone)]
pub struct Made {
    /// The log.
    pub log: Vec<u8>,
    /// The artifact, or why there is none.
    pub artifact: Result<Product, String>,
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
}

/// The versions of a package with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// As upstream writes them.
    pub all: std::collections::BTreeSet<String>,
    /// The ETag of the page that they are from.
    pub etag: Option<String>,
    /// Its serial.
    pub serial: Option<u64>,
    /// Its SHA-256.
    pub digest: String,
}
