//! What a stop strands, and what crashes and duplicates repeat: nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::consumers::{BODY, SLOTS, endless, flotilla};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::Process,
    rig::{Consumer, Rig},
    settings::Settings,
    stub::queue::Source,
};

/// How long an orderly stop may take: the grace and the receives that are awaited.
const STOP: Duration = Duration::from_secs(40);
/// How long the messages of a run with crashes may take.
const LIMIT: Duration = Duration::from_secs(600);
/// From one crash or stop to the next.
const PEACE: Duration = Duration::from_millis(700);
/// Every `n`th message is delivered twice.
const TWICE_EVERY: u64 = 50;

/// Stops a worker in the middle of its work and counts what is still in flight when it has ended.
pub(super) async fn stranded(settings: &Settings) -> Result<(), Trouble> {
    let name = "queue.stranded_after_stop";
    if !settings.wants(&[name]) {
        return Ok(());
    }
    let (mut stranded, mut handed_back, stops) = (0, 0, settings.rounds * 2);
    for stop in 0..stops {
        // Jobs that do nothing, and jobs of which half outlive the grace.
        let longest = if stop % 2 == 0 { "0" } else { "2000" };
        let (left, back) =
            stop_once(longest, Duration::from_millis(700 + 130 * stop as u64)).await?;
        stranded += left;
        handed_back += back;
    }
    Figure::new(name, stranded as f64, "messages", Better::Lower)
        .target(0.0)
        .detail(json!({ "stops": stops, "slots": SLOTS, "grace_seconds": 1, "handed_back": handed_back }))
        .print();
    Ok(())
}

/// What was in flight after a stop, and what had been handed back.
async fn stop_once(longest: &str, after: Duration) -> Result<(u64, u64), Trouble> {
    let rig = Rig::start(&endless(BODY)).await?;
    let worker = flotilla(&[("BENCH_JOB_MS", longest), ("FLOTILLA_GRACE_SECONDS", "1")]);
    let mut process = rig.consume(&worker)?;
    while rig.counts().await?.messages().deleted == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(after).await;
    process.signal(Signal::SIGTERM);
    let status = process.ended(STOP).await?;
    let messages = rig.counts().await?.messages();
    rig.stop().await;
    match status.success() {
        true => Ok((messages.in_flight, messages.received - messages.deleted - messages.in_flight)),
        false => Err(Trouble::new(format!("the worker's stop ended with {status}"))),
    }
}

/// Two workers, killed and stopped in turns while messages come twice: every effect must happen,
/// and none twice.
pub(super) async fn duplicates(settings: &Settings) -> Result<(), Trouble> {
    let name = "queue.duplicate_effects";
    if !settings.wants(&[name]) {
        return Ok(());
    }
    let source =
        Source { template: BODY.to_owned(), left: settings.messages, twice_every: TWICE_EVERY };
    let rig = Rig::start(&source).await?;
    let worker = flotilla(&[
        ("BENCH_LEDGER", "1"),
        ("BENCH_JOB_MS", "100"),
        ("FLOTILLA_VISIBILITY_SECONDS", "5"),
        ("FLOTILLA_GRACE_SECONDS", "1"),
        // A stop awaits the long poll, and is not to be longer than the peace before it.
        ("FLOTILLA_WAIT_SECONDS", "1"),
    ]);
    let (kills, stops) = disturb(&rig, &worker).await?;
    let messages = rig.counts().await?.messages();
    let (effects, times) = rig.sum("effects", "times").await?;
    rig.stop().await;
    Figure::new(name, times.saturating_sub(effects) as f64, "effects", Better::Lower)
        .target(0.0)
        .detail(json!({
            "sent": settings.messages,
            "effects": effects,
            "lost": settings.messages.saturating_sub(effects),
            "deliveries": messages.received,
            "killed": kills,
            "stopped": stops,
            "workers": 2,
        }))
        .print();
    Ok(())
}

/// Kills one worker and stops the other, in turns, until nothing is left on the queue.
async fn disturb(rig: &Rig, worker: &Consumer) -> Result<(u32, u32), Trouble> {
    let (mut kills, mut stops, start) = (0, 0, Instant::now());
    let mut workers = [rig.consume(worker)?, rig.consume(worker)?];
    while !settled(rig).await? {
        if start.elapsed() > LIMIT {
            return Err(Trouble::new(format!("the queue is not empty after {LIMIT:?}")));
        }
        sleep(PEACE).await;
        let index = (kills + stops) as usize % workers.len();
        if index == 0 {
            std::mem::replace(&mut workers[index], rig.consume(worker)?).kill().await;
            kills += 1;
        } else {
            stop(&mut workers[index]).await?;
            workers[index] = rig.consume(worker)?;
            stops += 1;
        }
    }
    for mut worker in workers {
        stop(&mut worker).await?;
    }
    Ok((kills, stops))
}

async fn stop(worker: &mut Process) -> Result<(), Trouble> {
    worker.signal(Signal::SIGTERM);
    worker.ended(STOP).await.map(drop)
}

/// Whether nothing is on the queue, nor in anybody's hands.
async fn settled(rig: &Rig) -> Result<bool, Trouble> {
    let messages = rig.counts().await?.messages();
    Ok(messages.received > 0 && messages.visible + messages.in_flight == 0)
}
