//! The scheduler: how fast it plans, how fast it finds the next change beside its peers, what the
//! worker takes for an estate, and whether it ever decides otherwise than a clock would.

mod cloud;
mod estate;
mod million;
mod next;
mod oracle;

use futures::FutureExt;

use crate::{Bench, Trouble, settings::Settings};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "schedule",
    about: "the scheduler: its decisions in memory, its worker on a cloud in memory",
    run: |settings| async move { run(&settings).await }.boxed(),
};

async fn run(settings: &Settings) -> Result<(), Trouble> {
    million::run(settings)?;
    next::run(settings).await?;
    estate::run(settings).await?;
    oracle::run(settings)
}

fn trouble(why: impl std::fmt::Display) -> Trouble {
    Trouble::new(why.to_string())
}
