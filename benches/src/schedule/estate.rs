//! The worker on an estate of many accounts: how many calls it makes, and how long it takes.

use std::{
    collections::HashMap,
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::net::TcpListener;

use super::{cloud::Cloud, trouble};
use crate::{
    Trouble,
    figure::{Better, Figure},
    process::{load, sibling},
    rig::{Consumer, Rig},
    settings::Settings,
    stub::queue::Source,
};

const CALLS: &str = "schedule.calls_per_1000_instances";
const ESTATE: &str = "schedule.estate_514_accounts_s";
/// How long an estate may take before the figure is given up.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);
const SLOTS: usize = 64;
const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

/// An estate: so many instances in each region of each account.
#[derive(Debug, Clone, Copy)]
struct Estate {
    accounts: usize,
    regions: usize,
    instances: usize,
    /// What a call of EC2 or STS takes.
    latency: Duration,
    /// Of a hundred calls, so many are throttled.
    throttled: u64,
}

impl Estate {
    fn size(self) -> usize {
        self.accounts * self.regions * self.instances
    }
}

/// What it took.
struct Run {
    seconds: f64,
    calls: HashMap<String, u64>,
}

pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    if settings.wants(&[CALLS]) {
        let one = Estate {
            accounts: 1,
            regions: 1,
            instances: 1000,
            latency: Duration::from_millis(1),
            throttled: 0,
        };
        let run = stop_all(one).await?;
        let calls: u64 = run.calls.values().sum();
        Figure::new(CALLS, calls as f64, "calls", Better::Lower)
            .target(25.0)
            .detail(json!({ "calls": run.calls, "dry_run_included": true }))
            .print();
    }
    if settings.wants(&[ESTATE]) {
        let estate = Estate {
            accounts: 514,
            regions: REGIONS.len(),
            instances: 20,
            latency: Duration::from_millis(50),
            throttled: 20,
        };
        let run = stop_all(estate).await?;
        Figure::new(ESTATE, run.seconds, "s", Better::Lower)
            .target(60.0)
            .detail(json!({
                "accounts": 514, "regions": REGIONS, "instances": estate.size(), "slots": SLOTS,
                "latency_ms": 50, "throttled_percent": 20, "calls": run.calls, "load": load(),
                "what": "from the tick until every instance is stopped and the queue is empty",
            }))
            .print();
    }
    Ok(())
}

/// One tick that stops all of an estate.
async fn stop_all(estate: Estate) -> Result<Run, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(trouble)?;
    let url = format!("http://{}", listener.local_addr().map_err(trouble)?);
    let cloud = Arc::new(Cloud::new(estate.latency, estate.throttled));
    let server = tokio::spawn(cloud.clone().serve(listener));
    let rig = Rig::start(&Source { template: String::new(), left: 0, twice_every: 0 }).await?;
    let measured = measure(estate, &rig, &cloud, &url).await;
    rig.stop().await;
    server.abort();
    measured
}

async fn measure(estate: Estate, rig: &Rig, cloud: &Cloud, url: &str) -> Result<Run, Trouble> {
    fill(estate, rig).await?;
    let worker = rig.consume(&scheduler(url))?;
    let start = Instant::now();
    rig.send(&json!({ "time": "2026-06-01T12:00:00Z" }).to_string()).await?;
    let done = until_done(estate, rig, cloud).await;
    let seconds = start.elapsed().as_secs_f64();
    let said = worker.last_words();
    worker.kill().await;
    match done {
        Ok(()) => Ok(Run { seconds, calls: cloud.calls() }),
        Err(why) => Err(Trouble::new(format!("{why}{said}"))),
    }
}

/// Contexts that are off at every minute, one for each account.
async fn fill(estate: Estate, rig: &Rig) -> Result<(), Trouble> {
    for account in 0..estate.accounts {
        let context = json!({ "contextID": { "S": format!("account-{account:03}") } });
        let rules = json!({
            "TableName": "contexts", "Key": context,
            "UpdateExpression": "SET schedulingRuleStart = :a, schedulingRuleStop = :b",
            "ExpressionAttributeValues": { ":a": { "S": "0 0 1 1 *" }, ":b": { "S": "* * * * *" } },
        });
        rig.call("DynamoDB_20120810.UpdateItem", &rules).await?;
        let resources = json!({
            "TableName": "resources", "Key": context, "UpdateExpression": "SET #f = :l",
            "ExpressionAttributeNames": { "#f": "ec2:instance" },
            "ExpressionAttributeValues": { ":l": { "S": arns(estate, account) } },
        });
        rig.call("DynamoDB_20120810.UpdateItem", &resources).await?;
    }
    Ok(())
}

fn arns(estate: Estate, account: usize) -> String {
    let number = 100_000_000_000 + account;
    let region = |region: &&str| {
        let arn = move |n: usize| {
            format!("arn:aws:ec2:{region}:{number}:instance/i-{account:03}-{region}-{n:04}")
        };
        (0..estate.instances).map(arn).collect::<Vec<_>>()
    };
    let all: Vec<String> = REGIONS[..estate.regions].iter().flat_map(region).collect();
    json!({ "id": all }).to_string()
}

fn scheduler(cloud: &str) -> Consumer {
    let slots = SLOTS.to_string();
    let env = [
        ("FLOTILLA_SLOTS", slots.as_str()),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ("FLOTILLA_CONTEXTS_TABLE", "contexts"),
        ("FLOTILLA_RESOURCES_TABLE", "resources"),
        ("FLOTILLA_TAGS_TABLE", "tags"),
        ("FLOTILLA_STATES_TABLE", "states"),
        ("FLOTILLA_AUDIT_TABLE", "audit"),
        ("FLOTILLA_ROLE", "flotilla"),
        ("FLOTILLA_HTTP_ADDR", "127.0.0.1:0"),
        ("FLOTILLA_LOG", "error"),
        ("AWS_ENDPOINT_URL_EC2", cloud),
        ("AWS_ENDPOINT_URL_STS", cloud),
    ];
    Consumer {
        name: "the scheduler",
        program: sibling("schedule-executor"),
        args: Vec::new(),
        env: env.into_iter().map(|(key, value)| (key, OsString::from(value))).collect(),
        body: String::new(),
    }
}

async fn until_done(estate: Estate, rig: &Rig, cloud: &Cloud) -> Result<(), Trouble> {
    let (start, size) = (Instant::now(), estate.size());
    loop {
        let stopped = cloud.stopped();
        let messages = rig.counts().await?.messages();
        if stopped == size && messages.visible + messages.in_flight == 0 {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let what = format!("{stopped} of {size} instances are stopped after {PATIENCE:?}");
            return Err(Trouble::new(what));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Numbers from 0 to 99 that are the same in every run.
#[derive(Debug, Default)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn roll(&self) -> u64 {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mixed = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) % 100
    }
}
