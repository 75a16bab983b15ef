//! shove on SQS with a handler that does nothing.
//!
//! `BENCH_KIND=batch`: `BENCH_NUMBER` of its batch consumers, ten messages each. `each`: one consumer
//! of single messages, that many at a time.

use std::{env, future::pending, time::Duration};

use shove::{
    BatchConsumerOptions, BatchMessageHandler, Broker, ConsumerOptions, MessageHandler,
    MessageMetadata, Outcome, Sqs, TopologyBuilder, define_topic, sns::SnsConfig,
};

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Message {
    n: u64,
}

define_topic!(Bench, Message, TopologyBuilder::new("bench").build());

#[derive(Clone)]
struct Noop;

impl MessageHandler<Bench> for Noop {
    type Context = ();

    async fn handle(&self, _: Message, _: MessageMetadata, (): &()) -> Outcome {
        Outcome::Ack
    }
}

impl BatchMessageHandler<Bench> for Noop {
    type Context = ();

    async fn handle_batch(&self, _: Vec<(Message, MessageMetadata)>, (): &()) -> Outcome {
        Outcome::Ack
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let number: u16 = env::var("BENCH_NUMBER")?.parse()?;
    let endpoint_url = Some(env::var("AWS_ENDPOINT_URL")?);
    let config = SnsConfig { region: Some("us-east-1".to_owned()), endpoint_url };
    let broker = Broker::<Sqs>::new(config).await?;
    broker.topology().declare::<Bench>().await?;
    match env::var("BENCH_KIND")?.as_str() {
        "batch" => batches(&broker, number).await,
        _ => one_by_one(&broker, number).await,
    }
}

async fn batches(broker: &Broker<Sqs>, number: u16) -> Result<(), Failed> {
    let run = |_| {
        let consumer = broker.batch_consumer();
        tokio::spawn(async move {
            let options = BatchConsumerOptions::<Sqs>::new().with_max_batch_size(10);
            consumer.run::<Bench, _>(Noop, (), options).await
        })
    };
    for consumer in (0..number).map(run).collect::<Vec<_>>() {
        consumer.await??;
    }
    Ok(())
}

async fn one_by_one(broker: &Broker<Sqs>, number: u16) -> Result<(), Failed> {
    let mut supervisor = broker.consumer_supervisor();
    let options = ConsumerOptions::<Sqs>::new().with_prefetch_count(number).with_concurrent_processing(true);
    supervisor.register::<Bench, _>(Noop, options)?;
    let outcome = supervisor.run_until_timeout(pending::<()>(), Duration::ZERO).await;
    Err(format!("the supervisor ended: {outcome:?}").into())
}
