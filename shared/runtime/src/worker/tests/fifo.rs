//! FIFO queues: each group in its order, whatever fails.

use std::{collections::HashMap, sync::MutexGuard};

use proptest::prelude::*;

use super::{
    shelf::{Kept, Sent, Shelf, sent},
    *,
};

const URL: &str = "http://q/main.fifo";
const DEAD: &str = "http://q/dead.fifo";

/// What the jobs did, in order: a message begins and ends with an outcome.
type Log = Arc<Mutex<Vec<(Instant, String, &'static str)>>>;

struct Noter {
    log: Log,
    tries: Mutex<HashMap<String, u32>>,
}

#[derive(serde::Deserialize)]
struct Order {
    id: String,
    ms: u64,
    fails: u32,
    fate: String,
}

impl Noter {
    /// How often it was tried, this time included.
    fn tried(&self, id: &str) -> u32 {
        let mut tries = self.tries.lock().unwrap();
        let tries = tries.entry(id.to_owned()).or_default();
        *tries += 1;
        *tries
    }

    fn note(&self, id: &str, what: &'static str) {
        self.log.lock().unwrap().push((Instant::now(), id.to_owned(), what));
    }
}

impl Job for Noter {
    const NAME: &'static str = "noter";
    type Message = Order;
    type Work = Order;

    async fn prepare(&self, order: Order, _: &Delivery) -> Result<(Effect, Order), Failure> {
        Ok((Effect::Idempotent, order))
    }

    async fn run(&self, order: Order, _: &Lease) -> Result<(), Failure> {
        self.note(&order.id, "begins");
        sleep(Duration::from_millis(order.ms)).await;
        if self.tried(&order.id) > order.fails {
            self.note(&order.id, "done");
            return Ok(());
        }
        self.note(&order.id, if order.fate == "permanent" { "dead" } else { "fails" });
        match order.fate.as_str() {
            "permanent" => Err(Failure::permanent("ordered", "as ordered")),
            "panic" => panic!("as ordered"),
            _ => Err(Failure::transient("ordered", "as ordered")),
        }
    }
}

struct Consuming {
    shelf: Arc<Mutex<Shelf>>,
    log: Log,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
    start: Instant,
}

impl Consuming {
    fn start(messages: &[Sent], settings: &[(&str, &str)], change: impl Fn(&mut Shelf)) -> Self {
        let start = Instant::now();
        let keep = |sent: &Sent| Kept {
            sent: sent.clone(),
            visible_at: start,
            receives: 0,
            deleted: false,
        };
        let mut shelf = Shelf { messages: messages.iter().map(keep).collect(), ..Shelf::default() };
        change(&mut shelf);
        let shelf = Arc::new(Mutex::new(shelf));
        let answering = shelf.clone();
        let fake =
            FakeAws::new(move |operation, body| answering.lock().unwrap().answer(operation, body));
        let mut pairs = vec![
            ("FLOTILLA_QUEUE_URL", URL),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_SLOTS", "4"),
            ("FLOTILLA_WAIT_SECONDS", "1"),
            ("FLOTILLA_VISIBILITY_SECONDS", "30"),
            ("FLOTILLA_RETRY_FIRST_SECONDS", "0.5"),
        ];
        pairs.extend_from_slice(settings);
        let mut reader = Reader::from_pairs(pairs);
        let config = WorkerConfig::read(&mut reader);
        reader.finish().unwrap();
        let (shutdown, log) = (CancellationToken::new(), Log::default());
        let job = Arc::new(Noter { log: log.clone(), tries: Mutex::default() });
        let queue = Queue::of(fake.sqs(), URL, DEAD);
        let course = Course::new(&config);
        let worker = Worker::new(job, config, &fake.sdk(), vec![queue], course);
        let ended = tokio::spawn(worker.consume(shutdown.clone()));
        Self { shelf, log, shutdown, ended, start }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    async fn until_empty(&self) {
        let all_gone = || self.shelf().messages.iter().all(|it| it.deleted);
        while !all_gone() {
            assert!(self.start.elapsed() < Duration::from_secs(600), "{:?}", self.log.lock());
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(self) -> (Arc<Mutex<Shelf>>, Vec<(Duration, String, &'static str)>) {
        self.shutdown.cancel();
        self.ended.await.unwrap();
        let log = self.log.lock().unwrap();
        let log = log.iter().map(|(at, id, what)| (*at - self.start, id.clone(), *what)).collect();
        (self.shelf, log)
    }
}

/// When the last of a group has ended for good.
fn end_of(group: &str, sent: &[Sent], log: &[(Duration, String, &str)]) -> Duration {
    let ids: Vec<_> = sent.iter().filter(|it| it.group == group).map(|it| &it.id).collect();
    log.iter().filter(|(_, id, _)| ids.contains(&id)).map(|(at, ..)| *at).max().unwrap_or_default()
}

/// Fails unless every message of a group begins only when the one before it is done or dead.
fn check_order(sent: &[Sent], log: &[(Duration, String, &str)]) {
    let groups: std::collections::BTreeSet<_> = sent.iter().map(|it| &it.group).collect();
    for group in groups {
        let order: Vec<_> = sent.iter().filter(|it| it.group == *group).map(|it| &it.id).collect();
        let of_group: Vec<_> = log.iter().filter(|(_, id, _)| order.contains(&id)).collect();
        let (mut next, mut running) = (0, false);
        for (_, id, what) in &of_group {
            assert_eq!((id, *what == "begins"), (order[next], !running), "{of_group:?}");
            running = *what == "begins";
            next += usize::from(matches!(*what, "done" | "dead"));
        }
        assert_eq!(next, order.len(), "{of_group:?}");
    }
}

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let fate = prop_oneof![Just("transient"), Just("panic"), Just("permanent")];
    let fails = prop_oneof![4 => Just(0u32), 1 => 1u32..3];
    let one = (0..3u8, 0..1500u64, fails, fate);
    prop::collection::vec(one, 1..24).prop_map(|all| {
        let one = |(n, (group, ms, fails, fate)): (usize, (u8, u64, u32, _))| {
            sent(&format!("m{n}"), &format!("g{group}"), ms, fails, fate)
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_group_keeps_its_order_whatever_fails_and_no_other_waits_for_it(
        sent in messages(), slots in 3..8u8, bad_deletes in prop_oneof![Just(0usize), 2..5usize],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let slots = slots.to_string();
            let settings = [("FLOTILLA_SLOTS", slots.as_str())];
            let it = Consuming::start(&sent, &settings, |shelf| shelf.bad_deletes = bad_deletes);
            it.until_empty().await;
            let (shelf, log) = it.stop().await;
            check_order(&sent, &log);
            let shelf = shelf.lock().unwrap();
            let dies = |it: &&Sent| it.fails > 0 && it.fate == "permanent";
            assert_eq!(shelf.dead.len(), sent.iter().filter(dies).count());
            for letter in &shelf.dead {
                assert!(letter["MessageGroupId"].is_string(), "{letter}");
                assert!(letter["MessageDeduplicationId"].is_string(), "{letter}");
                assert_eq!(&letter["QueueUrl"], DEAD);
            }
            for group in ["g0", "g1", "g2"] {
                let of_group: Vec<_> = sent.iter().filter(|it| it.group == group).collect();
                let order: Vec<_> = of_group.iter().map(|it| &it.id).collect();
                let deleted: Vec<_> = shelf.deleted.iter().filter(|id| order.contains(id)).collect();
                assert_eq!(deleted, order, "the deletes of {group}");
                if bad_deletes == 0 && of_group.iter().all(|it| it.fails == 0) {
                    let (took, work) = (end_of(group, &sent, &log), of_group.iter().map(|it| it.ms).sum());
                    let limit = Duration::from_millis(work) + Duration::from_secs(3);
                    assert!(took <= limit, "{group} took {took:?} for {work} ms of work");
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_failure_goes_back_to_come_after_it_and_counts_no_attempt() {
    let all = [
        sent("a1", "a", 100, 1, "transient"),
        sent("a2", "a", 0, 0, ""),
        sent("a3", "a", 0, 0, ""),
    ];
    let it = Consuming::start(&all, &[("FLOTILLA_MAX_ATTEMPTS", "2")], |_| {});
    sleep(Duration::from_millis(400)).await;
    let back = it.shelf().visibilities.clone();
    let ids: Vec<_> = back.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["a1", "a2", "a3"], "in their order");
    assert!(back.iter().all(|it| it.1 == back[0].1), "none before the one that failed: {back:?}");
    it.until_empty().await;
    let (shelf, log) = it.stop().await;
    check_order(&all, &log);
    assert!(shelf.lock().unwrap().dead.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_group_leaves_the_slots_that_its_messages_wait_for_to_others() {
    let slow = (0..10).map(|n| sent(&format!("a{n}"), "a", 20_000, 0, ""));
    let quick = (0..30).map(|n| sent(&format!("b{n}"), &format!("b{n}"), 100, 0, ""));
    let all: Vec<_> = slow.chain(quick).collect();
    let it = Consuming::start(&all, &[("FLOTILLA_SLOTS", "2")], |_| {});
    sleep(Duration::from_secs(8)).await;
    let done = it.log.lock().unwrap().iter().filter(|(.., what)| *what == "done").count();
    assert_eq!(done, 30, "beside one message of twenty seconds");
    it.until_empty().await;
    let (_, log) = it.stop().await;
    check_order(&all, &log);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_group_is_extended_for_as_long_as_it_waits() {
    let all = [sent("a1", "a", 100_000, 0, ""), sent("a2", "a", 0, 0, "")];
    let it = Consuming::start(&all, &[("FLOTILLA_VISIBILITY_SECONDS", "6")], |_| {});
    it.until_empty().await;
    assert_eq!(it.shelf().messages[1].receives, 1);
    let extended = it.shelf().visibilities.iter().filter(|it| **it == ("a2".into(), 6)).count();
    assert!(extended >= 100 / 6, "{extended} extensions in 100 s");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_lease_is_lost_what_waits_behind_it_goes_back() {
    let all = [sent("a1", "a", 60_000, 0, ""), sent("a2", "a", 0, 0, "")];
    let settings = [("FLOTILLA_VISIBILITY_SECONDS", "6")];
    let it = Consuming::start(&all, &settings, |shelf| shelf.refused = Some("a1".into()));
    sleep(Duration::from_secs(4)).await;
    assert!(it.shelf().visibilities.contains(&("a2".into(), 0)));
    it.shelf().refused = None;
    it.until_empty().await;
    let (_, log) = it.stop().await;
    let done: Vec<_> = log.iter().filter(|(.., what)| *what == "done").map(|it| &it.1).collect();
    assert_eq!(done, ["a1", "a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_one_message_of_a_group_finish_and_hands_the_rest_back() {
    let all = [sent("a1", "a", 5000, 0, ""), sent("a2", "a", 0, 0, ""), sent("a3", "a", 0, 0, "")];
    let it = Consuming::start(&all, &[], |_| {});
    sleep(Duration::from_secs(1)).await;
    let (shelf, log) = it.stop().await;
    let whats: Vec<_> = log.iter().map(|(_, id, what)| (id.as_str(), *what)).collect();
    assert_eq!(whats, [("a1", "begins"), ("a1", "done")]);
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.deleted, ["a1"]);
    assert_eq!(shelf.visibilities, [("a2".into(), 0), ("a3".into(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_receive_whose_answer_is_lost_is_repeated_under_its_name() {
    let asked = AtomicU32::new(0);
    let fake = FakeAws::new(move |operation, _| match operation {
        "ReceiveMessage" => match asked.fetch_add(1, Ordering::SeqCst) {
            0..3 => json!({ "__status": 500 }),
            _ => json!({ "__hang": 5 }),
        },
        _ => json!({}),
    });
    let running = start_on(&fake, URL, &[]);
    sleep(Duration::from_secs(12)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let receives = fake.calls().into_iter().filter(|(call, _)| call == "ReceiveMessage");
    let names: Vec<_> = receives.map(|(_, body)| body["ReceiveRequestAttemptId"].clone()).collect();
    assert!(names[0].is_string() && names[..4].iter().all(|name| *name == names[0]), "{names:?}");
    assert!(names[4].is_string() && names[4] != names[3], "{names:?}");
    assert_eq!(Queue::of(fake.sqs(), "http://q/main", DEAD).attempt(), None);
}
