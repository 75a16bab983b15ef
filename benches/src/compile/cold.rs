//! A build through the farm, beside pip on the bare host.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::process::Command;

use super::{
    farm::Farm,
    starts::{Watch, now},
};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::load,
    rates::median,
    settings::Settings,
};

/// The name of the figure for the time until a container runs.
const TO_CONTAINER: &str = "compile.request_to_container_ms";
/// How often each way is measured.
const ROUNDS: usize = 5;
/// How long pip may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A package that is built both ways.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) figure: &'static str,
}

/// A small one, and one with some C.
pub(super) const PACKAGES: &[Package] = &[
    Package { name: "markupsafe", version: "3.0.2", figure: "compile.cold_ratio_markupsafe" },
    Package { name: "psutil", version: "6.1.1", figure: "compile.cold_ratio_psutil" },
];

/// The packages, and how long it takes until a container runs: one figure of all their builds.
pub(super) async fn run(farm: &Farm, settings: &Settings) -> Result<(), Trouble> {
    let mut starts = Vec::new();
    for package in PACKAGES.iter().filter(|it| settings.wants(&[it.figure, TO_CONTAINER])) {
        starts.extend(both_ways(farm, package).await?);
    }
    if starts.is_empty() {
        return Ok(());
    }
    Figure::new(TO_CONTAINER, median(starts.clone()) * 1000.0, "ms", Better::Lower)
        .target(1000.0)
        .detail(json!({ "seconds": starts, "machine_load": load() }))
        .print();
    Ok(())
}

/// Builds it both ways in turns, after one of each that fills the caches; gives how long it took in
/// ours until the container ran.
async fn both_ways(farm: &Farm, package: &Package) -> Result<Vec<f64>, Trouble> {
    let bare = match Bare::new().await {
        Ok(bare) => bare,
        Err(why) => {
            eprintln!("left out: {}: {why}", package.figure);
            return Ok(Vec::new());
        }
    };
    bare.build(package).await?;
    build(farm, package, 0).await?;
    let (mut on_host, mut ours, mut to_container) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        on_host.push(bare.build(package).await?);
        let (total, start) = build(farm, package, round).await?;
        ours.push(total);
        to_container.push(start);
    }
    let detail = json!({
        "package": package.name, "version": package.version, "rounds": ROUNDS,
        "flotilla_seconds": ours, "pip_seconds": on_host, "machine_load": load(),
    });
    Figure::new(
        package.figure,
        median(ours.clone()) / median(on_host.clone()),
        "ratio",
        Better::Lower,
    )
    .target(1.5)
    .detail(detail)
    .print();
    Ok(to_container)
}

/// Has the farm build it with options that nothing was built with yet: seconds until the answer, and
/// until the container of the build ran.
async fn build(farm: &Farm, package: &Package, round: usize) -> Result<(f64, f64), Trouble> {
    let flags = format!("env.CPPFLAGS=-DFLOTILLA_BENCH={round}");
    let (watch, from, clock) = (Watch::begin(&farm.worker_id)?, now(), Instant::now());
    farm.package(package.name, package.version, &flags).await?;
    let total = clock.elapsed().as_secs_f64();
    let started = watch.end().await.starts.first().copied();
    let started = started.ok_or_else(|| Trouble::new("docker events told of no container"))?;
    Ok((total, started.saturating_sub(from).as_secs_f64()))
}

/// pip on the host, in an environment of its own.
struct Bare {
    place: tempfile::TempDir,
}

impl Bare {
    async fn new() -> Result<Self, Trouble> {
        let failed = |e| Trouble::new(format!("a folder for pip: {e}"));
        let bare = Self { place: tempfile::tempdir().map_err(failed)? };
        let folder = bare.place.path().join("venv").display().to_string();
        run_quietly(Path::new("python3"), &["-m", "venv", &folder]).await?;
        Ok(bare)
    }

    /// Seconds that a build takes with what is downloaded in pip's cache, and nothing built.
    async fn build(&self, package: &Package) -> Result<f64, Trouble> {
        let python = self.place.path().join("venv/bin/python");
        let wheels = self.place.path().join("wheels").display().to_string();
        let cache = self.place.path().join("cache").display().to_string();
        // It says so and fails where there is nothing to forget.
        let forget = ["-m", "pip", "cache", "remove", "--cache-dir", &cache, package.name];
        let _ = run_quietly(&python, &forget).await;
        let wanted = format!("{}=={}", package.name, package.version);
        let clock = Instant::now();
        let build = ["-m", "pip", "wheel", "--no-deps", "--no-binary", ":all:", "--quiet"];
        let places = ["--cache-dir", &cache, "--wheel-dir", &wheels, &wanted];
        run_quietly(&python, &[&build[..], &places[..]].concat()).await?;
        Ok(clock.elapsed().as_secs_f64())
    }
}

async fn run_quietly(program: &Path, arguments: &[&str]) -> Result<(), Trouble> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let failed =
        |e: &str| Trouble::new(format!("{} {}: {e}", program.display(), arguments.join(" ")));
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output =
        ended.map_err(|_| failed("it took too long"))?.map_err(|e| failed(&e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}
