//! A worker whose effect is to count: a row says how often an effect happened.

use std::{process::ExitCode, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, process};

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
    process::worker(
        |settings, _| settings.required("FLOTILLA_COUNTER_TABLE"),
        |table, _| Ok(Counter { table }),
    )
    .await
}
