//! Tenants that may have a part of the slots only.

use std::collections::HashMap;

use super::{
    queues::{Line, answer},
    *,
};

const URL: &str = "http://q/main";

/// Notes who runs how often, and how much of it at a time.
#[derive(Default)]
struct Tenanted {
    running: Mutex<HashMap<String, usize>>,
    most: Mutex<HashMap<String, usize>>,
    done: Mutex<Vec<(Instant, String)>>,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Task {
    of: String,
    ms: u64,
}

impl Job for Tenanted {
    const NAME: &'static str = "tenanted";
    type Message = Task;
    type Work = Task;

    fn tenant(task: &Task) -> Option<String> {
        Some(task.of.clone())
    }

    async fn prepare(&self, task: Task, _: &Delivery) -> Result<(Effect, Task), Failure> {
        Ok((Effect::Idempotent, task))
    }

    async fn run(&self, task: Task, _: &Lease) -> Result<(), Failure> {
        let now = *self
            .running
            .lock()
            .unwrap()
            .entry(task.of.clone())
            .and_modify(|n| *n += 1)
            .or_insert(1);
        self.most
            .lock()
            .unwrap()
            .entry(task.of.clone())
            .and_modify(|n| *n = now.max(*n))
            .or_insert(now);
        sleep(Duration::from_millis(task.ms)).await;
        self.running.lock().unwrap().entry(task.of.clone()).and_modify(|n| *n -= 1);
        self.done.lock().unwrap().push((Instant::now(), task.of));
        Ok(())
    }
}

struct Shop {
    fake: FakeAws,
    job: Arc<Tenanted>,
    shutdown: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    start: Instant,
}

impl Shop {
    fn open(line: Line) -> Self {
        let lines = Mutex::new([line]);
        let fake = FakeAws::new(move |call, body| answer(&mut *lines.lock().unwrap(), call, body));
        let mut settings = Reader::from_pairs([
            ("FLOTILLA_QUEUE_URL", URL),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_SLOTS", "6"),
            ("FLOTILLA_TENANT_SLOTS", "2"),
            ("FLOTILLA_MAX_ATTEMPTS", "1"),
        ]);
        let config = WorkerConfig::read(&mut settings);
        settings.finish().unwrap();
        let (shutdown, course) = (CancellationToken::new(), Course::new(&config));
        let job = Arc::new(Tenanted::default());
        let queue = Queue::of(fake.sqs(), URL, "http://q/dead");
        let worker = Worker::new(job.clone(), config, &fake.sdk(), vec![queue], course);
        let ended = tokio::spawn(worker.consume(shutdown.clone()));
        Self { fake, job, shutdown, ended, start: Instant::now() }
    }

    fn done(&self, tenant: &str) -> Vec<Duration> {
        let done = self.job.done.lock().unwrap();
        done.iter().filter(|it| it.1 == tenant).map(|it| it.0 - self.start).collect()
    }

    async fn close(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap();
        assert_eq!(self.fake.count("SendMessage"), 0, "no dead letters");
        assert_eq!(self.fake.count("UpdateItem"), 0, "no attempts");
    }
}

/// A line of one tenant's messages, and behind them those of another.
fn line(named: bool) -> Line {
    let mut line = Line::new(URL);
    for n in 0..120 {
        let of = if n < 100 { "a" } else { "b" };
        let group = named.then_some(of);
        let of = if named { "nobody" } else { of };
        line.put(0, &json!({ "of": of, "n": n, "group": group, "ms": 500 }));
    }
    line
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_the_slots_it_may_have_and_others_the_rest() {
    let it = Shop::open(line(false));
    while it.done("a").len() + it.done("b").len() < 120 {
        assert!(it.start.elapsed() < Duration::from_secs(900), "{:?}", it.job.running);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(*it.job.most.lock().unwrap(), HashMap::from([("a".into(), 2), ("b".into(), 2)]));
    let (a, b) = (it.done("a"), it.done("b"));
    let last = b.iter().max().unwrap();
    assert!(*last < Duration::from_secs(60), "b behind a hundred of a: {last:?}");
    // A hundred at two a time are 25 s.
    assert!(a[80] < Duration::from_secs(120), "{:?}", a[80]);
    it.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_group_of_a_message_is_its_tenant_before_what_the_job_says() {
    let it = Shop::open(line(true));
    sleep(Duration::from_secs(60)).await;
    let most = it.job.most.lock().unwrap()["nobody"];
    assert!(most > 2 && most <= 4, "two for each group, {most} in all");
    it.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_a_tenant_that_has_enough_makes_no_hot_loop() {
    let mut backlog = Line::new(URL);
    for n in 0..1000 {
        backlog.put(0, &json!({ "of": "a", "n": n, "ms": 60_000 }));
    }
    let it = Shop::open(backlog);
    let calls = || {
        let calls = it.fake.calls().into_iter().filter(|(_, body)| body["QueueUrl"] == URL);
        calls.count()
    };
    let mut rates = Vec::new();
    for _ in 0..10 {
        let before = calls();
        sleep(Duration::from_secs(60)).await;
        rates.push(calls() - before);
    }
    println!("calls to SQS in each minute: {rates:?}");
    assert!(rates.iter().all(|calls| *calls <= 90), "{rates:?}");
    assert!(it.done("a").len() >= 18, "{:?}", it.done("a").len());
    it.close().await;
}
