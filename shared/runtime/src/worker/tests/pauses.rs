//! What a worker does not receive: while it is paused, cannot work, or has no slot.

use super::*;

/// An endpoint that gives a message for each that is asked for, and notes what is asked; the order
/// that stands is in its hand.
struct Endless {
    fake: FakeAws,
    order: Arc<Mutex<Option<&'static str>>>,
}

impl Endless {
    /// Of naps of so many seconds.
    fn new(seconds: f64) -> Self {
        Self::after(0.01, seconds)
    }

    /// The same, each receive of which takes so many seconds.
    fn after(poll: f64, seconds: f64) -> Self {
        let order: Arc<Mutex<Option<&'static str>>> = Arc::default();
        let (standing, given) = (order.clone(), AtomicU32::new(0));
        let fake = FakeAws::new(move |operation, body| match operation {
            "ReceiveMessage" => {
                let one = |_| {
                    let id = given.fetch_add(1, Ordering::SeqCst).to_string();
                    message(&id, &id, nap(seconds))
                };
                let most = body["MaxNumberOfMessages"].as_u64().unwrap();
                json!({ "__hang": poll, "Messages": (0..most).map(one).collect::<Vec<_>>() })
            }
            "BatchGetItem" => {
                let row = |order: &str| {
                    let (paused, resumed) = (json!({ "N": "1" }), json!({ "N": "2" }));
                    match order {
                        "pause" => json!({ "effect": { "S": "control/sleeper" }, "pause": paused }),
                        _ => {
                            json!({ "effect": { "S": "control/sleeper" }, "pause": paused, "resume": resumed })
                        }
                    }
                };
                let rows: Vec<_> = standing.lock().unwrap().iter().map(|it| row(it)).collect();
                json!({ "__hang": 0.5, "Responses": { "ledger": rows } })
            }
            _ => batch(body, &[]),
        });
        Self { fake, order }
    }

    fn orders(&self, order: &'static str) {
        *self.order.lock().unwrap() = Some(order);
    }

    fn receives(&self) -> usize {
        self.fake.count("ReceiveMessage")
    }
}

const ONE: (&str, &str) = ("FLOTILLA_SLOTS", "1");

#[tokio::test(start_paused = true)]
async fn a_pause_of_while_every_slot_was_busy_is_obeyed_when_one_is_free() {
    let endless = Endless::new(3600.0);
    let running = start_on(&endless.fake, "http://q/main", &[ONE]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(endless.receives(), 1);
    endless.orders("pause");
    sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!((endless.receives(), running.runs.load(Ordering::SeqCst)), (1, 1));
    endless.orders("resume");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.runs.load(Ordering::SeqCst), 2, "its slot was not lost");
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_long_poll_of_before_a_pause_brings_goes_back_unbegun() {
    let endless = Endless::after(20.0, 1.0);
    let running = start_on(&endless.fake, "http://q/main", &[]);
    sleep(Duration::from_secs(1)).await;
    endless.orders("pause");
    sleep(Duration::from_secs(600)).await;
    assert_eq!((endless.receives(), running.runs.load(Ordering::SeqCst)), (1, 0));
    let mut back = entries(&endless.fake, "ChangeMessageVisibilityBatch");
    back.sort();
    assert_eq!(back, ["0", "1", "2", "3"].map(|handle| (handle.to_owned(), Some(0))));
    endless.orders("resume");
    sleep(Duration::from_secs(60)).await;
    assert!(running.runs.load(Ordering::SeqCst) > 0, "its slots were not lost");
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_its_group_when_its_worker_is_paused_goes_back_in_order() {
    let endless = Endless::after(5.0, 60.0);
    let often = ("FLOTILLA_CONTROL_SECONDS", "1");
    let running = start_on(&endless.fake, "http://q/main.fifo", &[often]);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(running.runs.load(Ordering::SeqCst), 1);
    endless.orders("pause");
    sleep(Duration::from_secs(300)).await;
    assert_eq!((endless.receives(), running.runs.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(entries(&endless.fake, "DeleteMessageBatch"), [("0".to_owned(), None)]);
    let mut back = entries(&endless.fake, "ChangeMessageVisibilityBatch");
    back.retain(|(_, visibility)| *visibility == Some(0));
    let handles: Vec<_> = back.into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(handles, ["1", "2", "3", "4", "5", "6"]);
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_under_a_pause_receives_nothing_until_it_is_resumed() {
    let endless = Endless::new(1.0);
    endless.orders("pause");
    let running = start_on(&endless.fake, "http://q/main", &[ONE]);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(endless.receives(), 0);
    endless.orders("resume");
    sleep(Duration::from_secs(60)).await;
    assert!(endless.receives() > 10, "{} receives", endless.receives());
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn orders_that_cannot_be_read_keep_no_worker_from_its_work_for_long() {
    let fake = FakeAws::new(|operation, _| match operation {
        "BatchGetItem" => json!({ "__hang": 3600 }),
        _ => json!({ "__hang": 20 }),
    });
    let running = start_on(&fake, "http://q/main", &[]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.count("ReceiveMessage"), 1);
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

/// Panics when it is asked whether it can work, so many times.
struct Shy(Mutex<u32>);

impl Job for Shy {
    const NAME: &'static str = "shy";
    type Message = Nap;
    type Work = Nap;

    async fn ready(&self) -> Result<(), Failure> {
        let left = {
            let mut left = self.0.lock().unwrap();
            *left = left.saturating_sub(1);
            *left
        };
        assert!(left == 0, "as ordered");
        Ok(())
    }

    async fn prepare(&self, nap: Nap, _: &Delivery) -> Result<(Effect, Nap), Failure> {
        Ok((Effect::Idempotent, nap))
    }

    async fn run(&self, nap: Nap, _: &Lease) -> Result<(), Failure> {
        sleep(Duration::from_secs_f64(nap.seconds)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_job_that_is_asked_if_it_can_work_ends_no_loop() {
    let endless = Endless::new(1.0);
    let mut settings = Reader::from_pairs([
        ("FLOTILLA_QUEUE_URL", "http://q/main"),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ONE,
    ]);
    let config = WorkerConfig::read(&mut settings);
    settings.finish().unwrap();
    let (course, shutdown) = (Course::new(&config), CancellationToken::new());
    let queue = Queue::of(endless.fake.sqs(), "http://q/main", "http://q/dead");
    let (job, health) = (Arc::new(Shy(Mutex::new(5))), course.health.clone());
    let worker = Worker::new(job, config, &endless.fake.sdk(), vec![queue], course);
    let ended = tokio::spawn(worker.consume(shutdown.clone()));
    while health.trouble().is_none() {
        assert_eq!(endless.receives(), 0);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(health.trouble().unwrap().contains("panicked"));
    sleep(Duration::from_secs(60)).await;
    assert!(endless.receives() > 0 && health.trouble().is_none());
    shutdown.cancel();
    ended.await.unwrap();
}

/// Notes how many of its messages were begun and ended with.
struct Counted(Arc<AtomicU32>);

impl Job for Counted {
    const NAME: &'static str = "counted";
    type Message = Nap;
    type Work = Nap;

    async fn prepare(&self, nap: Nap, _: &Delivery) -> Result<(Effect, Nap), Failure> {
        Ok((Effect::Idempotent, nap))
    }

    async fn run(&self, nap: Nap, _: &Lease) -> Result<(), Failure> {
        sleep(Duration::from_secs_f64(nap.seconds)).await;
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn no_receive_asks_for_more_messages_than_there_are_free_slots() {
    for slots in ["2", "13"] {
        let (ended, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (gone, seen, given) = (ended.clone(), most.clone(), AtomicU32::new(0));
        let fake = FakeAws::new(move |operation, body| match operation {
            "ReceiveMessage" => {
                let asked = body["MaxNumberOfMessages"].as_u64().unwrap() as u32;
                let before = given.fetch_add(asked, Ordering::SeqCst);
                let in_hand = before + asked - gone.load(Ordering::SeqCst);
                seen.fetch_max(in_hand, Ordering::SeqCst);
                let one =
                    |n: u32| message(&n.to_string(), &n.to_string(), nap(f64::from(n % 7 + 5)));
                let all: Vec<_> = (before..before + asked).map(one).collect();
                json!({ "__hang": 0.01, "Messages": all })
            }
            "BatchGetItem" => json!({}),
            _ => batch(body, &[]),
        });
        let mut settings = Reader::from_pairs([
            ("FLOTILLA_QUEUE_URL", "http://q/main"),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_SLOTS", slots),
        ]);
        let config = WorkerConfig::read(&mut settings);
        settings.finish().unwrap();
        let (course, shutdown) = (Course::new(&config), CancellationToken::new());
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let job = Arc::new(Counted(ended.clone()));
        let worker = Worker::new(job, config, &fake.sdk(), vec![queue], course);
        let consuming = tokio::spawn(worker.consume(shutdown.clone()));
        sleep(Duration::from_secs(120)).await;
        shutdown.cancel();
        consuming.await.unwrap();
        assert_eq!(most.load(Ordering::SeqCst).to_string(), slots, "all, and never more");
        assert!(ended.load(Ordering::SeqCst) > 20);
    }
}
