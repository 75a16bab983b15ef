//! Whatever goes wrong between workers and their endpoint, and however they end: every message
//! is somewhere, and no effect happens twice.
//!
//! `FLOTILLA_CHAOS=long` (`make chaos`) sends ten thousand messages instead of three hundred, and
//! `FLOTILLA_CHAOS_SEED` repeats a run's faults.

use std::time::{Duration, Instant};

use flotilla_tests::{Books, Crew, Fault, FaultProxy, Rule, Seed, World, eventually};
use serde_json::json;

/// The calls of a batch whose entries can fail one by one.
const BATCHES: &[&str] = &["DeleteMessageBatch", "ChangeMessageVisibilityBatch"];

/// The calls that can be done twice, or be done and not be heard of, and leave nothing in flight.
const REPEATABLE: &[&str] =
    &["DeleteMessageBatch", "ChangeMessageVisibilityBatch", "TransactWriteItems", "UpdateItem"];

/// Faults after which every message can be handed back, if the worker sees to it.
const MILD: &[Rule] = &[
    Rule { fault: Fault::ServerError, calls: &[], one_in: 23 },
    Rule { fault: Fault::Throttled, calls: &[], one_in: 19 },
    Rule { fault: Fault::PartlyFailed, calls: BATCHES, one_in: 5 },
    Rule { fault: Fault::Dropped, calls: REPEATABLE, one_in: 29 },
    Rule { fault: Fault::Delayed, calls: &[], one_in: 31 },
];

/// Those, and what leaves messages in flight until their visibility ends.
fn wild(size: &Size) -> Vec<Rule> {
    let rough = [
        Rule { fault: Fault::Hung, calls: &["ReceiveMessage"], one_in: size.hung_in },
        Rule { fault: Fault::Dropped, calls: &["ReceiveMessage", "SendMessage"], one_in: 9 },
        Rule { fault: Fault::Duplicated, calls: &["ReceiveMessage"], one_in: 4 },
        Rule { fault: Fault::Expired, calls: BATCHES, one_in: 12 },
    ];
    [&rough, MILD].concat()
}

struct Size {
    messages: usize,
    workers: usize,
    /// Workers that are ended at random, at least.
    ended: usize,
    limit: Duration,
    /// One receive in so many hangs, for twelve seconds of its worker.
    hung_in: u64,
}

impl Size {
    fn from_env() -> Self {
        match std::env::var("FLOTILLA_CHAOS").as_deref() {
            Ok("long") => {
                let limit = Duration::from_secs(1500);
                Self { messages: 10_000, workers: 3, ended: 30, limit, hung_in: 400 }
            }
            _ => Self {
                messages: 200,
                workers: 2,
                ended: 4,
                limit: Duration::from_secs(100),
                hung_in: 60,
            },
        }
    }
}

/// Messages of every fate, some of them sent twice.
fn messages(count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for n in 0..count {
        let id = format!("wild-{n}");
        let body = match n % 40 {
            7 => format!("not JSON: {id}"),
            17 => json!({ "id": id, "fate": "permanent" }).to_string(),
            24 => json!({ "id": id, "fate": "transient" }).to_string(),
            34 => json!({ "id": id, "fate": "panic" }).to_string(),
            // Longer than a lease.
            39 if n % 200 == 39 => json!({ "id": id, "ms": 5500 }).to_string(),
            rest => json!({ "id": id, "ms": rest * 5 }).to_string(),
        };
        bodies.extend((n % 10 == 3).then(|| body.clone()));
        bodies.push(body);
    }
    bodies
}

/// Workers are killed, stopped and lied to until all is done.
async fn storm(world: &World, proxy: &FaultProxy, seed: Seed, size: &Size) {
    proxy.obey(&wild(size));
    let settings = [("FLOTILLA_VISIBILITY_SECONDS", "4"), ("FLOTILLA_GRACE_SECONDS", "1")];
    let settings = [&settings[..], &[("FLOTILLA_SLOTS", "8")]].concat();
    let mut crew = Crew::start((world, proxy), seed, size.workers, 6000, &settings).await;
    let (end, url) = (Instant::now() + size.limit, &world.outputs().grading_queue_url);
    while crew.killed + crew.stopped < size.ended || world.left_on(url).await > 50 {
        assert!(Instant::now() < end, "{} left after {:?}", world.left_on(url).await, size.limit);
        crew.disturb().await;
    }
    eventually("an empty queue", size.limit, async || {
        (world.left_on(url).await == 0).then_some(())
    })
    .await;
    println!("killed {} workers, stopped {}", crew.killed, crew.stopped);
    crew.stop().await;
}

/// Workers are stopped in the middle of it: what they held is on the queue at once, long before
/// its minute of visibility is over.
async fn orderly_stop(world: &World, proxy: &FaultProxy, seed: Seed, books: &mut Books) {
    proxy.obey(MILD);
    let calm = |n: usize| json!({ "id": format!("calm-{n}"), "ms": 200 + n % 8 * 400 }).to_string();
    books.send(world, &(0..100).map(calm).collect::<Vec<_>>()).await;
    let settings = [("FLOTILLA_VISIBILITY_SECONDS", "60"), ("FLOTILLA_GRACE_SECONDS", "0.3")];
    let settings = [&settings[..], &[("FLOTILLA_SLOTS", "8")]].concat();
    let crew = Crew::start((world, proxy), seed, 2, 0, &settings).await;
    let url = &world.outputs().grading_queue_url;
    eventually("work", Duration::from_secs(30), async || {
        (world.left_on(url).await < 85 && world.in_flight(url).await > 8).then_some(())
    })
    .await;
    crew.stop().await;
    eventually("nothing in flight", Duration::from_secs(10), async || {
        (world.in_flight(url).await == 0).then_some(())
    })
    .await;
    let standing = books.stand(world).await;
    println!("after an orderly stop: {standing}");
    standing.check();
    assert!(standing.queued() > 0, "all was done before the stop");
    let crew = Crew::start((world, proxy), seed, 2, 0, &settings).await;
    world.until_queue_is_empty().await;
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_faults_kills_and_wrong_clocks_nothing_is_lost_doubled_or_stranded() {
    let (seed, size) = (Seed::from_env(), Size::from_env());
    println!("FLOTILLA_CHAOS_SEED={}", seed.0);
    let world = World::new().await;
    let proxy = FaultProxy::new(world.aws.url.as_deref().unwrap(), seed);
    let mut books = Books::default();
    books.send(&world, &messages(size.messages)).await;
    storm(&world, &proxy, seed, &size).await;
    let standing = books.stand(&world).await;
    println!("after the storm: {standing}");
    standing.check();
    let injected = proxy.injected();
    println!("faults of the storm: {injected:?}");
    for rule in wild(&size) {
        assert!(injected.contains_key(&rule.fault), "no {:?} in {injected:?}", rule.fault);
    }
    assert!(injected.contains_key(&Fault::Skewed), "no wrong clock in {injected:?}");
    orderly_stop(&world, &proxy, seed, &mut books).await;
    let standing = books.stand(&world).await;
    println!("at the end: {standing}; faults: {:?}", proxy.injected());
    standing.check();
}

/// On a FIFO queue: faults that leave the queue's own promise in place. A message that is handed out
/// twice at a time is none of them.
fn unruly() -> Vec<Rule> {
    let rough = [
        Rule { fault: Fault::Dropped, calls: &["ReceiveMessage", "SendMessage"], one_in: 9 },
        Rule { fault: Fault::Expired, calls: BATCHES, one_in: 12 },
    ];
    [&rough, MILD].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_faults_and_kills_a_fifo_queue_keeps_its_groups_in_order() {
    let seed = Seed::from_env();
    println!("FLOTILLA_CHAOS_SEED={}", seed.0);
    let world = World::new().await;
    let queues = world.fifo_queues().await;
    let proxy = FaultProxy::new(world.aws.url.as_deref().unwrap(), seed);
    let (groups, each) = (["red", "green", "blue", "black"], 20);
    let mut books = Books::of(&queues);
    for n in 0..each {
        for group in groups {
            let fate = ["", "", "transient", "", "panic"][n % 5];
            let id = format!("{group}-{n:02}");
            let body = json!({ "id": id, "fate": fate, "ms": n * 10, "list": group }).to_string();
            books.note(&body);
            queues.send(&world.aws, Some(group), &body).await;
        }
    }
    proxy.obey(&unruly());
    let url: &'static str = Box::leak(queues.url.clone().into_boxed_str());
    let settings = [
        ("FLOTILLA_QUEUE_URL", url),
        ("FLOTILLA_VISIBILITY_SECONDS", "4"),
        ("FLOTILLA_GRACE_SECONDS", "1"),
        ("FLOTILLA_SLOTS", "4"),
    ];
    let mut crew = Crew::start((&world, &proxy), seed, 2, 0, &settings).await;
    for _ in 0..4 {
        crew.disturb().await;
    }
    eventually("an empty queue", Duration::from_secs(120), async || {
        (world.left_on(url).await == 0).then_some(())
    })
    .await;
    println!("killed {}, stopped {}; {:?}", crew.killed, crew.stopped, proxy.injected());
    crew.stop().await;
    let standing = books.stand(&world).await;
    println!("at the end: {standing}");
    standing.check();
    for group in groups {
        let row = world.row(group).await.unwrap();
        let ids: Vec<_> = row["ids"].as_l().unwrap().iter().map(|id| id.as_s().unwrap()).collect();
        let sent: Vec<_> = (0..each).map(|n| format!("{group}-{n:02}")).collect();
        assert_eq!(ids, sent.iter().collect::<Vec<_>>(), "each effect once, in order");
    }
}

/// Faults that hand out no message twice after its end: a death would be followed by an effect.
fn harsh() -> Vec<Rule> {
    let rough = [
        Rule { fault: Fault::Dropped, calls: &["ReceiveMessage", "SendMessage"], one_in: 9 },
        Rule { fault: Fault::Dropped, calls: &["TransactWriteItems"], one_in: 4 },
        Rule { fault: Fault::Expired, calls: &["ChangeMessageVisibilityBatch"], one_in: 12 },
    ];
    [&rough, MILD].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_attempts_and_receives_ahead_nothing_is_both_done_and_dead() {
    let (seed, size) = (Seed::from_env(), Size::from_env());
    println!("FLOTILLA_CHAOS_SEED={}", seed.0);
    let world = World::new().await;
    let proxy = FaultProxy::new(world.aws.url.as_deref().unwrap(), seed);
    let mut books = Books::default();
    let body = |n: usize| match n % 40 {
        7 => format!("not JSON: few-{n}"),
        17 => json!({ "id": format!("few-{n}"), "fate": "permanent" }).to_string(),
        24 => json!({ "id": format!("few-{n}"), "fate": "transient" }).to_string(),
        _ => json!({ "id": format!("few-{n}") }).to_string(),
    };
    books.send(&world, &(0..2 * size.messages).map(body).collect::<Vec<_>>()).await;
    proxy.obey(&harsh());
    let settings = [
        ("FLOTILLA_MAX_ATTEMPTS", "5"),
        ("FLOTILLA_RECEIVE_AHEAD", "64"),
        ("FLOTILLA_SLOTS", "8"),
        ("FLOTILLA_VISIBILITY_SECONDS", "4"),
        ("FLOTILLA_GRACE_SECONDS", "1"),
    ];
    let mut crew = Crew::start((&world, &proxy), seed, size.workers, 0, &settings).await;
    for _ in 0..size.ended {
        crew.disturb().await;
    }
    let url = &world.outputs().grading_queue_url;
    eventually("an empty queue", size.limit, async || {
        (world.left_on(url).await == 0).then_some(())
    })
    .await;
    println!("killed {}, stopped {}; {:?}", crew.killed, crew.stopped, proxy.injected());
    crew.stop().await;
    let standing = books.stand(&world).await;
    println!("at the end: {standing}");
    standing.check_but_for_deaths();
}
