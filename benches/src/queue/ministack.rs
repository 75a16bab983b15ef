//! The same consumers on the local endpoint that the tests use. It is slower than any of them, so
//! these figures are printed beside the others and have no target.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    types::{QueueAttributeName as Name, SendMessageBatchRequestEntry},
};
use flotilla_runtime::aws;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    consumers::{SLOTS, bare_loop, flotilla_ahead},
    peers,
};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::load,
    rig::Consumer,
    settings::Settings,
};

/// Messages of a run.
const MESSAGES: usize = 2000;
/// How long they may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures on the endpoint that the environment names, if it names one.
pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    let name = "queue.ministack_messages_per_second";
    if !settings.wants(&[name]) {
        return Ok(());
    }
    let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") else {
        eprintln!("left out: {name}: AWS_ENDPOINT_URL names no endpoint (make bench starts one)");
        return Ok(());
    };
    let client = Client::new(&aws::sdk_config().await);
    let mut rates = HashMap::new();
    for consumer in [flotilla_ahead(), bare_loop(SLOTS)] {
        rates.insert(consumer.name, drained(&client, &endpoint, &consumer).await?.round());
    }
    for peer in peers::elsewhere().await {
        match drained(&client, &endpoint, &peer).await {
            Ok(rate) => drop(rates.insert(peer.name, rate.round())),
            // What is wrong with one is no trouble of ours.
            Err(why) => eprintln!("left out: {} on the local endpoint: {why}", peer.name),
        }
    }
    let ours = rates.get("flotilla").copied().unwrap_or(f64::NAN);
    Figure::new(name, ours, "messages/s", Better::Higher)
        .detail(
            json!({ "rates": rates, "messages": MESSAGES, "slots": SLOTS, "machine_load": load() }),
        )
        .print();
    Ok(())
}

/// Messages a second, from the first that is gone to the last.
async fn drained(client: &Client, endpoint: &str, consumer: &Consumer) -> Result<f64, Trouble> {
    let url = filled(client, consumer).await?;
    let process = consumer.start(endpoint, &url)?;
    let (start, mut first) = (Instant::now(), None);
    loop {
        let left = left(client, &url).await?;
        if left < MESSAGES {
            first.get_or_insert((Instant::now(), left));
        }
        match first {
            Some((since, after)) if left == 0 => {
                process.kill().await;
                return Ok(after as f64 / since.elapsed().as_secs_f64());
            }
            _ if start.elapsed() > LIMIT => {
                let name = consumer.name;
                return Err(Trouble::new(format!("{name} left {left} messages after {LIMIT:?}")));
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A queue of the consumer's own, with all messages on it. The endpoint is thrown away with it.
async fn filled(client: &Client, consumer: &Consumer) -> Result<String, Trouble> {
    let name = format!("bench-{}", consumer.name.replace(' ', "-"));
    let dead = create(client, &format!("{name}-dead"), None).await?;
    let arn = client.get_queue_attributes().queue_url(&dead).attribute_names(Name::QueueArn);
    let arn = arn.send().await.map_err(|e| failed(&e))?;
    let arn = arn.attributes().and_then(|all| all.get(&Name::QueueArn)).cloned();
    let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 1000 });
    let url = create(client, &name, Some(&policy)).await?;
    for first in (0..MESSAGES).step_by(10) {
        let entries = (first..first + 10).map(|n| {
            let body = consumer.body.replace("{n}", &n.to_string());
            SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body).build()
        });
        let entries = entries.collect::<Result<_, _>>().map_err(|e| failed(&e))?;
        let sent = client.send_message_batch().queue_url(&url).set_entries(Some(entries));
        sent.send().await.map_err(|e| failed(&e))?;
    }
    Ok(url)
}

async fn create(client: &Client, name: &str, policy: Option<&Value>) -> Result<String, Trouble> {
    let policy = policy.map(|policy| HashMap::from([(Name::RedrivePolicy, policy.to_string())]));
    let call = client.create_queue().queue_name(name).set_attributes(policy);
    let created = call.send().await.map_err(|e| failed(&e))?;
    Ok(created.queue_url.unwrap_or_default())
}

async fn left(client: &Client, url: &str) -> Result<usize, Trouble> {
    let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
    let call = client.get_queue_attributes().queue_url(url);
    let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
    let answer = answer.map_err(|e| failed(&e))?;
    let count = |name| answer.attributes()?.get(name)?.parse::<usize>().ok();
    Ok(names.iter().filter_map(count).sum())
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble::new(format!("the local endpoint: {}", flotilla_runtime::failure::chain(error)))
}
