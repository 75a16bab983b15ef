//! What a worker counts and times. The doc comment of each is its help text.
//!
//! The names are OpenTelemetry's for messaging, in Prometheus's spelling (dots are underscores, units and
//! `total` are suffixes), with the labels that its conventions require: `messaging_operation_name` and
//! `messaging_system` always, `error_type` on what failed and on nothing else. `flotilla_…` is what
//! it has no name for. The label `worker` is the kind of worker ([`Job::NAME`](crate::Job::NAME));
//! `job` and `instance` are left to Prometheus, which sets them for every target.

mod bill;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::metrics::{Counter, Gauge, Histogram, Label};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use self::bill::Bill;
use crate::{failure::Disposition, tally::queue_name};

/// Declares metrics: a constant of the exported name, described by its doc comment.
#[macro_export]
macro_rules! describe_metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $id:ident = $name:literal;)+) => {
        $($(#[doc = $help])+ pub const $id: &str = $name;)+

        /// Gives the exporter the help text of every metric of this module.
        pub fn describe() {
            $($crate::describe_metrics!(@one $kind $name, concat!($($help),+));)+
        }
    };
    (@one counter $name:literal, $help:expr) => {
        ::metrics::describe_counter!($name, $help.trim());
    };
    (@one gauge $name:literal, $help:expr) => {
        ::metrics::describe_gauge!($name, $help.trim());
    };
    (@one histogram $name:literal, $help:expr) => {
        ::metrics::describe_histogram!($name, ::metrics::Unit::Seconds, $help.trim());
    };
}

describe_metrics! {
    /// Messages received.
    counter CONSUMED = "messaging_client_consumed_messages_total";
    /// Messages that SQS was to take from this process: those that jobs send, and dead letters. What
    /// it did not take has the failure's kind as error_type.
    counter SENT = "messaging_client_sent_messages_total";
    /// Time of an attempt of an SQS call that receives, settles or sends messages; a receive includes
    /// its long poll. A failed one has its HTTP status (or timeout, unreachable) as error_type.
    histogram OPERATION = "messaging_client_operation_duration_seconds";
    /// Time from the receive of a message to its disposition. One that failed has the failure's kind
    /// as error_type.
    histogram PROCESS = "messaging_process_duration_seconds";
    /// Time from the send of a message to its first receive.
    histogram WAIT = "flotilla_queue_wait_seconds";
    /// Runs of the job, by the number of the attempt (1 to 4, 5+); a hand-back is no attempt.
    counter ATTEMPTS = "flotilla_attempts_total";
    /// Messages by what became of them (done, retry, released, lost, dead) and failure kind.
    counter DISPOSITIONS = "flotilla_dispositions_total";
    /// Messages being worked on.
    gauge IN_FLIGHT = "flotilla_jobs_in_flight";
    /// Messages that can be worked on at a time.
    gauge SLOTS = "flotilla_slots";
    /// Leases that were lost while their job ran, by reason (expired, fenced, receipt_handle,
    /// or no_queue: it was deleted).
    counter LEASES_LOST = "flotilla_leases_lost_total";
    /// Deliveries that ran no job: the effect had happened (done), this process (held) or another
    /// worker (claimed) was at it.
    counter DUPLICATES = "flotilla_duplicate_deliveries_total";
    /// Receive calls by result (messages, empty, error).
    counter RECEIVES = "flotilla_receives_total";
    /// Share of the receives since the start that brought nothing; 0 before the first.
    gauge EMPTY = "flotilla_empty_receive_ratio";
    /// US dollars that a million jobs cost in calls to SQS and DynamoDB, by list prices: what was
    /// spent since the start over the jobs that are done; 0 before the first.
    gauge DOLLARS = "flotilla_dollars_per_million_jobs";
    /// Calls to AWS by service, operation and HTTP status (or timeout, unreachable); every attempt
    /// of the SDK counts, as it does on the bill.
    counter API_CALLS = "flotilla_api_calls_total";
    /// What one SQS request costs, in US dollars (list price; a call of over 64 KiB is several).
    gauge REQUEST_PRICE = "flotilla_sqs_request_price_dollars";
    /// What one DynamoDB call costs by operation, in US dollars (list price on demand, rows of up to
    /// 1 KiB; a transaction is of two rows, a batch of ten).
    gauge CALL_PRICE = "flotilla_dynamodb_call_price_dollars";
    /// Messages on the queue by state (visible, in_flight, delayed), and on a dead-letter queue, under
    /// its own name (dead), as SQS counts them; every worker reports the whole queue, so take the maximum.
    gauge MESSAGES = "flotilla_queue_messages";
    /// Age of the oldest message of the last receive, 0 after an empty one; it grows while messages
    /// wait and none is received.
    gauge AGE = "flotilla_queue_age_seconds";
    /// 1 while /healthz is well, else 0.
    gauge HEALTHY = "flotilla_healthy";
}

/// Installs the process's metrics recorder; every metric carries the kind of `worker`.
///
/// # Errors
/// When a recorder is installed already.
pub fn install(worker: &str) -> Result<PrometheusHandle, BuildError> {
    let handle = builder(worker)?.install_recorder()?;
    describe();
    Ok(handle)
}

/// The exporter, with what every metric has in common.
pub(crate) fn builder(worker: &str) -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .add_global_label("worker", worker)
        .set_buckets(&[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0])
}

/// The system's name in OpenTelemetry's messaging conventions.
const SYSTEM: Label = Label::from_static_parts("messaging_system", "aws_sqs");
/// The call that messages come by, and the name there of what a job does with them.
const RECEIVE: &str = "ReceiveMessage";
/// The call that messages go by.
const SEND: &str = "SendMessage";
const WORK: &str = "process";
/// The label there of the class of an error; only what failed has it.
const ERROR: &str = "error_type";
/// The label of a queue's name there; metrics of our own say `queue`.
const DESTINATION: &str = "messaging_destination_name";
/// Dollars of a request, standard and FIFO.
const PRICES: [f64; 2] = [0.40e-6, 0.50e-6];

/// Dollars of a DynamoDB write unit and of a read unit.
const WRITE: f64 = 0.625e-6;
const READ: f64 = 0.125e-6;
/// Dollars of a call. A transaction takes two units for each row, and a read that may be a little old
/// half of one.
const CALLS: [(&str, f64); 8] = [
    ("UpdateItem", WRITE),
    ("PutItem", WRITE),
    ("DeleteItem", WRITE),
    ("TransactWriteItems", 4.0 * WRITE),
    ("BatchWriteItem", 10.0 * WRITE),
    ("GetItem", READ / 2.0),
    ("Query", READ / 2.0),
    ("BatchGetItem", 5.0 * READ),
];

/// What this process has spent.
static BILL: Bill = Bill::new();

/// An attempt of a call to AWS.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    pub(crate) operation: &'a str,
    /// The queue whose messages it is about.
    pub(crate) queue: Option<&'a str>,
    pub(crate) code: String,
    /// The class of error that it ended with.
    pub(crate) error: Option<String>,
    pub(crate) took: Duration,
}

/// The calls to SQS that are operations on messages, and OpenTelemetry's type of each.
const OPERATIONS: [(&str, &str); 5] = [
    (RECEIVE, "receive"),
    ("DeleteMessageBatch", "settle"),
    ("ChangeMessageVisibilityBatch", "settle"),
    (SEND, "send"),
    ("SendMessageBatch", "send"),
];

/// Counts an attempt of a call to AWS.
pub(crate) fn called(call: Call<'_>) {
    BILL.called(call.service, call.operation);
    let message = OPERATIONS.iter().find(|(name, _)| *name == call.operation);
    if let (Some((name, kind)), Some(queue)) = (message, call.queue) {
        let mut labels = vec![
            SYSTEM,
            operation(name),
            Label::from_static_parts("messaging_operation_type", kind),
            Label::new(DESTINATION, queue.to_owned()),
        ];
        labels.extend(call.error.map(|error| Label::new(ERROR, error)));
        ::metrics::histogram!(OPERATION, labels).record(call.took);
    }
    let labels = vec![
        Label::new("service", call.service.to_lowercase()),
        Label::new("operation", call.operation.to_owned()),
        Label::new("code", call.code),
    ];
    ::metrics::counter!(API_CALLS, labels).increment(1);
}

/// Counts a message that was sent to a queue, and the kind of failure where it was not taken.
pub(crate) fn sent(queue: &str, failure: Option<&'static str>) {
    let destination = Label::new(DESTINATION, queue_name(queue).to_owned());
    let mut labels = vec![SYSTEM, operation(SEND), destination];
    labels.extend(failure.map(|kind| Label::from_static_parts(ERROR, kind)));
    ::metrics::counter!(SENT, labels).increment(1);
}

fn operation(name: &'static str) -> Label {
    Label::from_static_parts("messaging_operation_name", name)
}

/// Tells how many messages can be worked on at a time.
pub(crate) fn slots(slots: usize) {
    ::metrics::gauge!(SLOTS).set(slots as f64);
}

/// Tells what a request to SQS costs (of the dearest queue, where a worker has several), and a call to
/// DynamoDB.
pub(crate) fn prices(fifo: bool) {
    BILL.of_fifo(fifo);
    ::metrics::gauge!(REQUEST_PRICE).set(PRICES[usize::from(fifo)]);
    for (operation, price) in CALLS {
        ::metrics::gauge!(CALL_PRICE, "operation" => operation).set(price);
    }
}

/// Tells what is known at a scrape alone.
pub(crate) fn scraped(healthy: bool) {
    ::metrics::gauge!(HEALTHY).set(f64::from(u8::from(healthy)));
    ::metrics::gauge!(DOLLARS).set(BILL.per_million());
}

/// What a worker counts of a queue. Every metric carries the queue's name, of which there are as many
/// as the worker was configured with.
///
/// What is counted for every message or receive is looked up once: the registry hashes all labels
/// each time.
#[derive(Clone)]
pub(crate) struct Meter {
    queue: String,
    consumed: Counter,
    in_flight: Gauge,
    waited: Histogram,
    age: Gauge,
    attempts: [Counter; 5],
    /// By the results of [`RECEIVED`].
    receives: [Counter; 3],
    /// All receives and the empty ones, and their share.
    polls: Arc<[AtomicU64; 2]>,
    empty: Gauge,
    /// Counter and time of the dispositions of [`ORDINARY`].
    disposed: [(Counter, Histogram); 2],
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.queue).finish()
    }
}

/// The dispositions that most messages have.
const ORDINARY: [&str; 2] = ["done", "released"];
/// The kinds of failure that every worker may have. Those of a job's own are counted from the first
/// on, which no rate shows.
const RETRIED: [&str; 7] = ["dead_letter", "held", "ledger", "panic", "s3", "sqs", "uncommitted"];
const DEAD: [&str; 8] = [
    "attempts_exhausted",
    "cancelled",
    "effect_key",
    "held",
    "ledger",
    "panic",
    "payload",
    "unparsable",
];
/// What can become of a receive.
const RECEIVED: [&str; 3] = ["messages", "empty", "error"];

impl Meter {
    /// The meter, with every counter at zero: what never happened yet must be visible as such.
    pub(crate) fn new(queue_url: &str) -> Self {
        let queue = queue_url.rsplit('/').next().unwrap_or(queue_url).to_owned();
        let of = |name: &'static str, value: &'static str| {
            [("queue", queue.clone()), (name, value.to_owned())]
        };
        let numbers = ["1", "2", "3", "4", "5+"];
        let labels = vec![SYSTEM, operation(RECEIVE), Label::new(DESTINATION, queue.clone())];
        let meter = Self {
            consumed: ::metrics::counter!(CONSUMED, labels),
            in_flight: ::metrics::gauge!(IN_FLIGHT, "queue" => queue.clone()),
            // A histogram that is born with its first job shows no rate of it.
            waited: ::metrics::histogram!(WAIT, "queue" => queue.clone()),
            age: ::metrics::gauge!(AGE, "queue" => queue.clone()),
            attempts: numbers.map(|it| ::metrics::counter!(ATTEMPTS, &of("attempt", it))),
            polls: Arc::default(),
            empty: ::metrics::gauge!(EMPTY, "queue" => queue.clone()),
            receives: RECEIVED.map(|it| ::metrics::counter!(RECEIVES, &of("result", it))),
            disposed: ORDINARY
                .map(|name| (dispositions(&queue, name, "none"), processing(&queue, name, None))),
            queue,
        };
        meter.consumed(0);
        RECEIVED.iter().for_each(|result| meter.receives(result, 0));
        ["done", "held", "claimed"].iter().for_each(|r| meter.duplicates(r, 0));
        ["expired", "fenced", "receipt_handle", "no_queue"]
            .iter()
            .for_each(|r| meter.leases_lost(r, 0));
        for name in ["done", "retry", "released", "lost", "dead"] {
            dispositions(&meter.queue, name, "none").increment(0);
        }
        // A counter that is born with its first failure shows no rate of it.
        for (name, kinds) in [("retry", &RETRIED[..]), ("dead", &DEAD[..])] {
            kinds.iter().for_each(|kind| dispositions(&meter.queue, name, kind).increment(0));
        }
        meter.in_flight.set(0.0);
        meter.empty.set(0.0);
        meter.age(Duration::ZERO);
        meter
    }

    pub(crate) fn consumed(&self, count: u64) {
        self.consumed.increment(count);
    }

    pub(crate) fn receives(&self, result: &'static str, count: u64) {
        let known = RECEIVED.iter().position(|known| *known == result);
        known.into_iter().for_each(|place| self.receives[place].increment(count));
        let [all, empty] = &*self.polls;
        let all = all.fetch_add(count, Relaxed) + count;
        let of_these = if result == "empty" { count } else { 0 };
        let empty = empty.fetch_add(of_these, Relaxed) + of_these;
        if all > 0 {
            self.empty.set(empty as f64 / all as f64);
        }
    }

    pub(crate) fn duplicates(&self, reason: &'static str, count: u64) {
        let queue = self.queue.clone();
        ::metrics::counter!(DUPLICATES, "queue" => queue, "reason" => reason).increment(count);
    }

    pub(crate) fn leases_lost(&self, reason: &'static str, count: u64) {
        let queue = self.queue.clone();
        ::metrics::counter!(LEASES_LOST, "queue" => queue, "reason" => reason).increment(count);
    }

    pub(crate) fn waited(&self, age: Duration) {
        self.waited.record(age);
    }

    pub(crate) fn attempted(&self, number: u32) {
        self.attempts[number.clamp(1, 5) as usize - 1].increment(1);
    }

    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    pub(crate) fn age(&self, age: Duration) {
        self.age.set(age.as_secs_f64());
    }

    pub(crate) fn messages(&self, state: &'static str, count: u64) {
        let queue = self.queue.clone();
        ::metrics::gauge!(MESSAGES, "queue" => queue, "state" => state).set(count as f64);
    }

    /// Tells how many messages are on a dead-letter queue, which several queues may have in common.
    pub(crate) fn dead(queue: &str, count: u64) {
        let queue = queue_name(queue).to_owned();
        ::metrics::gauge!(MESSAGES, "queue" => queue, "state" => "dead").set(count as f64);
    }

    /// Records a disposition and how long its message took.
    pub(crate) fn disposed(&self, what: &Disposition, took: Duration) {
        let (name, kind) = (what.name(), what.kind());
        if let Some(place) = ORDINARY.iter().position(|ordinary| *ordinary == name) {
            let (count, time) = &self.disposed[place];
            count.increment(1);
            time.record(took);
            if name == "done" {
                BILL.done();
            }
            return;
        }
        dispositions(&self.queue, name, kind).increment(1);
        let error = if name == "lost" { "lease_lost" } else { kind };
        processing(&self.queue, name, Some(error)).record(took);
    }
}

fn dispositions(queue: &str, name: &'static str, kind: &'static str) -> Counter {
    let queue = queue.to_owned();
    ::metrics::counter!(DISPOSITIONS, "queue" => queue, "disposition" => name, "kind" => kind)
}

fn processing(queue: &str, disposition: &'static str, error: Option<&'static str>) -> Histogram {
    let mut labels = vec![
        SYSTEM,
        operation(WORK),
        Label::new(DESTINATION, queue.to_owned()),
        Label::from_static_parts("disposition", disposition),
    ];
    labels.extend(error.map(|error| Label::from_static_parts(ERROR, error)));
    ::metrics::histogram!(PROCESS, labels)
}

#[cfg(test)]
mod tests;
