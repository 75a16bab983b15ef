//! The runtime beside the bare SDK, and beside itself with the ledger on.

use serde_json::{Value, json};

use super::{
    consumers::{AHEAD, SLOTS, bare_loop, flotilla, flotilla_ahead},
    rate::{Rate, in_turns, measure},
};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process,
    rates::median,
    rig::LATENCY,
    settings::Settings,
};

/// Bare loops with more in hand than the worker may have: printed beside, since a loop's hands are
/// full while it deletes, and the runtime's slots are not.
const WIDER: [usize; 2] = [128, 640];

/// The worker beside the bare SDK with as many messages in hand, and what it calls.
pub(super) async fn to_bare_loop(settings: &Settings) -> Result<(), Trouble> {
    let [rate, per_cpu, calls] = [
        "queue.ratio_to_bare_loop",
        "queue.ratio_to_bare_loop_per_cpu",
        "queue.api_calls_per_message",
    ];
    if !settings.wants(&[rate, per_cpu, calls]) {
        return Ok(());
    }
    let pairs = in_turns(&flotilla(&[]), &bare_loop(SLOTS), settings).await?;
    let even = sides("flotilla", "bare_loop", &pairs, settings);
    ratio(per_cpu, &pairs, |r| r.per_cpu).detail(even.clone()).print();
    Figure::new(calls, median(pairs.iter().map(|(ours, _)| ours.calls)), "calls", Better::Lower)
        .target(0.21)
        .detail(even.clone())
        .print();
    match settings.wants(&[rate]) {
        true => beside_wider(ratio(rate, &pairs, |r| r.per_second), even, settings).await,
        false => Ok(()),
    }
}

/// The ratio, and beside it the worker that receives ahead, and loops with more in hand.
async fn beside_wider(
    figure: Figure,
    mut detail: Value,
    settings: &Settings,
) -> Result<(), Trouble> {
    detail[format!("flotilla_{AHEAD}_ahead")] = measure(&flotilla_ahead(), settings).await?.json();
    for in_hand in WIDER {
        let wider = measure(&bare_loop(in_hand), settings).await?;
        detail[format!("bare_loop_{in_hand}_in_hand")] = wider.json();
    }
    figure.target(0.95).detail(detail).print();
    Ok(())
}

/// The worker with the ledger on, beside itself without.
pub(super) async fn with_ledger(settings: &Settings) -> Result<(), Trouble> {
    if !settings.wants(&["queue.ledger_ratio"]) {
        return Ok(());
    }
    let with = flotilla(&[("BENCH_LEDGER", "1")]);
    let pairs = in_turns(&with, &flotilla(&[]), settings).await?;
    let mut detail = sides("with_ledger", "without", &pairs, settings);
    detail["ledger"] =
        json!("a DynamoDB in memory, 10 ms a call: one claim and one transaction a message");
    ratio("queue.ledger_ratio", &pairs, |r| r.per_second).detail(detail).print();
    Ok(())
}

/// The median of the ratios of each turn.
pub(crate) fn ratio(name: &str, pairs: &[(Rate, Rate)], of: impl Fn(&Rate) -> f64) -> Figure {
    let ratios = pairs.iter().map(|(ours, theirs)| of(ours) / of(theirs));
    Figure::new(name, median(ratios), "ratio", Better::Higher)
}

/// What the ratios were made of: the middle turn of either side, and the circumstances.
pub(super) fn sides(
    ours: &str,
    theirs: &str,
    pairs: &[(Rate, Rate)],
    settings: &Settings,
) -> Value {
    let middle = |side: &dyn Fn(&(Rate, Rate)) -> Rate| {
        let mut rates: Vec<Rate> = pairs.iter().map(side).collect();
        rates.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        rates.get(rates.len() / 2).map_or(Value::Null, Rate::json)
    };
    json!({
        ours: middle(&|pair| pair.0.clone()),
        theirs: middle(&|pair| pair.1.clone()),
        "slots": SLOTS,
        "latency_ms": LATENCY.as_millis() as u64,
        "window_seconds": settings.window.as_secs_f64(),
        "rounds": pairs.len(),
        "cores": process::cores(),
        "machine_load": process::load(),
    })
}
