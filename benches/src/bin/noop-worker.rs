//! A worker of Flotilla's runtime whose job does nothing, or next to nothing.
//!
//! `BENCH_LEDGER=1` has it claim each effect and commit it: a row of the table `effects` counts how
//! often that happened. `BENCH_JOB_MS` is the longest that a job takes; each takes its share.

use std::{process::ExitCode, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, process};

/// As every worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Noop {
    ledger: bool,
    longest: Duration,
}

#[derive(serde::Deserialize)]
struct Message {
    n: u64,
}

impl Job for Noop {
    const NAME: &'static str = "noop";
    type Message = Message;
    type Work = u64;

    async fn prepare(&self, message: Message, _: &Delivery) -> Result<(Effect, u64), Failure> {
        match self.ledger {
            true => Ok((Effect::Once(message.n.to_string()), message.n)),
            false => Ok((Effect::Idempotent, message.n)),
        }
    }

    async fn run(&self, n: u64, lease: &Lease) -> Result<(), Failure> {
        if !self.longest.is_zero() {
            // The same for the same message, and spread evenly over the messages.
            let share = (n.wrapping_mul(2_654_435_761) % 1000) as f64 / 1000.0;
            tokio::time::sleep(self.longest.mul_f64(share)).await;
        }
        if self.ledger {
            lease.complete(vec![count(n)?]).await?;
        }
        Ok(())
    }
}

/// The effect: a row that counts, and so shows if it ever happens twice.
fn count(n: u64) -> Result<TransactWriteItem, Failure> {
    let update = Update::builder()
        .table_name("effects")
        .key("n", AttributeValue::N(n.to_string()))
        .update_expression("ADD times :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .build()
        .map_err(|e| Failure::permanent("request", "an effect").caused_by(e))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(|_, _| (), |(), _| Ok(noop())).await
}

fn noop() -> Noop {
    let longest = std::env::var("BENCH_JOB_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    Noop {
        ledger: std::env::var_os("BENCH_LEDGER").is_some(),
        longest: Duration::from_millis(longest),
    }
}
