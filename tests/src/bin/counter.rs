//! A worker whose effect is to count: a row says how often an effect happened.

use std::{process::ExitCode, time::Duration};

use aws_sdk_dynamodb::types::{
    AttributeValue as Attr, TransactWriteItem, Update, builders::UpdateBuilder,
};
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
    /// Where the effects of several messages are noted in their order.
    #[serde(default)]
    list: Option<String>,
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
        let once_more = self.row(&count.id).update_expression("ADD times :one");
        let once_more = once_more.expression_attribute_values(":one", Attr::N("1".to_owned()));
        let noted = count.list.map(|list| {
            let noted = self.row(&list);
            noted
                .update_expression("SET ids = list_append(if_not_exists(ids, :none), :id)")
                .expression_attribute_values(":none", Attr::L(Vec::new()))
                .expression_attribute_values(":id", Attr::L(vec![Attr::S(count.id)]))
        });
        let items = [once_more].into_iter().chain(noted).map(|update| {
            let update = update.build();
            let update = update.map_err(|e| Failure::permanent("request", "a count").caused_by(e));
            Ok(TransactWriteItem::builder().update(update?).build())
        });
        lease.complete(items.collect::<Result<_, Failure>>()?).await?;
        Ok(())
    }
}

impl Counter {
    fn row(&self, id: &str) -> UpdateBuilder {
        let row = Update::builder().table_name(&self.table).key("subid", Attr::S(id.to_owned()));
        row.key("place", Attr::S("-".to_owned()))
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
