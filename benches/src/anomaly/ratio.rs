//! The worker from the queue to the table of readings, beside a bare loop that receives, writes in
//! batches and deletes.

use std::ffi::OsString;

use serde_json::json;

use crate::{
    Trouble,
    process::{self, sibling},
    queue::{
        rate::{Rate, in_turns},
        ratios::ratio,
    },
    rates::median,
    rig::{Consumer, LATENCY},
    settings::Settings,
};

/// Messages in hand: the worker's slots, and what all bare loops may have.
const IN_HAND: usize = 200;
/// A thousand sensors of a tube that speak in turns, each once a second.
const BODY: &str = r#"{"id":"d-{n%1000}","filling":50,"at":17{n/1000},"seq":{n}}"#;

/// Prints the ratio.
pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    let [per_core, rate] = ["anomaly.ratio_to_bare_loop", "anomaly.ratio_to_bare_loop_in_time"];
    if !settings.wants(&[per_core, rate]) {
        return Ok(());
    }
    let pairs = in_turns(&worker(), &bare_loop(), settings).await?;
    let side = |of: &dyn Fn(&(Rate, Rate)) -> f64| median(pairs.iter().map(of)).round();
    let detail = json!({
        "worker_per_cpu_second": side(&|it| it.0.per_cpu),
        "bare_loop_per_cpu_second": side(&|it| it.1.per_cpu),
        "worker_per_second": side(&|it| it.0.per_second),
        "bare_loop_per_second": side(&|it| it.1.per_second),
        "in_hand": IN_HAND, "latency_ms": LATENCY.as_millis() as u64, "rounds": pairs.len(),
        "sensors": 1000, "machine_load": process::load(),
    });
    ratio(rate, &pairs, |it| it.per_second).detail(detail.clone()).print();
    ratio(per_core, &pairs, |it| it.per_cpu).target(0.8).detail(detail).print();
    Ok(())
}

fn worker() -> Consumer {
    let env = [
        ("FLOTILLA_SLOTS", IN_HAND.to_string()),
        ("FLOTILLA_LEDGER_TABLE", "ledger".to_owned()),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads".to_owned()),
        ("FLOTILLA_DEVICES_TABLE", "devices".to_owned()),
        ("FLOTILLA_READINGS_TABLE", "readings".to_owned()),
        ("FLOTILLA_EDGES_TABLE", "edges".to_owned()),
        ("FLOTILLA_PROBLEMS_TABLE", "problems".to_owned()),
        ("FLOTILLA_FUTURE_SECONDS", "31536000".to_owned()),
        ("FLOTILLA_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("FLOTILLA_LOG", "error".to_owned()),
    ];
    Consumer {
        name: "anomaly worker",
        program: sibling("anomaly-worker"),
        args: Vec::new(),
        env: env.into_iter().map(|(key, value)| (key, OsString::from(value))).collect(),
        body: BODY.to_owned(),
    }
}

fn bare_loop() -> Consumer {
    Consumer {
        name: "bare loop",
        program: sibling("bare-loop"),
        args: Vec::new(),
        env: vec![
            ("BENCH_IN_HAND", IN_HAND.to_string().into()),
            ("BENCH_TABLE", "readings".into()),
        ],
        body: BODY.to_owned(),
    }
}
