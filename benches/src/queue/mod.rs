//! The queue runtime: what it costs, beside a bare loop and beside its peers, and whether it
//! strands or repeats anything.

mod consumers;
mod effects;
mod idle;
mod ministack;
mod peers;
pub(crate) mod rate;
pub(crate) mod ratios;
mod soak;

use futures::FutureExt;

use crate::{Bench, Parts, Trouble, settings::Settings};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "queue",
    about: "the queue runtime, on an SQS in memory that takes 10 ms a call",
    run: |settings| async move { run(&settings).await }.boxed(),
};

async fn run(settings: &Settings) -> Result<(), Trouble> {
    let mut parts = Parts::default();
    parts.note("beside a bare loop", ratios::to_bare_loop(settings).await);
    parts.note("with the ledger", ratios::with_ledger(settings).await);
    peers::run(settings).await;
    parts.note("what a stop strands", effects::stranded(settings).await);
    parts.note("what duplicates do", effects::duplicates(settings).await);
    // Neither disturbs the other: the idle worker does next to nothing.
    let (idle, soak) = tokio::join!(idle::run(settings), soak::run(settings));
    parts.note("idle", idle);
    parts.note("the soak", soak);
    // Nothing is promised of an endpoint that others made.
    if let Err(why) = ministack::run(settings).await {
        eprintln!("left out: the local endpoint: {why}");
    }
    parts.all()
}
