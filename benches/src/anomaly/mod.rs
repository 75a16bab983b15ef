//! The sensors: how fast readings are compared, what a device takes in memory, and how well what is
//! told of a simulated sewer is what was wrong with it.

mod latency;
mod many;
mod ratio;
pub mod score;
pub mod sewer;
pub mod watch;

use std::{sync::Arc, time::Instant};

use anomaly_worker::{
    engine::{DeviceRule, Limits, Net, Seasonal, State, Unit},
    reading::Reading,
};
use futures::FutureExt;
use serde_json::{Value, json};

use self::{
    sewer::{Frame, Sewer, Simulated},
    watch::{Watch, watched},
};
use crate::{
    Bench, Trouble,
    figure::{Better, Figure},
    process,
    settings::Settings,
};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "anomaly",
    about: "the sensors' engine on a simulated sewer, and its worker on an SQS and a DynamoDB in memory",
    run: |settings| async move { run(&settings).await }.boxed(),
};

/// Devices and readings of each, where speed and memory are measured.
const DEVICES: usize = 1000;
const READINGS: i64 = 2000;

async fn run(settings: &Settings) -> Result<(), Trouble> {
    if settings.wants(&["anomaly.eval_per_core", "anomaly.bytes_per_device"]) {
        speed(&sewer(settings)?, settings);
    }
    let quality_wanted = [
        "anomaly.precision",
        "anomaly.recall",
        "anomaly.permutation_differences",
        "anomaly.write_units_per_reading",
    ];
    if settings.wants(&quality_wanted) {
        quality(&sewer(settings)?);
    }
    if settings.wants(&many::NAMES) {
        many::run(&sewer(settings)?)?;
    }
    ratio::run(settings).await?;
    latency::run(settings).await
}

/// The sewer of the settings: `FLOTILLA_BENCH_SEED` chooses another, `FLOTILLA_BENCH_SEWER` another
/// kind of sewer.
fn sewer(settings: &Settings) -> Result<Sewer, Trouble> {
    let sewer = Sewer { seed: settings.seed, ..Sewer::default() };
    sewer.with(&settings.sewer).map_err(Trouble::new)
}

/// Readings in order, one sensor after the other at every time, as they mostly come.
fn speed(sewer: &Sewer, settings: &Settings) {
    let calm = Sewer { sensors: DEVICES, readings: 1, faults: [0; 3], ..*sewer };
    let simulated = calm.simulate();
    let mut rates: Vec<f64> = Vec::new();
    let mut bytes = [0.0; 3];
    let mut reviews = 0;
    for _ in 0..settings.rounds {
        let mut watch = Watch::new(&simulated);
        let began = Instant::now();
        for number in 0..READINGS {
            for sensor in 0..DEVICES {
                let at = number * calm.interval + sensor as i64;
                let filling = 50.0 + (number % 7) as f64 * 0.1;
                watch.take(&Frame { arrives: at, sensor, at, filling, seq: number as u64 });
            }
        }
        rates.push((DEVICES as i64 * READINGS) as f64 / began.elapsed().as_secs_f64());
        (bytes, reviews) = (watch.bytes(), watch.reviews);
    }
    rates.sort_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    let detail = json!({
        "devices": DEVICES, "readings_of_each": READINGS, "reviews": reviews,
        "edges": DEVICES - 1, "rounds": rates.len(), "machine_load": process::load(),
    });
    let eval = Figure::new("anomaly.eval_per_core", rate, "readings/s", Better::Higher);
    eval.target(2e6).detail(detail).print();
    let detail = json!({
        "lateness_window_per_device": bytes[1].round(), "bytes_per_reading": bytes[2],
        "devices": DEVICES, "seasonal_table_where_wanted": seasonal_bytes(),
    });
    let hot = Figure::new("anomaly.bytes_per_device", bytes[0], "bytes", Better::Lower);
    hot.target(512.0).detail(detail).print();
}

/// The bytes that the tables of seasons take of a device that has the default one.
fn seasonal_bytes() -> usize {
    let rule = DeviceRule { seasonal: Some(Seasonal::default()), ..DeviceRule::default() };
    let said = |at| Reading { at, filling: 50.0, seq: None };
    let mut net = Net::new(Limits { lateness: 0, fold: 1, ..Limits::default() });
    let device = net.add_device(
        "d",
        Arc::new(rule),
        (0..10).map(said).collect(),
        Some((0, State::default())),
    );
    // The base moves, and then it stands at its newest reading.
    while let Some((version, review)) = net.review_device(device, 0)
        && net.is_stale(Unit::Device(device))
    {
        net.written_device(device, version + 1, review.next);
    }
    net.seasons()
}

fn quality(sewer: &Sewer) {
    let (simulated, watch) = watched(sewer);
    let mut detail = detail(sewer, &simulated, &watch);
    let [all, causes] = watch.scores(&simulated.truth);
    let named = |it: &dyn std::fmt::Debug| format!("{it:?}");
    detail["missed"] = all.missed.iter().map(|it| named(&it.wrong)).collect();
    detail["untrue"] = all.untrue.iter().map(|it| named(&it.wrong)).collect();
    for (name, value) in [
        ("anomaly.precision", all.precision),
        ("anomaly.recall", all.recall),
        ("anomaly.precision_of_causes", causes.precision),
        ("anomaly.recall_of_causes", causes.recall),
    ] {
        let figure = Figure::new(name, value, "ratio", Better::Higher).target(0.98);
        figure.detail(detail.clone()).print();
    }
    let percentile = |part: f64| {
        let at = (all.delays.len() as f64 * part) as usize;
        all.delays.get(at).map_or(f64::NAN, |ms| *ms as f64 / 1000.0)
    };
    let delay = Figure::new("anomaly.detection_delay_p50_s", percentile(0.5), "s", Better::Lower);
    delay.detail(json!({ "p95_s": percentile(0.95), "interval_s": sewer.interval / 1000 })).print();
    let units = watch.write_units.unwrap_or_default() as f64 / watch.stored.max(1) as f64;
    let figure =
        Figure::new("anomaly.write_units_per_reading", units, "write units", Better::Lower);
    let what = "readings of 1 unit each, in a transaction with the rows of their machines where they \
                are nearly too late, and by the engine's decisions the rows of machines and \
                problems, in transactions, and links";
    figure.target(2.0).detail(json!({ "stored": watch.stored, "counted": what })).print();
    let differences = differences(&simulated, &watch);
    let figure =
        Figure::new("anomaly.permutation_differences", differences as f64, "rows", Better::Lower);
    figure.target(0.0).detail(json!({ "rows": watch.ledger.len() })).print();
}

fn detail(sewer: &Sewer, simulated: &Simulated, watch: &Watch) -> Value {
    json!({
        "seed": sewer.seed, "sensors": sewer.sensors, "frames": simulated.frames.len(),
        "wrong_in_truth": simulated.truth.len(), "told": watch.ledger.len(),
        "told_and_taken_back": watch.retracted, "late_frames": sewer.late, "duplicates": sewer.twice,
        "lost_frames": sewer.lost, "wrong_clocks": sewer.skewed, "noise": sewer.noise,
    })
}

/// The same frames in another order within the hour, under the same limits: how many rows of the
/// ledger differ.
fn differences(simulated: &Simulated, watch: &Watch) -> usize {
    let mut again = Watch::new(simulated);
    let mut frames = simulated.frames.clone();
    let mixed = |it: &Frame| it.seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ it.sensor as u64;
    frames.sort_by_key(|it| (it.at / 3_600_000, mixed(it)));
    // The clock that silence is told by is no further than what may still arrive.
    frames.iter_mut().for_each(|it| it.arrives = (it.at / 3_600_000 + 1) * 3_600_000);
    again.watch(&frames);
    let (one, other) = (watch.timeless(), again.timeless());
    let missing = one.iter().filter(|(key, it)| other.get(*key) != Some(it)).count();
    missing + other.keys().filter(|key| !one.contains_key(*key)).count()
}
