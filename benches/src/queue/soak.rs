//! Whether memory grows while a worker runs as fast as it can.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::consumers::{BODY, SLOTS, endless, flotilla_ahead};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::load,
    rig::Rig,
    settings::Settings,
};

const LOOK: Duration = Duration::from_millis(500);

/// Compares the last tenth of the run with its second tenth: in the first, pools and caches fill.
pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    let name = "queue.soak_rss_growth";
    if !settings.wants(&[name]) {
        return Ok(());
    }
    let rig = Rig::start(&endless(BODY)).await?;
    let process = rig.consume(&flotilla_ahead())?;
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < settings.soak {
        sleep(LOOK).await;
        samples.push(process.cost().rss);
    }
    let messages = rig.counts().await?.messages().deleted;
    let tenth = |n: usize| mean(&samples[samples.len() * n / 10..samples.len() * (n + 1) / 10]);
    let (early, late) = (tenth(1), tenth(9));
    Figure::new(name, late / early, "ratio", Better::Lower)
        .target(1.05)
        .detail(json!({
            "seconds": settings.soak.as_secs_f64(),
            "rss_mib_second_tenth": (early * 100.0).round() / 100.0,
            "rss_mib_last_tenth": (late * 100.0).round() / 100.0,
            "messages": messages,
            "slots": SLOTS,
            "machine_load": load(),
        }))
        .print();
    process.kill().await;
    rig.stop().await;
    Ok(())
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}
