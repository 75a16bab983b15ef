//! The settings of packages.

use std::{path::PathBuf, time::Duration};

use compile_worker::{
    config::{CRATES_INDEX, PYPI_INDEX, categories},
    wish::Categories,
};
use flotilla_runtime::config::Reader;

/// What the gateway needs to know of packages.
#[derive(Debug, Clone)]
pub struct PackagesConfig {
    /// `FLOTILLA_COMPILE_QUEUE_URL`: the queue of the compile workers.
    pub queue_url: String,
    /// `FLOTILLA_COMPILE_REFRESH_QUEUE_URL`: where looks for new versions wait (default: where builds
    /// do).
    pub refresh_queue_url: String,
    /// `FLOTILLA_ARTIFACTS_BUCKET`: wheels and logs.
    pub artifacts_bucket: String,
    /// `FLOTILLA_BUILDS_TABLE`: a row per request.
    pub builds_table: String,
    /// `FLOTILLA_PACKAGES_TABLE`: a row per package.
    pub packages_table: String,
    /// `FLOTILLA_PYPI_INDEX`: where the versions come from (default `https://pypi.org/simple/`).
    pub index: String,
    /// `FLOTILLA_CRATES_INDEX`: the index of crates (default `https://index.crates.io/`).
    pub crates_index: String,
    /// `FLOTILLA_CATEGORIES`: which categories of the original stand for which ecosystem (default
    /// `dev-python=pypi`).
    pub categories: Categories,
    /// `FLOTILLA_SIGNING_KEY`: a PEM file with the ed25519 key that statements are signed with.
    pub signing_key: Option<PathBuf>,
    /// `FLOTILLA_GROUPS_TOPIC`: the ARN of the topic that is told when a group is complete.
    pub groups_topic: Option<String>,
    /// `FLOTILLA_INDEX_SECONDS`: how old a page of upstream may be (default 30 s).
    pub index_age: Duration,
    /// `FLOTILLA_HOLD_SECONDS`: how long the page of a project is held that has no known versions yet
    /// (default 20 s; 0 for not at all).
    pub hold: Duration,
}

impl PackagesConfig {
    /// Reads the settings; without a queue there are no packages.
    pub fn read(settings: &mut Reader) -> Option<Self> {
        let queue_url = settings.optional("FLOTILLA_COMPILE_QUEUE_URL")?;
        let index = settings.optional("FLOTILLA_PYPI_INDEX");
        let crates_index = settings.optional("FLOTILLA_CRATES_INDEX");
        let refresh = settings.optional("FLOTILLA_COMPILE_REFRESH_QUEUE_URL");
        Some(Self {
            refresh_queue_url: refresh.unwrap_or_else(|| queue_url.clone()),
            queue_url,
            artifacts_bucket: settings.required("FLOTILLA_ARTIFACTS_BUCKET"),
            builds_table: settings.required("FLOTILLA_BUILDS_TABLE"),
            packages_table: settings.required("FLOTILLA_PACKAGES_TABLE"),
            index: index.unwrap_or_else(|| PYPI_INDEX.to_owned()),
            crates_index: crates_index.unwrap_or_else(|| CRATES_INDEX.to_owned()),
            signing_key: settings.optional("FLOTILLA_SIGNING_KEY").map(PathBuf::from),
            groups_topic: settings.optional("FLOTILLA_GROUPS_TOPIC"),
            categories: categories(settings),
            hold: settings.seconds("FLOTILLA_HOLD_SECONDS", 20.0, (0.0, 600.0)),
            index_age: settings.seconds("FLOTILLA_INDEX_SECONDS", 30.0, (0.0, 86_400.0)),
        })
    }
}
