//! What is compared with: loops of the bare SDK, each of which receives ten messages and deletes
//! them, and promises nothing.
//!
//! `BENCH_IN_HAND` is how many messages all loops together have in hand at the most.

use aws_sdk_sqs::{Client, types::DeleteMessageBatchRequestEntry};

/// The most messages that one call carries.
const BATCH: usize = 10;

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let queue = std::env::var("BENCH_QUEUE_URL")?;
    let in_hand: usize = std::env::var("BENCH_IN_HAND")?.parse()?;
    let client = Client::new(&flotilla_runtime::aws::sdk_config().await);
    let shares = (0..in_hand.div_ceil(BATCH)).map(|i| (in_hand - i * BATCH).min(BATCH));
    let loops = shares.map(|share| consume(client.clone(), queue.clone(), share));
    futures::future::try_join_all(loops.map(tokio::spawn)).await?.into_iter().collect()
}

async fn consume(client: Client, queue: String, share: usize) -> Result<(), Failed> {
    loop {
        let call = client.receive_message().queue_url(&queue).wait_time_seconds(20);
        let call = call.max_number_of_messages(share as i32).visibility_timeout(60);
        let messages = call.send().await?.messages.unwrap_or_default();
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
