//! What an operator orders of running workers: pause, resume, drain, and cancel of one job.
//!
//! Orders are rows of the ledger table, so that they reach workers on any host with no port open:
//! `control/<name>`, where the name is a kind of worker ([`Job::NAME`](crate::Job::NAME)) or the id
//! of one. Workers look at both rows in one call, every `FLOTILLA_CONTROL_SECONDS`. A cancel is an
//! attribute of the effect's own row (see [`Ledger::cancel`](crate::ledger::Ledger::cancel)).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue as Attr, KeysAndAttributes},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    drain::Drain,
    failure::{Failure, chain},
    health::Health,
};

/// An order to the workers of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Receive nothing more; finish what runs; go on when resumed.
    Pause,
    /// Receive again.
    Resume,
    /// Stop as at SIGTERM. It is for the processes that run when it is given; those that start
    /// later do not obey it.
    Drain,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Drain => "drain",
        }
    }
}

/// The control rows of a ledger table.
#[derive(Debug, Clone)]
pub struct Control {
    client: Client,
    table: String,
}

/// An order as it stands in its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `pause`, `resume` or `drain`.
    pub order: String,
    /// When it was given, in milliseconds of the Unix epoch.
    pub at: u64,
}

impl Control {
    /// The control rows of `table`.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// Gives an order to a kind of worker, or to the worker of an id.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn order(&self, name: &str, order: Order) -> Result<(), Failure> {
        let call = self.client.put_item().table_name(&self.table);
        let call = call.item("effect", Attr::S(key(name)));
        let call = call.item("order", Attr::S(order.name().to_owned()));
        let sent = call.item("ordered_at", Attr::N(now_ms().to_string())).send().await;
        sent.map(drop).map_err(|e| self.unavailable("PutItem", &e))
    }

    /// The orders that stand for these names.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn standing(&self, names: &[&str]) -> Result<HashMap<String, Standing>, Failure> {
        let keys =
            names.iter().map(|name| HashMap::from([("effect".to_owned(), Attr::S(key(name)))]));
        let keys = KeysAndAttributes::builder().set_keys(Some(keys.collect())).build();
        let keys = keys.map_err(|e| Failure::permanent("request", "control rows").caused_by(e))?;
        let answer = self.client.batch_get_item().request_items(&self.table, keys).send().await;
        let answer = answer.map_err(|e| self.unavailable("BatchGetItem", &e))?;
        // A row that DynamoDB had no time for is not one that is not there: a pause would end by it.
        if answer.unprocessed_keys().is_some_and(|left| !left.is_empty()) {
            let what = format!("BatchGetItem of table {} left rows unread", self.table);
            return Err(Failure::transient("control", what));
        }
        let rows = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
        Ok(rows.iter().filter_map(standing).collect())
    }

    fn unavailable<E: std::error::Error + 'static>(&self, call: &str, error: &E) -> Failure {
        let table = &self.table;
        Failure::transient("control", format!("{call} of table {table}: {}", chain(error)))
    }
}

/// Whether the last of these orders that is one to pause or to resume is one to pause: who resumes all
/// workers of a kind means those, too, that were paused alone, and the other way round.
fn is_paused<'a>(orders: impl Iterator<Item = &'a Standing>) -> bool {
    let pauses = |it: &Standing| match it.order.as_str() {
        "pause" => Some((it.at, true)),
        "resume" => Some((it.at, false)),
        _ => None,
    };
    orders.filter_map(pauses).max().is_some_and(|(_, paused)| paused)
}

fn key(name: &str) -> String {
    format!("control/{name}")
}

fn standing(row: &HashMap<String, Attr>) -> Option<(String, Standing)> {
    let text = |field: &str| row.get(field)?.as_s().ok();
    let at = row.get("ordered_at").and_then(|at| at.as_n().ok()?.parse().ok()).unwrap_or(0);
    let name = text("effect")?.strip_prefix("control/")?.to_owned();
    Some((name, Standing { order: text("order")?.clone(), at }))
}

/// Now, in milliseconds of the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A worker that obeys.
pub(crate) struct Obedience {
    pub(crate) control: Control,
    /// The kind of worker, and this one's id.
    pub(crate) names: [String; 2],
    pub(crate) every: Duration,
    pub(crate) drain: Arc<Drain>,
    pub(crate) health: Arc<Health>,
    pub(crate) paused: watch::Sender<bool>,
    /// When this worker started, in milliseconds of the Unix epoch.
    pub(crate) started: u64,
    /// The orders that stood at the last look; none before the first.
    pub(crate) known: Option<HashMap<String, Standing>>,
}

/// How long the look before the first receive may take.
const FIRST: Duration = Duration::from_secs(3);

impl Obedience {
    /// Looks for orders until the token is cancelled. A failure changes nothing: the last order
    /// that was read stands.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let mut failing = false;
        while timeout(self.every, end.cancelled()).await.is_err() {
            match self.look().await {
                Ok(()) => failing = false,
                Err(failure) if !failing => {
                    failing = true;
                    tracing::warn!(%failure, "orders cannot be read: the last ones stand");
                }
                Err(_) => {}
            }
        }
    }

    /// Looks before the first receive, or a worker that starts under a pause would begin with what
    /// nobody wants begun. A ledger that does not answer keeps none from its work for long.
    pub(crate) async fn first(&mut self, stop: &CancellationToken) {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = timeout(FIRST, self.look()) => looked,
        };
        let late = || Failure::transient("control", format!("no answer within {FIRST:?}"));
        if let Err(failure) = looked.unwrap_or_else(|_| Err(late())) {
            tracing::warn!(%failure, "orders cannot be read: beginning without them");
        }
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let orders = self.control.standing(&self.names.each_ref().map(String::as_str)).await?;
        let paused = is_paused(orders.values());
        if self.paused.send_replace(paused) != paused {
            tracing::info!(paused, "as the operator ordered");
            self.health.paused(paused);
        }
        if orders.iter().any(|(name, order)| self.is_to_drain(name, order)) {
            self.drain.begin("the operator's order", None);
        }
        self.known = Some(orders);
        Ok(())
    }

    /// Whether an order is one to drain that was given to this process. One that was not there at the
    /// last look is, whatever the clock says that it was given by. Only at the first look is there
    /// nothing but two clocks to tell; there an order of before the start, or of a clock that is ahead,
    /// would end every process that is started after it.
    fn is_to_drain(&self, name: &str, order: &Standing) -> bool {
        order.order == Order::Drain.name()
            && match &self.known {
                Some(known) => known.get(name) != Some(order),
                None => (self.started..=now_ms()).contains(&order.at),
            }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;
    use crate::fake::FakeAws;

    type Rows = Arc<Mutex<Vec<Value>>>;

    fn row(name: &str, order: &str, at: u64) -> Value {
        let at = at.to_string();
        json!({ "effect": { "S": key(name) }, "order": { "S": order }, "ordered_at": { "N": at } })
    }

    /// A worker that obeys what these rows say.
    fn obedience(rows: &Rows) -> Obedience {
        let rows = rows.clone();
        let fake = FakeAws::new(
            move |_, _| json!({ "Responses": { "ledger": rows.lock().unwrap().clone() } }),
        );
        Obedience {
            control: Control::new(fake.dynamo(), "ledger"),
            names: ["grading".to_owned(), "one".to_owned()],
            every: Duration::from_secs(10),
            drain: Arc::new(Drain::new(Duration::from_secs(90))),
            health: Health::new(Duration::from_secs(20)),
            paused: watch::Sender::new(false),
            started: now_ms(),
            known: None,
        }
    }

    const DAY: u64 = 86_400_000;

    #[tokio::test]
    async fn an_order_to_drain_is_obeyed_whatever_clock_it_was_given_by() {
        for at in [now_ms() - DAY, now_ms() + DAY] {
            let rows = Rows::default();
            let mut obedience = obedience(&rows);
            obedience.first(&CancellationToken::new()).await;
            rows.lock().unwrap().push(row("one", "drain", at));
            assert!(!obedience.drain.begun().is_cancelled());
            obedience.look().await.unwrap();
            assert!(obedience.drain.begun().is_cancelled(), "given at {at}");
        }
    }

    #[tokio::test]
    async fn an_order_of_before_the_start_is_not_obeyed_until_it_is_given_again() {
        for at in [now_ms() - DAY, now_ms() + DAY] {
            let rows = Rows::new(Mutex::new(vec![row("grading", "drain", at)]));
            let mut obedience = obedience(&rows);
            obedience.first(&CancellationToken::new()).await;
            obedience.look().await.unwrap();
            assert!(!obedience.drain.begun().is_cancelled(), "given at {at}");
            rows.lock().unwrap()[0] = row("grading", "drain", at + 1);
            obedience.look().await.unwrap();
            assert!(obedience.drain.begun().is_cancelled());
        }
    }

    #[tokio::test]
    async fn an_order_of_the_moment_between_the_start_and_the_first_look_is_obeyed() {
        let rows = Rows::default();
        let mut obedience = obedience(&rows);
        rows.lock().unwrap().push(row("one", "drain", now_ms()));
        obedience.first(&CancellationToken::new()).await;
        assert!(obedience.drain.begun().is_cancelled());
    }

    #[tokio::test]
    async fn the_last_order_counts_whether_it_names_the_kind_or_the_worker() {
        for (first, second) in [("one", "grading"), ("grading", "one")] {
            let rows = Rows::new(Mutex::new(vec![row(first, "pause", 1)]));
            let mut obedience = obedience(&rows);
            obedience.look().await.unwrap();
            assert!(*obedience.paused.borrow());
            rows.lock().unwrap().push(row(second, "resume", 2));
            obedience.look().await.unwrap();
            assert!(!*obedience.paused.borrow(), "{second} was resumed after {first} was paused");
            rows.lock().unwrap()[0] = row(first, "pause", 3);
            obedience.look().await.unwrap();
            assert!(*obedience.paused.borrow(), "{first} is paused again");
        }
    }

    #[tokio::test]
    async fn a_row_that_was_not_read_ends_no_pause() {
        let throttled = Arc::new(Mutex::new(false));
        let (at, keys) = (now_ms(), json!({ "Keys": [{ "effect": { "S": key("one") } }] }));
        let now = throttled.clone();
        let fake = FakeAws::new(move |_, _| match *now.lock().unwrap() {
            true => json!({ "Responses": {}, "UnprocessedKeys": { "ledger": keys } }),
            false => json!({ "Responses": { "ledger": [row("one", "pause", at)] } }),
        });
        let mut obedience = obedience(&Rows::default());
        obedience.control = Control::new(fake.dynamo(), "ledger");
        obedience.look().await.unwrap();
        *throttled.lock().unwrap() = true;
        obedience.look().await.unwrap_err();
        assert!(*obedience.paused.borrow());
    }
}
