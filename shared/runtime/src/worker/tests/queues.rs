//! Several queues of one worker, in memory: weights, idle ones, dead letters.

use std::sync::atomic::AtomicU64;

use super::*;

const HIGH: &str = "http://q/high";
const LOW: &str = "http://q/low";
/// What an answer takes.
const ROUND_TRIP: f64 = 0.01;

/// A standard queue.
pub(super) struct Line {
    url: &'static str,
    /// Bodies, when each is visible, and how often it was received.
    messages: Vec<(Instant, String, u32)>,
    /// What each message of a queue without end says, where it is one.
    endless: Option<String>,
}

impl Line {
    pub(super) fn new(url: &'static str) -> Self {
        Self { url, messages: Vec::new(), endless: None }
    }

    /// Puts a message on it, which is visible after some time.
    pub(super) fn put(&mut self, after: u64, body: &Value) {
        let visible_at = Instant::now() + Duration::from_secs(after);
        self.messages.push((visible_at, body.to_string(), 0));
    }

    /// The same of a message that was received so often already.
    pub(super) fn put_received(&mut self, count: u32, body: &Value) {
        self.messages.push((Instant::now(), body.to_string(), count));
    }

    /// Whether nothing is on it, seen or unseen.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// A queue without end, of messages that take so long.
    fn endless(url: &'static str, ms: u64) -> Self {
        Self { endless: Some(json!({ "ms": ms }).to_string()), ..Self::new(url) }
    }

    fn receive(&mut self, body: &Value) -> Value {
        let number = |name: &str| body[name].as_u64().unwrap();
        let (now, most) = (Instant::now(), number("MaxNumberOfMessages") as usize);
        if let Some(endless) = &self.endless {
            let messages: Vec<_> = (0..most).map(|_| given(self.url, endless, 1)).collect();
            return json!({ "Messages": messages, "__hang": ROUND_TRIP });
        }
        let (wait, visibility) = (number("WaitTimeSeconds"), number("VisibilityTimeout"));
        let first = self.messages.iter().map(|it| it.0).min().unwrap_or(now);
        let when = first.clamp(now, now + Duration::from_secs(wait));
        let mut messages = Vec::new();
        for it in self.messages.iter_mut().filter(|it| it.0 <= when).take(most) {
            *it = (when + Duration::from_secs(visibility), it.1.clone(), it.2 + 1);
            messages.push(given(self.url, &it.1, it.2));
        }
        let hang = if messages.is_empty() { wait as f64 } else { (when - now).as_secs_f64() };
        json!({ "Messages": messages, "__hang": hang + ROUND_TRIP })
    }
}

/// A delivery; its handle is its body, so that the line knows which message is meant.
fn given(url: &str, body: &str, receives: u32) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = COUNT.fetch_add(1, Ordering::SeqCst);
    let mut attributes = json!({ "ApproximateReceiveCount": receives.to_string() });
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    if let Some(group) = parsed["group"].as_str() {
        attributes["MessageGroupId"] = json!(group);
    }
    json!({
        "MessageId": format!("{url}-{id}"),
        "ReceiptHandle": body,
        "Body": body,
        "Attributes": attributes,
    })
}

pub(super) fn answer(lines: &mut [Line], operation: &str, body: &Value) -> Value {
    let Some(line) = lines.iter_mut().find(|line| body["QueueUrl"] == line.url) else {
        return json!({});
    };
    let entries = body["Entries"].as_array().into_iter().flatten();
    match operation {
        "ReceiveMessage" => return line.receive(body),
        "DeleteMessageBatch" => {
            for entry in entries {
                line.messages.retain(|it| entry["ReceiptHandle"] != it.1.as_str());
            }
        }
        "ChangeMessageVisibilityBatch" => {
            for entry in entries {
                let seconds = entry["VisibilityTimeout"].as_u64().unwrap();
                let named =
                    line.messages.iter_mut().find(|it| entry["ReceiptHandle"] == it.1.as_str());
                named
                    .into_iter()
                    .for_each(|it| it.0 = Instant::now() + Duration::from_secs(seconds));
            }
        }
        _ => return json!({}),
    }
    batch(body, &[])
}

/// Naps, and notes when and from which queue.
#[derive(Default)]
struct Napper(Mutex<Vec<(Instant, bool)>>);

#[derive(serde::Deserialize)]
struct Doze {
    ms: u64,
    #[serde(default)]
    bad: bool,
}

impl Job for Napper {
    const NAME: &'static str = "napper";
    type Message = Doze;
    type Work = (Doze, bool);

    async fn prepare(&self, doze: Doze, of: &Delivery) -> Result<(Effect, (Doze, bool)), Failure> {
        let high = of.message_id.starts_with(HIGH);
        Ok((Effect::Idempotent, (doze, high)))
    }

    async fn run(&self, (doze, high): (Doze, bool), _: &Lease) -> Result<(), Failure> {
        self.0.lock().unwrap().push((Instant::now(), high));
        sleep(Duration::from_millis(doze.ms)).await;
        if doze.bad { Err(Failure::permanent("ordered", "as ordered")) } else { Ok(()) }
    }
}

struct Shared {
    fake: FakeAws,
    job: Arc<Napper>,
    health: Arc<Health>,
    shutdown: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    start: Instant,
}

impl Shared {
    fn start(lines: Vec<Line>, weights: &str, slots: usize) -> Self {
        let urls: Vec<_> = lines.iter().map(|line| line.url).collect();
        let lines = Mutex::new(lines);
        let fake = FakeAws::new(move |call, body| answer(&mut lines.lock().unwrap(), call, body));
        let slots = slots.to_string();
        let mut settings = Reader::from_pairs([
            ("FLOTILLA_QUEUE_URL", weights),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_SLOTS", &slots),
        ]);
        let config = WorkerConfig::read(&mut settings);
        settings.finish().unwrap();
        let (shutdown, course) = (CancellationToken::new(), Course::new(&config));
        let health = course.health.clone();
        let job = Arc::new(Napper::default());
        let queues = urls.iter().map(|url| Queue::of(fake.sqs(), url, &format!("{url}-dead")));
        let (sdk, queues) = (fake.sdk(), queues.collect());
        let worker = Worker::new(job.clone(), config, &sdk, queues, course);
        let ended = tokio::spawn(worker.consume(shutdown.clone()));
        Self { fake, job, health, shutdown, ended, start: Instant::now() }
    }

    /// How many messages were begun with: of the high queue, and of the other.
    fn begun(&self) -> (usize, usize) {
        let all = self.job.0.lock().unwrap();
        let high = all.iter().filter(|it| it.1).count();
        (high, all.len() - high)
    }

    /// Calls to SQS for a queue and its dead-letter queue.
    fn calls(&self, url: &str) -> usize {
        let of = |body: &Value| body["QueueUrl"].as_str().is_some_and(|it| it.starts_with(url));
        self.fake.calls().iter().filter(|(_, body)| of(body)).count()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap();
    }
}

const WEIGHTED: &str = "http://q/high*8,http://q/low*2";
/// So many slots, and for how many seconds they are watched: some thousand messages each.
const WHILES: [(usize, u64); 3] = [(1, 120), (4, 60), (20, 30)];

#[tokio::test(start_paused = true)]
async fn two_deep_queues_share_the_slots_by_their_weights_and_neither_starves() {
    for (slots, seconds) in WHILES {
        let lines = vec![Line::endless(HIGH, 100), Line::endless(LOW, 100)];
        let it = Shared::start(lines, WEIGHTED, slots);
        sleep(Duration::from_secs(seconds)).await;
        let (high, low) = it.begun();
        let share = high as f64 / (high + low) as f64;
        assert!((0.72..=0.88).contains(&share), "{high} to {low} with {slots} slots");
        it.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_queue_takes_nothing_from_a_deep_one() {
    for (slots, seconds) in WHILES {
        let mut rates = Vec::new();
        for lines in [vec![Line::endless(LOW, 100)], vec![Line::new(HIGH), Line::endless(LOW, 100)]]
        {
            let weights = if lines.len() == 1 { LOW } else { WEIGHTED };
            let it = Shared::start(lines, weights, slots);
            sleep(Duration::from_secs(seconds)).await;
            rates.push(it.begun().1);
            if weights == WEIGHTED {
                let calls = it.fake.calls();
                let polls = calls
                    .iter()
                    .filter(|(call, body)| call == "ReceiveMessage" && body["QueueUrl"] == HIGH);
                let waits: Vec<_> = polls.map(|(_, body)| &body["WaitTimeSeconds"]).collect();
                assert!(waits.len() <= 8, "{waits:?} in {seconds} s with {slots} slots");
            }
            it.stop().await;
        }
        assert!(rates[1] as f64 >= 0.97 * rates[0] as f64, "{rates:?} with {slots} slots");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_queues_cost_their_long_polls_and_no_more() {
    let it = Shared::start(vec![Line::new(HIGH), Line::new(LOW)], WEIGHTED, 4);
    // So long that it does not matter whether one more look at the depth falls into it.
    sleep(Duration::from_secs(6000)).await;
    for url in [HIGH, LOW] {
        let calls = it.calls(url) as f64 / 100.0;
        assert!(calls <= 3.1, "{calls} calls a minute");
    }
    assert_eq!(it.health.unready(), None);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_a_full_worker_goes_back_and_gets_the_next_slot_if_its_turn_is_due() {
    let mut high = Line::new(HIGH);
    high.put(45, &json!({ "ms": 1 }));
    let it = Shared::start(vec![high, Line::endless(LOW, 30_000)], WEIGHTED, 1);
    sleep(Duration::from_secs(58)).await;
    assert_eq!(it.begun().0, 0, "the slot is taken");
    let calls = it.fake.calls();
    let back = calls.iter().filter(|(call, body)| {
        call == "ChangeMessageVisibilityBatch" && body["Entries"][0]["VisibilityTimeout"] == 0
    });
    assert_eq!(back.count(), 1, "it went back, so that others could have it");
    sleep(Duration::from_secs(5)).await;
    let begun = it.job.0.lock().unwrap().iter().find(|run| run.1).map(|run| run.0 - it.start);
    assert!(begun.is_some_and(|begun| begun < Duration::from_secs(61)), "{begun:?}");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_queue_has_its_own_dead_letters() {
    let mut lines = vec![Line::new(HIGH), Line::new(LOW)];
    for line in &mut lines {
        line.put(0, &json!({ "ms": 1, "bad": true }));
    }
    let it = Shared::start(lines, WEIGHTED, 4);
    sleep(Duration::from_secs(5)).await;
    let calls = it.fake.calls();
    let letters = calls.iter().filter(|(call, _)| call == "SendMessage");
    let mut to: Vec<_> = letters.map(|(_, body)| body["QueueUrl"].as_str().unwrap()).collect();
    to.sort_unstable();
    assert_eq!(to, ["http://q/high-dead", "http://q/low-dead"]);
    it.stop().await;
}
