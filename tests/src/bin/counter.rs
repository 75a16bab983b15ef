//! A worker whose effect is to count: a row says how often an effect happened.

use std::{process::ExitCode, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::{
    Delivery, Effect, Failure, Job, Lease, aws,
    config::{Reader, WorkerConfig},
    shutdown, telemetry,
};

struct Counter {
    table: String,
}

#[derive(serde::Deserialize)]
struct Count {
    id: String,
    #[serde(default)]
    ms: u64,
    /// What happens at the first attempt, or (`permanent`) at all of them.
    #[serde(default)]
    fate: String,
}

impl Job for Counter {
    const NAME: &'static str = "count";
    type Message = Count;
    type Work = Count;

    async fn prepare(&self, count: Count, _: &Delivery) -> Result<(Effect, Count), Failure> {
        Ok((Effect::Once(count.id.clone()), count))
    }

    async fn run(&self, count: Count, lease: &Lease) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(count.ms)).await;
        match (count.fate.as_str(), lease.attempt()) {
            ("permanent", _) => return Err(Failure::permanent("ordered", "as ordered")),
            ("transient", 1) => return Err(Failure::transient("ordered", "as ordered")),
            ("panic", 1) => panic!("as ordered"),
            _ => {}
        }
        let once_more = Update::builder()
            .table_name(&self.table)
            .key("subid", Attr::S(count.id))
            .key("place", Attr::S("-".to_owned()))
            .update_expression("ADD times :one")
            .expression_attribute_values(":one", Attr::N("1".to_owned()))
            .build()
            .map_err(|e| Failure::permanent("request", "a count").caused_by(e))?;
        lease.complete(vec![TransactWriteItem::builder().update(once_more).build()]).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init();
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Reader::from_env();
    let worker = WorkerConfig::read(&mut settings);
    let table = settings.required("FLOTILLA_COUNTER_TABLE");
    settings.finish()?;
    let sdk = aws::sdk_config().await;
    Ok(flotilla_runtime::run(Counter { table }, worker, &sdk, shutdown::on_signals()?).await?)
}
