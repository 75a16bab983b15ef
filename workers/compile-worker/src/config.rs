//! The compile worker's settings.

use std::{collections::BTreeSet, time::Duration};

use flotilla_runtime::{
    Needs,
    config::{Reader, WorkerConfig},
};
use flotilla_sandbox::BuildLimits;

use crate::{
    ecosystem::{self, names},
    names::normalize,
    pypi::PYPI,
    steps::Step,
    wish::Categories,
};

/// A day, in seconds.
const DAY: u64 = 86_400;
/// Where PyPI tells what has changed.
const PYPI_CHANGELOG: &str = "https://pypi.org/pypi";
/// The simple index of PyPI.
pub const PYPI_INDEX: &str = "https://pypi.org/simple/";

/// The sparse index of crates.io.
pub const CRATES_INDEX: &str = "https://index.crates.io/";

/// How long what is built is kept, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// What nobody downloaded for so long is marked; 0 for never.
    pub unused: u64,
    /// What is marked for so long is deleted.
    pub grace: u64,
}

/// What the compile worker needs to know beside what every worker does.
#[derive(Debug, Clone)]
pub struct CompileConfig {
    /// `FLOTILLA_ARTIFACTS_BUCKET`: wheels and logs.
    pub artifacts_bucket: String,
    /// `FLOTILLA_BUILDS_TABLE`: a row per request.
    pub builds_table: String,
    /// `FLOTILLA_PACKAGES_TABLE`: a row per package.
    pub packages_table: String,
    /// `FLOTILLA_PYPI_INDEX`: where sources come from (default `https://pypi.org/simple/`).
    pub index: String,
    /// `FLOTILLA_BUILDER_IMAGE`: what builds are made in (default
    /// `flotilla-python3-build:latest`).
    pub image: String,
    /// `FLOTILLA_CRATES_INDEX`: where crates come from, a sparse index (default
    /// `https://index.crates.io/`).
    pub crates_index: String,
    /// `FLOTILLA_CRATES_DOWNLOAD`: where the files of crates are, written as `dl` in the
    /// configuration of an index (default: where the index says).
    pub crates_download: Option<String>,
    /// `FLOTILLA_RUST_BUILDER_IMAGE`: what crates are built in (default
    /// `flotilla-rust-build:latest`); a worker without it builds none.
    pub rust_image: String,
    /// The label of its containers.
    pub worker_id: String,
    /// `FLOTILLA_BUILD_SECONDS` (default 600), `FLOTILLA_BUILD_MEMORY_MIB` (2048),
    /// `FLOTILLA_BUILD_DISK_MIB` (1024), `FLOTILLA_BUILD_PIDS` (256), `FLOTILLA_BUILD_LOG_MIB`
    /// (8): what a build may use.
    pub limits: BuildLimits,
    /// `FLOTILLA_FAILURE_SECONDS`: how long a package's own failure is remembered (default 3600).
    pub failure_seconds: u64,
    /// `FLOTILLA_OVERTIME_SECONDS`: how long it is remembered that a build took longer than it may
    /// (default 300).
    pub overtime_seconds: u64,
    /// `FLOTILLA_REFRESH_PACKAGES`: packages to look for new versions of, separated by commas,
    /// beside those that somebody downloaded.
    pub refresh_packages: BTreeSet<String>,
    /// Where the changelog of upstream is asked for. `FLOTILLA_REFRESH` is `changelog` (the default
    /// where there is one: all packages that changed since the last look) or `list` (those that
    /// somebody downloaded, and `FLOTILLA_REFRESH_PACKAGES`); `FLOTILLA_PYPI_CHANGELOG` is the
    /// address (default, for PyPI itself, `https://pypi.org/pypi`).
    pub changelog: Option<String>,
    /// `FLOTILLA_REFRESH_JITTER_SECONDS`: the looks of a refresh are spread over this (default 20).
    pub jitter: Duration,
    /// `FLOTILLA_RECONCILE_SECONDS`: how often all rows are looked through (default 3600).
    pub reconcile: Duration,
    /// `FLOTILLA_RETENTION_SECONDS`: what nobody downloaded for so long is marked (default 180
    /// days; 0 keeps everything), and `FLOTILLA_RETENTION_GRACE_SECONDS` later (default 7 days)
    /// deleted, if nobody downloaded it meanwhile.
    pub retention: Retention,
    /// `FLOTILLA_CATEGORIES`: which categories of the original's messages stand for which
    /// ecosystem (default `dev-python=pypi`).
    pub categories: Categories,
    /// `FLOTILLA_GROUPS_TOPIC`: the ARN of the topic that is told when a group is complete.
    pub groups_topic: Option<String>,
    /// `FLOTILLA_PAUSE_AT`: the step of a build at which this worker goes no further, so that it
    /// can be killed there. For tests of crashes.
    pub pause_at: Option<Step>,
}

impl CompileConfig {
    /// Reads the settings, and has no more slots than fit into what the worker may use.
    pub fn read(settings: &mut Reader, worker: &mut WorkerConfig) -> Self {
        let needs = needs(settings);
        worker.fit(settings, &needs);
        let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        Self {
            artifacts_bucket: settings.required("FLOTILLA_ARTIFACTS_BUCKET"),
            builds_table: settings.required("FLOTILLA_BUILDS_TABLE"),
            packages_table: settings.required("FLOTILLA_PACKAGES_TABLE"),
            index: or(settings.optional("FLOTILLA_PYPI_INDEX"), PYPI_INDEX),
            image: or(settings.optional("FLOTILLA_BUILDER_IMAGE"), "flotilla-python3-build:latest"),
            crates_index: or(settings.optional("FLOTILLA_CRATES_INDEX"), CRATES_INDEX),
            crates_download: settings.optional("FLOTILLA_CRATES_DOWNLOAD"),
            rust_image: or(
                settings.optional("FLOTILLA_RUST_BUILDER_IMAGE"),
                "flotilla-rust-build:latest",
            ),
            worker_id: worker.worker_id.clone(),
            limits: limits(settings),
            failure_seconds: settings.ranged("FLOTILLA_FAILURE_SECONDS", 3600, 0..=2_592_000),
            overtime_seconds: settings.ranged("FLOTILLA_OVERTIME_SECONDS", 300, 0..=2_592_000),
            refresh_packages: packages(settings),
            changelog: changelog(settings),
            jitter: settings.seconds("FLOTILLA_REFRESH_JITTER_SECONDS", 20.0, (0.0, 900.0)),
            reconcile: settings.seconds("FLOTILLA_RECONCILE_SECONDS", 3600.0, (0.0, 1e8)),
            retention: Retention {
                unused: settings.ranged("FLOTILLA_RETENTION_SECONDS", 180 * DAY, 0..=36_500 * DAY),
                grace: settings.ranged("FLOTILLA_RETENTION_GRACE_SECONDS", 7 * DAY, 0..=3650 * DAY),
            },
            categories: categories(settings),
            groups_topic: settings.optional("FLOTILLA_GROUPS_TOPIC"),
            pause_at: pause_at(settings),
        }
    }
}

/// What a build needs. Its disk is in its memory.
fn needs(settings: &mut Reader) -> Needs {
    let limits = limits(settings);
    Needs { cpus: limits.cpus, memory_mib: limits.memory_bytes >> 20, ..Needs::default() }
}

fn limits(settings: &mut Reader) -> BuildLimits {
    let default = BuildLimits::default();
    let wall = default.wall.as_secs();
    BuildLimits {
        wall: Duration::from_secs(settings.ranged("FLOTILLA_BUILD_SECONDS", wall, 1..=36_000)),
        memory_bytes: settings.ranged("FLOTILLA_BUILD_MEMORY_MIB", 2048_u64, 64..=1 << 20) << 20,
        disk_bytes: settings.ranged("FLOTILLA_BUILD_DISK_MIB", 1024_u64, 16..=1 << 20) << 20,
        pids: settings.ranged("FLOTILLA_BUILD_PIDS", default.pids, 16..=32_768),
        log_bytes: settings.ranged("FLOTILLA_BUILD_LOG_MIB", 8_usize, 1..=1024) << 20,
        ..default
    }
}

/// Reads `FLOTILLA_CATEGORIES`.
pub fn categories(settings: &mut Reader) -> Categories {
    let list = settings.optional("FLOTILLA_CATEGORIES");
    let list = list.unwrap_or_else(|| format!("dev-python={PYPI}"));
    let mut categories = Categories::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let known = |it: &str| ecosystem::named(it.trim()).is_some();
        match pair.split_once('=').filter(|(_, ecosystem)| known(ecosystem)) {
            Some((name, it)) => drop(categories.insert(name.trim().into(), it.trim().into())),
            None => {
                let known = names().collect::<Vec<_>>().join(", ");
                settings.mistake(format!(
                    "FLOTILLA_CATEGORIES: {pair:?} is not CATEGORY=ECOSYSTEM; there are: {known}"
                ));
            }
        }
    }
    categories
}

fn changelog(settings: &mut Reader) -> Option<String> {
    let index = settings.optional("FLOTILLA_PYPI_INDEX");
    let own =
        index.is_none_or(|index| index.trim_end_matches('/') == PYPI_INDEX.trim_end_matches('/'));
    let url =
        settings.optional("FLOTILLA_PYPI_CHANGELOG").or(own.then(|| PYPI_CHANGELOG.to_owned()));
    match settings.optional("FLOTILLA_REFRESH").as_deref() {
        None => url,
        Some("list") => None,
        Some("changelog") if url.is_some() => url,
        Some("changelog") => {
            settings.mistake(
                "FLOTILLA_REFRESH is changelog, so FLOTILLA_PYPI_CHANGELOG must say where",
            );
            None
        }
        Some(other) => {
            settings.mistake(format!("FLOTILLA_REFRESH is {other:?}; it can be changelog or list"));
            None
        }
    }
}

fn pause_at(settings: &mut Reader) -> Option<Step> {
    let step = settings.optional("FLOTILLA_PAUSE_AT")?.parse();
    step.map_err(|why| settings.mistake(format!("FLOTILLA_PAUSE_AT: {why}"))).ok()
}

fn packages(settings: &mut Reader) -> BTreeSet<String> {
    let list = settings.optional("FLOTILLA_REFRESH_PACKAGES").unwrap_or_default();
    let mut names = BTreeSet::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match normalize(name) {
            Ok(name) => drop(names.insert(name)),
            Err(why) => settings.mistake(format!("FLOTILLA_REFRESH_PACKAGES: {why}")),
        }
    }
    names
}
