//! A worker whose job is to sleep: the lightest there is, for tests of whole groups.

use std::{process::ExitCode, time::Duration};

use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, process};

struct Sleeper;

#[derive(serde::Deserialize)]
struct Nap {
    id: String,
    ms: u64,
}

impl Job for Sleeper {
    const NAME: &'static str = "sleep";
    type Message = Nap;
    type Work = Nap;

    async fn prepare(&self, nap: Nap, _: &Delivery) -> Result<(Effect, Nap), Failure> {
        Ok((Effect::Once(nap.id.clone()), nap))
    }

    async fn run(&self, nap: Nap, lease: &Lease) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(nap.ms)).await;
        lease.complete(Vec::new()).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(|_, _| (), |(), _| Ok(Sleeper)).await
}
