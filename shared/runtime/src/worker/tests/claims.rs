//! Effects that happen once: a ledger in memory beside the queue.

use std::{collections::HashMap, sync::MutexGuard};

use super::{
    queues::{Line, answer},
    *,
};

const URL: &str = "http://q/main";
const LEASE: Duration = Duration::from_secs(60);

/// A row of the ledger.
#[derive(Debug, Clone, Default)]
struct Row {
    state: &'static str,
    generation: u64,
    attempts: i64,
    until: Option<Instant>,
    /// The end that is in doubt, and until when it is.
    doubt: Option<(Instant, Instant)>,
}

impl Row {
    fn json(&self) -> Value {
        let left =
            self.until.map_or(Duration::ZERO, |it| it.saturating_duration_since(Instant::now()));
        let until = crate::control::now_ms() + left.as_millis() as u64;
        json!({
            "state": { "S": self.state },
            "generation": { "N": self.generation.to_string() },
            "attempts": { "N": self.attempts.to_string() },
            "lease_until": { "N": until.to_string() },
        })
    }

    /// Applies a write of the ledger's, if its condition holds.
    fn write(&mut self, request: &Value) -> bool {
        let text = request["UpdateExpression"].as_str().unwrap();
        let number = &request["ExpressionAttributeValues"][":generation"]["N"];
        let (now, claimed) = (Instant::now(), self.state == "claimed");
        let claim = text.contains("claim_id");
        if text.contains("doubt_ends") {
            let over = request["ExpressionAttributeValues"][":over"]["N"].as_str().unwrap();
            let over = over.parse::<u64>().unwrap().saturating_sub(crate::control::now_ms());
            let over = now + Duration::from_millis(over);
            let new = self.doubt.is_none_or(|(until, _)| Some(until) != self.until);
            self.doubt = self.until.map(|until| (until, over)).filter(|_| new).or(self.doubt);
            return claimed && new;
        }
        let doubted =
            self.doubt.is_some_and(|(until, over)| Some(until) == self.until && over < now);
        let allowed = match claim {
            true => self.state != "done" && !(claimed && self.until > Some(now) && !doubted),
            false => {
                claimed && number.as_str().and_then(|it| it.parse().ok()) == Some(self.generation)
            }
        };
        if !allowed {
            return false;
        }
        if claim {
            (self.state, self.until) = ("claimed", Some(now + LEASE));
            (self.generation, self.attempts) = (self.generation + 1, self.attempts + 1);
        } else if text == "SET lease_until = :until" {
            self.until = Some(now + LEASE);
        } else if text.contains("done_at") {
            self.state = "done";
        } else {
            self.state = "free";
            self.attempts -= i64::from(text.contains(":back"));
        }
        true
    }
}

/// The endpoint: a queue and a ledger.
struct Desk {
    lines: [Line; 1],
    rows: HashMap<String, Row>,
    /// How long an answer to a claim takes.
    slow: u64,
    /// Until when claims are answered with an error.
    ill_until: Instant,
    /// How many transactions are throttled from now on.
    throttles: u32,
    /// How many effects are refused by conditions of their own.
    refusals: u32,
}

impl Desk {
    fn new(line: Line) -> Arc<Mutex<Self>> {
        let (rows, ill_until) = (HashMap::new(), Instant::now());
        Arc::new(Mutex::new(Self {
            lines: [line],
            rows,
            slow: 0,
            ill_until,
            throttles: 0,
            refusals: 0,
        }))
    }

    fn answer(&mut self, operation: &str, body: &Value) -> Value {
        let request = match operation {
            "UpdateItem" => body,
            "TransactWriteItems" => &body["TransactItems"][0]["Update"],
            _ => return answer(&mut self.lines, operation, body),
        };
        if Instant::now() < self.ill_until {
            return json!({ "__status": 500 });
        }
        let refused = |kind: &str| format!("com.amazonaws.dynamodb.v20120810#{kind}Exception");
        if operation == "TransactWriteItems" && self.throttles > 0 {
            self.throttles -= 1;
            return json!({
                "__status": 400,
                "__type": refused("TransactionCanceled"),
                "CancellationReasons": [{ "Code": "None" }, { "Code": "ThrottlingError" }],
            });
        }
        if operation == "TransactWriteItems" && self.refusals > 0 {
            self.refusals -= 1;
            return json!({
                "__status": 400,
                "__type": refused("TransactionCanceled"),
                "CancellationReasons": [{ "Code": "None" }, { "Code": "ConditionalCheckFailed" }],
            });
        }
        let row = self.rows.entry(request["Key"]["effect"]["S"].to_string()).or_default();
        let written = row.write(request);
        match (written, operation) {
            // It is carried out at once, and its answer comes later.
            (true, _) => json!({ "Attributes": row.json(), "__hang": self.slow }),
            (false, "UpdateItem") => json!({
                "__status": 400,
                "__type": refused("ConditionalCheckFailed"),
                "Item": row.json(),
            }),
            (false, _) => json!({
                "__status": 400,
                "__type": refused("TransactionCanceled"),
                "CancellationReasons": [{ "Code": "ConditionalCheckFailed", "Item": row.json() }],
            }),
        }
    }
}

/// Takes as long as its message says, commits, and ends as the message says.
struct Keyed {
    runs: Arc<AtomicU32>,
    given_up: Arc<AtomicU32>,
}

#[derive(serde::Deserialize)]
struct Task {
    key: String,
    seconds: u64,
    #[serde(default)]
    end: End,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
enum End {
    #[default]
    Well,
    /// With this, after its commit.
    Permanent,
    Transient,
    Panic,
    /// With a panic when it is dropped, before its commit.
    Dropped,
}

/// Panics when it is dropped in the middle of a job.
struct Mine(bool);

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.0, "as ordered");
    }
}

impl Job for Keyed {
    const NAME: &'static str = "keyed";
    type Message = Task;
    type Work = Task;

    async fn prepare(&self, task: Task, _: &Delivery) -> Result<(Effect, Task), Failure> {
        Ok((Effect::Once(task.key.clone()), task))
    }

    async fn run(&self, task: Task, lease: &Lease) -> Result<(), Failure> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let mut mine = Mine(matches!(task.end, End::Dropped));
        sleep(Duration::from_secs(task.seconds)).await;
        mine.0 = false;
        lease.complete(Vec::new()).await?;
        match task.end {
            End::Permanent => Err(Failure::permanent("ordered", "as ordered")),
            End::Transient => Err(Failure::transient("ordered", "as ordered")),
            End::Panic => panic!("as ordered"),
            End::Well | End::Dropped => Ok(()),
        }
    }

    async fn give_up(&self, _: Task, _: &Lease, _: &str) -> Result<(), Failure> {
        self.given_up.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Workers at one desk.
struct Office {
    desk: Arc<Mutex<Desk>>,
    fake: FakeAws,
    runs: Arc<AtomicU32>,
    given_up: Arc<AtomicU32>,
    /// Attempts that an effect has.
    tries: &'static str,
}

impl Office {
    fn new(line: Line) -> Self {
        let desk = Desk::new(line);
        let answering = desk.clone();
        let fake =
            FakeAws::new(move |operation, body| answering.lock().unwrap().answer(operation, body));
        Self { desk, fake, runs: Arc::default(), given_up: Arc::default(), tries: "5" }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// Starts a worker that hands back at once what it has at a stop.
    fn worker(&self) -> (CancellationToken, JoinHandle<()>) {
        let mut settings = Reader::from_pairs([
            ("FLOTILLA_QUEUE_URL", URL),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_SLOTS", "4"),
            ("FLOTILLA_WAIT_SECONDS", "1"),
            ("FLOTILLA_GRACE_SECONDS", "0"),
            ("FLOTILLA_MAX_ATTEMPTS", self.tries),
        ]);
        let config = WorkerConfig::read(&mut settings);
        settings.finish().unwrap();
        let (stop, course) = (CancellationToken::new(), Course::new(&config));
        let queue = Queue::of(self.fake.sqs(), URL, "http://q/dead");
        let (runs, given_up) = (self.runs.clone(), self.given_up.clone());
        let job = Arc::new(Keyed { runs, given_up });
        let worker = Worker::new(job, config, &self.fake.sdk(), vec![queue], course);
        (stop.clone(), tokio::spawn(worker.consume(stop)))
    }

    async fn until_empty(&self) {
        let start = Instant::now();
        while !self.desk().lines[0].is_empty() {
            assert!(start.elapsed() < Duration::from_secs(3600), "{:?}", self.desk().rows);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The one row that there is.
    fn row(&self) -> Row {
        let rows = self.desk().rows.clone();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.into_values().next().unwrap()
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

async fn stop((token, ended): (CancellationToken, JoinHandle<()>)) {
    token.cancel();
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_messages_of_one_effect_at_two_workers_run_it_once_however_long_it_takes() {
    let mut line = Line::new(URL);
    for n in 0..2 {
        line.put(0, &json!({ "key": "k", "seconds": 300, "n": n }));
    }
    let office = Office::new(line);
    let workers = [office.worker(), office.worker()];
    office.until_empty().await;
    for worker in workers {
        stop(worker).await;
    }
    let row = office.row();
    assert_eq!((row.state, row.generation, row.attempts), ("done", 1, 1));
    assert_eq!(office.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_effect_whose_key_no_row_can_have_is_dead_lettered_at_once() {
    let mut line = Line::new(URL);
    for length in [2048 - "keyed/".len(), 2049 - "keyed/".len()] {
        line.put(0, &json!({ "key": "k".repeat(length), "seconds": 1 }));
    }
    let office = Office::new(line);
    let (worker, start) = (office.worker(), Instant::now());
    office.until_empty().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    stop(worker).await;
    assert_eq!((office.row().state, office.runs()), ("done", 1));
    assert_eq!(office.fake.count("SendMessage"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hand_back_while_the_claim_is_on_its_way_releases_it_and_counts_no_attempt() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    office.desk().slow = 3;
    let worker = office.worker();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((office.row().state, office.runs()), ("claimed", 0));
    stop(worker).await;
    let row = office.row();
    assert_eq!((row.state, row.attempts, office.runs()), ("free", 0, 0));
    office.desk().slow = 0;
    let next = office.worker();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(office.row().state, "done", "nothing keeps the next worker from it");
    stop(next).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_worker_died_at_each_of_its_attempts_is_given_up_and_not_begun_again() {
    let mut line = Line::new(URL);
    line.put(1, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    let until = Some(Instant::now());
    let dead = Row { state: "claimed", generation: 5, attempts: 5, until, doubt: None };
    office.desk().rows.insert("\"keyed/k\"".to_owned(), dead);
    let worker = office.worker();
    office.until_empty().await;
    stop(worker).await;
    assert_eq!((office.runs(), office.given_up.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(office.fake.count("SendMessage"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_effect_another_holds_for_ever_is_dead_lettered_before_sqs_moves_it() {
    for (received, letters) in [(898, 0), (899, 1)] {
        let mut line = Line::new(URL);
        line.put_received(received, &json!({ "key": "k", "seconds": 1 }));
        let office = Office::new(line);
        let until = Some(Instant::now() + LEASE);
        let held = Row { state: "claimed", generation: 1, attempts: 1, until, doubt: None };
        office.desk().rows.insert("\"keyed/k\"".to_owned(), held);
        let worker = office.worker();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(office.fake.count("SendMessage"), letters, "received {received} times before");
        stop(worker).await;
        assert_eq!((office.row().state, office.row().attempts, office.runs()), ("claimed", 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_handed_back_often_survives_a_ledger_that_does_not_answer() {
    let mut line = Line::new(URL);
    line.put_received(300, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    office.desk().ill_until = Instant::now() + Duration::from_secs(5);
    let worker = office.worker();
    office.until_empty().await;
    stop(worker).await;
    assert_eq!(office.fake.count("SendMessage"), 0, "no dead letter");
    assert_eq!((office.row().state, office.row().attempts, office.runs()), ("done", 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_the_ledger_answers_no_claim_and_all_is_when_it_does() {
    let mut line = Line::new(URL);
    for n in 0..20 {
        line.put(0, &json!({ "key": format!("k{n}"), "seconds": 1 }));
    }
    let office = Office::new(line);
    office.desk().ill_until = Instant::now() + Duration::from_secs(900);
    let worker = office.worker();
    sleep(Duration::from_secs(180)).await;
    let receives = office.fake.count("ReceiveMessage");
    sleep(Duration::from_secs(700)).await;
    assert_eq!(office.fake.count("ReceiveMessage"), receives, "each would come and go in vain");
    office.until_empty().await;
    stop(worker).await;
    assert_eq!((office.fake.count("SendMessage"), office.runs()), (0, 20), "no dead letter");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_hundred_deploys_hand_back_still_has_all_its_attempts() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 30 }));
    let office = Office::new(line);
    for deploy in 1..=100 {
        let worker = office.worker();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(office.row().attempts, 1, "it is begun for the {deploy}th time");
        stop(worker).await;
        assert_eq!((office.row().state, office.row().attempts), ("free", 0));
    }
    let last = office.worker();
    office.until_empty().await;
    stop(last).await;
    assert_eq!((office.row().state, office.runs()), ("done", 101));
    assert_eq!(office.fake.count("SendMessage"), 0, "no dead letter");
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_has_happened_is_never_given_up_whatever_fails_after_it() {
    for end in ["Permanent", "Transient", "Panic"] {
        let mut line = Line::new(URL);
        line.put(0, &json!({ "key": "k", "seconds": 1, "end": end }));
        let office = Office { tries: "1", ..Office::new(line) };
        let worker = office.worker();
        office.until_empty().await;
        stop(worker).await;
        assert_eq!((office.row().state, office.runs()), ("done", 1), "{end}");
        assert_eq!(office.fake.count("SendMessage"), 0, "{end}: no dead letter");
        assert_eq!(
            office.given_up.load(Ordering::SeqCst),
            0,
            "{end}: nobody is told that it failed"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_panics_while_it_is_ended_is_handed_back_like_any_other() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 30, "end": "Dropped" }));
    let office = Office::new(line);
    let worker = office.worker();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(office.row().state, "claimed");
    stop(worker).await;
    assert_eq!((office.row().state, office.row().attempts), ("free", 0));
    assert_eq!(entries(&office.fake, "ChangeMessageVisibilityBatch").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_answer_keeps_no_message_from_being_handed_back_at_the_end() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 300 }));
    let office = Office::new(line);
    let worker = office.worker();
    sleep(Duration::from_secs(2)).await;
    office.desk().slow = 3600;
    let asked = Instant::now();
    stop(worker).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(entries(&office.fake, "ChangeMessageVisibilityBatch").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_effect_was_refused_is_not_done_though_its_job_says_so() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    office.desk().refusals = 1;
    let worker = office.worker();
    office.until_empty().await;
    stop(worker).await;
    assert_eq!((office.row().state, office.row().attempts, office.runs()), ("done", 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_commit_another_overtook_is_left_to_that_one() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 5 }));
    let office = Office::new(line);
    let worker = office.worker();
    sleep(Duration::from_secs(2)).await;
    office.desk().rows.values_mut().for_each(|row| row.generation += 1);
    sleep(Duration::from_secs(8)).await;
    assert_eq!((office.row().state, office.row().generation, office.runs()), ("claimed", 2, 1));
    assert!(entries(&office.fake, "ChangeMessageVisibilityBatch").is_empty(), "it is another's");
    assert!(entries(&office.fake, "DeleteMessageBatch").is_empty());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_not_thrown_away_because_its_commit_was_throttled() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    office.desk().throttles = 8;
    let worker = office.worker();
    office.until_empty().await;
    stop(worker).await;
    assert_eq!((office.row().state, office.row().attempts, office.runs()), ("done", 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_with_a_clock_that_is_a_day_ahead_is_taken_over_after_a_lease() {
    let mut line = Line::new(URL);
    line.put(0, &json!({ "key": "k", "seconds": 1 }));
    let office = Office::new(line);
    let until = Some(Instant::now() + Duration::from_secs(24 * 3600));
    let dead = Row { state: "claimed", generation: 7, attempts: 1, until, doubt: None };
    office.desk().rows.insert("\"keyed/k\"".to_owned(), dead);
    let (worker, start) = (office.worker(), Instant::now());
    office.until_empty().await;
    stop(worker).await;
    assert!(start.elapsed() < 4 * LEASE, "{:?}", start.elapsed());
    assert_eq!((office.row().state, office.row().generation), ("done", 8));
}
