//! What is compared with: loops of the bare SDK, each of which receives ten messages and deletes
//! them, and promises nothing.
//!
//! `BENCH_IN_HAND` is how many messages all loops together have in hand at the most. With
//! `BENCH_TABLE` they are put into that table before, in one write.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, Message},
};

/// The most messages that one call carries.
const BATCH: usize = 10;

/// Where messages are put.
struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let queue = std::env::var("BENCH_QUEUE_URL")?;
    let in_hand: usize = std::env::var("BENCH_IN_HAND")?.parse()?;
    let sdk = flotilla_runtime::aws::sdk_config().await;
    let client = Client::new(&sdk);
    let table = std::env::var("BENCH_TABLE").ok();
    let table = table.map(|name| Table { client: aws_sdk_dynamodb::Client::new(&sdk), name });
    let table = Arc::new(table);
    let shares = (0..in_hand.div_ceil(BATCH)).map(|i| (in_hand - i * BATCH).min(BATCH));
    let loops = shares.map(|share| consume(client.clone(), queue.clone(), share, table.clone()));
    futures::future::try_join_all(loops.map(tokio::spawn)).await?.into_iter().collect()
}

async fn consume(
    client: Client,
    queue: String,
    share: usize,
    table: Arc<Option<Table>>,
) -> Result<(), Failed> {
    loop {
        let call = client.receive_message().queue_url(&queue).wait_time_seconds(20);
        let call = call.max_number_of_messages(share as i32).visibility_timeout(60);
        let messages = call.send().await?.messages.unwrap_or_default();
        if let (Some(table), false) = (&*table, messages.is_empty()) {
            table.put(&messages).await?;
        }
        let entries: Vec<_> = messages
            .into_iter()
            .enumerate()
            .map(|(i, message)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(i.to_string())
                    .set_receipt_handle(message.receipt_handle)
                    .build()
            })
            .collect::<Result<_, _>>()?;
        if !entries.is_empty() {
            client
                .delete_message_batch()
                .queue_url(&queue)
                .set_entries(Some(entries))
                .send()
                .await?;
        }
    }
}

impl Table {
    async fn put(&self, messages: &[Message]) -> Result<(), Failed> {
        let text = |value: Option<&str>| AttributeValue::S(value.unwrap_or_default().to_owned());
        let row = |message: &Message| {
            let put = PutRequest::builder().item("device", text(Some("all")));
            let put = put.item("reading", text(message.message_id()));
            let put = put.item("body", text(message.body())).build()?;
            Ok::<_, Failed>(WriteRequest::builder().put_request(put).build())
        };
        let rows = messages.iter().map(row).collect::<Result<_, _>>()?;
        self.client.batch_write_item().request_items(&self.name, rows).send().await?;
        Ok(())
    }
}
