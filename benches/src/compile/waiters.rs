//! Many who ask for the same at once.

use futures::future::join_all;
use serde_json::json;

use super::{
    cold,
    farm::Farm,
    starts::{Watch, now},
};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::load,
};

/// How many ask.
const REQUESTS: usize = 200;
/// Options that nothing else in this bench asks for.
const FLAGS: &str = "+lto";

/// The figures.
pub(super) const FIGURES: [&str; 2] =
    ["compile.builds_for_200_requests", "compile.waiter_p99_over_build_ms"];

/// Has all of them ask, and looks at how many containers that was and when each had its answer.
pub(super) async fn run(farm: &Farm) -> Result<(), Trouble> {
    let package = &cold::PACKAGES[0];
    let watch = Watch::begin(&farm.worker_id)?;
    let ask = async || -> Result<_, Trouble> {
        farm.package(package.name, package.version, FLAGS).await?;
        Ok(now())
    };
    let answered = join_all((0..REQUESTS).map(|_| ask())).await;
    let mut answered = answered.into_iter().collect::<Result<Vec<_>, _>>()?;
    answered.sort();
    let seen = watch.end().await;
    let detail = json!({
        "requests": REQUESTS, "package": package.name, "version": package.version,
        "machine_load": load(),
    });
    Figure::new(FIGURES[0], seen.starts.len() as f64, "builds", Better::Lower)
        .target(1.0)
        .detail(detail.clone())
        .print();
    let ended = seen.ends.last().copied().unwrap_or_default();
    let p99 = answered.get(REQUESTS * 99 / 100 - 1).copied().unwrap_or_default();
    let over = p99.saturating_sub(ended).as_secs_f64() * 1000.0;
    Figure::new(FIGURES[1], over, "ms", Better::Lower).target(500.0).detail(detail).print();
    Ok(())
}
