//! How long a reading takes from the queue to whoever listens, on the endpoint that the tests use.

use std::{
    collections::HashMap,
    process::Stdio,
    time::{Duration, Instant},
};

use anomaly_worker::tables::now_ms;
use aws_sdk_sqs::Client;
use flotilla_runtime::{aws, failure::chain};
use futures::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    Trouble,
    figure::{Better, Figure},
    http,
    process::{CONSUMER_CORE, ENDPOINT_CORE, Process, load, sibling},
    settings::Settings,
    stack::Stack,
};

const NAME: &str = "anomaly.reading_to_websocket_p99_ms";
/// Readings that are sent, and from how many sensors.
const READINGS: u64 = 600;
const DEVICES: u64 = 20;
/// From one reading to the next.
const PACE: Duration = Duration::from_millis(25);
/// How long a process may take to be ready, to end, or to tell of a reading.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the figure, where the environment names an endpoint.
pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    if !settings.wants(&[NAME]) {
        return Ok(());
    }
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("left out: {NAME}: AWS_ENDPOINT_URL names no endpoint (make bench starts one)");
        return Ok(());
    }
    let stack = Stack::create("anomaly").await?;
    let measured = on(&stack).await;
    stack.delete().await?;
    let mut took = measured?;
    took.sort_unstable();
    let part =
        |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    Figure::new(NAME, part(99), "ms", Better::Lower)
        .target(250.0)
        .detail(json!({
            "p50_ms": part(50), "p95_ms": part(95), "max_ms": part(100),
            "readings": took.len(), "devices": DEVICES, "pace_ms": PACE.as_millis() as u64,
            "machine_load": load(), "what": "from the call of SendMessage to the event at the listener",
        }))
        .print();
    Ok(())
}

async fn on(stack: &Stack) -> Result<Vec<Duration>, Trouble> {
    let (address, health) = (http::free_address()?, http::free_address()?);
    let queue = stack.output("AnomalyQueueUrl");
    let mut command = program("anomaly-worker", stack);
    command.env("FLOTILLA_QUEUE_URL", queue).env("FLOTILLA_HTTP_ADDR", &health);
    command.env("FLOTILLA_LEDGER_TABLE", stack.output("LedgerTableName"));
    command.env("FLOTILLA_PAYLOADS_BUCKET", stack.output("PayloadsBucketName"));
    let worker = Process::start(command, ENDPOINT_CORE, Stdio::null())?;
    let mut command = program("gateway", stack);
    command.env("FLOTILLA_ANOMALY_QUEUE_URL", queue).env("FLOTILLA_GATEWAY_ADDR", &address);
    let gateway = Process::start(command, CONSUMER_CORE, Stdio::null())?;
    let ready = http::until_ready(&health, "/readyz", PATIENCE).await;
    let ready = ready.and(http::until_ready(&address, "/time", PATIENCE).await);
    let measured = match ready {
        Ok(()) => listen(&address, queue).await,
        Err(why) => Err(why),
    };
    let words = || worker.last_words() + &gateway.last_words();
    let measured = measured.map_err(|why| Trouble::new(format!("{why}{}", words())));
    for mut process in [gateway, worker] {
        process.signal(Signal::SIGTERM);
        process.ended(PATIENCE).await?;
    }
    measured
}

fn program(name: &str, stack: &Stack) -> Command {
    let mut command = Command::new(sibling(name));
    command.env("FLOTILLA_LOG", "error");
    for (setting, output) in [
        ("FLOTILLA_DEVICES_TABLE", "DevicesTableName"),
        ("FLOTILLA_READINGS_TABLE", "ReadingsTableName"),
        ("FLOTILLA_EDGES_TABLE", "EdgesTableName"),
        ("FLOTILLA_PROBLEMS_TABLE", "ProblemsTableName"),
    ] {
        command.env(setting, stack.output(output));
    }
    command
}

/// Sends readings at a steady pace, and takes the time until a listener is told of each.
async fn listen(address: &str, queue: &str) -> Result<Vec<Duration>, Trouble> {
    let failed = |e: &(dyn std::error::Error + 'static)| {
        Trouble::new(format!("ws://{address}/ws: {}", chain(e)))
    };
    let (mut socket, _) =
        connect_async(format!("ws://{address}/ws")).await.map_err(|e| failed(&e))?;
    let wanted = json!({ "subscribe": { "events": ["reading"] } }).to_string();
    socket.send(Message::text(wanted)).await.map_err(|e| failed(&e))?;
    // The confirmation: from here on everything is told.
    socket.next().await;
    let sending = tokio::spawn(send(queue.to_owned()));
    let mut told = HashMap::new();
    while (told.len() as u64) < READINGS {
        let Ok(Some(message)) = timeout(PATIENCE, socket.next()).await else {
            let what = format!("{} of {READINGS} readings were told of", told.len());
            return Err(Trouble::new(what));
        };
        let message = message.map_err(|e| failed(&e))?;
        let event: Value =
            message.to_text().ok().and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        if let Some(seq) = event["reading"]["seq"].as_u64() {
            told.entry(seq).or_insert_with(Instant::now);
        }
    }
    let sent = sending.await.map_err(|e| failed(&e))??;
    let took = sent.into_iter().filter_map(|(seq, at)| Some(told.get(&seq)?.duration_since(at)));
    Ok(took.collect())
}

async fn send(queue: String) -> Result<Vec<(u64, Instant)>, Trouble> {
    let client = Client::new(&aws::sdk_config().await);
    let (mut sent, mut pace) = (Vec::new(), tokio::time::interval(PACE));
    for seq in 0..READINGS {
        pace.tick().await;
        let at = now_ms() as f64 / 1000.0;
        let body =
            json!({ "id": format!("far-{}", seq % DEVICES), "filling": 50, "at": at, "seq": seq });
        sent.push((seq, Instant::now()));
        let call = client.send_message().queue_url(&queue).message_body(body.to_string());
        call.send().await.map_err(|e| Trouble::new(format!("SendMessage: {}", chain(&e))))?;
    }
    Ok(sent)
}
