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

use crate::{Bench, Trouble, settings::Settings};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "queue",
    about: "the queue runtime, on an SQS in memory that takes 10 ms a call",
    run: |settings| async move { run(&settings).await }.boxed(),
};

async fn run(settings: &Settings) -> Result<(), Trouble> {
    ratios::to_bare_loop(settings).await?;
    ratios::with_ledger(settings).await?;
    peers::run(settings).await?;
    effects::stranded(settings).await?;
    effects::duplicates(settings).await?;
    // Neither disturbs the other: the idle worker does next to nothing.
    futures::try_join!(idle::run(settings), soak::run(settings))?;
    ministack::run(settings).await
}
