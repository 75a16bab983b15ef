//! A job that does as its message says, run in this process.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::{
    Delivery, Effect, Failure, Job, Lease, aws,
    config::{Reader, WorkerConfig},
};
use flotilla_tests::{World, eventually};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Order {
    id: String,
    /// What to do in the first attempts, one by one; then the effect.
    #[serde(default)]
    first: Vec<String>,
    #[serde(default)]
    always: Option<String>,
    #[serde(default)]
    seconds: f64,
    /// How long the job goes on after its effect.
    #[serde(default)]
    after: f64,
}

/// Counts in a row how often the effect of an id happened.
pub(crate) struct Scripted {
    table: String,
    runs: Arc<AtomicU64>,
    done: Arc<Mutex<Vec<String>>>,
}

impl Job for Scripted {
    const NAME: &'static str = "scripted";
    type Message = Order;
    type Work = Order;

    async fn prepare(&self, order: Order, _: &Delivery) -> Result<(Effect, Order), Failure> {
        Ok((Effect::Once(order.id.clone()), order))
    }

    async fn run(&self, order: Order, lease: &Lease) -> Result<(), Failure> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs_f64(order.seconds)).await;
        let step = order.first.get(lease.attempt() as usize - 1).or(order.always.as_ref());
        match step.map(String::as_str) {
            Some("panic") => panic!("as ordered"),
            Some("permanent") => {
                return Err(Failure::permanent("ordered", "permanent, as ordered"));
            }
            Some("transient") => {
                return Err(Failure::transient("ordered", "transient, as ordered"));
            }
            Some("forget") => return Ok(()),
            _ => {}
        }
        let count = Update::builder()
            .table_name(&self.table)
            .key("subid", Attr::S(order.id.clone()))
            .key("place", Attr::S("-".into()))
            .update_expression("ADD times :one")
            .expression_attribute_values(":one", Attr::N("1".into()))
            .build()
            .map_err(|e| Failure::permanent("request", "a count").caused_by(e))?;
        lease.complete(vec![TransactWriteItem::builder().update(count).build()]).await?;
        self.done.lock().unwrap().push(order.id);
        sleep(Duration::from_secs_f64(order.after)).await;
        Ok(())
    }
}

pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), Failure>>,
    pub(crate) runs: Arc<AtomicU64>,
    /// Effects in the order that they happened in.
    pub(crate) done: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) async fn start(world: &World, settings: &[(&str, &str)]) -> Self {
        let outputs = world.outputs();
        let mut pairs = vec![
            ("FLOTILLA_QUEUE_URL", outputs.grading_queue_url.as_str()),
            ("FLOTILLA_LEDGER_TABLE", &outputs.ledger_table_name),
            ("FLOTILLA_PAYLOADS_BUCKET", &outputs.payloads_bucket_name),
            ("FLOTILLA_HTTP_ADDR", "127.0.0.1:0"),
            ("FLOTILLA_VISIBILITY_SECONDS", "4"),
            ("FLOTILLA_WAIT_SECONDS", "1"),
            ("FLOTILLA_RETRY_FIRST_SECONDS", "0.2"),
        ];
        pairs.extend_from_slice(settings);
        let mut reader = Reader::from_pairs(pairs);
        let config = WorkerConfig::read(&mut reader);
        reader.finish().unwrap();
        let (stop, runs) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (table, done) = (outputs.submissions_table_name.clone(), Arc::default());
        let job = Scripted { table, runs: runs.clone(), done: Arc::clone(&done) };
        let sdk = aws::sdk_config().await;
        let token = stop.clone();
        let ended =
            tokio::spawn(async move { flotilla_runtime::run(job, config, &sdk, token).await });
        Self { stop, ended, runs, done }
    }

    pub(crate) async fn stop(self) -> u64 {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
        self.runs.load(Ordering::SeqCst)
    }
}

pub(crate) async fn times(world: &World, id: &str) -> Option<u64> {
    world.row(id).await?.get("times")?.as_n().ok()?.parse().ok()
}

pub(crate) async fn until_done(world: &World, id: &str) -> u64 {
    eventually(id, Duration::from_secs(60), async || times(world, id).await).await
}
