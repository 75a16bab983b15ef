//! The compile farm: what a hit costs beside the servers of others, what a build costs beside pip on
//! the bare host, and that many who ask at once are one build.
//!
//! Everything is real: the gateway and the worker in processes of their own, the local endpoint, the
//! Docker engine, PyPI.

mod cold;
mod farm;
mod hits;
mod servers;
mod starts;
mod waiters;

use futures::FutureExt;

use crate::{Bench, Trouble, settings::Settings};
use farm::Farm;

/// The bench.
pub const BENCH: Bench = Bench {
    name: "compile",
    about: "the compile farm, with packages of PyPI on the local endpoint",
    run: |settings| async move { run(&settings).await }.boxed(),
};

/// The figures of hits.
const HITS: [&str; 4] = [
    "compile.hit_p99_ms",
    "compile.hit_ratio_to_nginx",
    "compile.hit_ratio_to_pypiserver",
    "compile.hit_ratio_to_devpi",
];

async fn run(settings: &Settings) -> Result<(), Trouble> {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("left out: compile: AWS_ENDPOINT_URL names no endpoint (make bench starts one)");
        return Ok(());
    }
    let farm = Farm::start().await?;
    let measured = measure(&farm, settings).await;
    let ended = farm.stop().await;
    measured.and(ended)
}

async fn measure(farm: &Farm, settings: &Settings) -> Result<(), Trouble> {
    if settings.wants(&waiters::FIGURES) {
        waiters::run(farm).await?;
    }
    cold::run(farm, settings).await?;
    if settings.wants(&HITS) {
        hits::run(farm, settings).await?;
    }
    Ok(())
}
