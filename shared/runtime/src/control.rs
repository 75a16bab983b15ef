//! What an operator orders of running workers: pause, resume, drain, and cancel of one job.
//!
//! Orders are rows of the ledger table, so that they reach workers on any host with no port open:
//! `control/<name>`, where the name is a kind of worker ([`Job::NAME`](crate::Job::NAME)) or the id
//! of one. Workers look at both rows in one call, every `FLOTILLA_CONTROL_SECONDS`. A cancel is an
//! attribute of the effect's own row (see [`Ledger::cancel`](crate::ledger::Ledger::cancel)); that of a job
//! which no worker has begun with waits by its id in `control/cancelled/<kind>`, which is looked at in the
//! same call.
//!
//! Each order has a number, drawn from a counter in the table (row `control`): which of two came later
//! is told by that, and by no operator's clock. A row keeps the number of the last order of each kind, so a
//! drain does not end a pause: a worker that is started again is still paused.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{AttributeValue as Attr, KeysAndAttributes, ReturnValue},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    advance::{self, InAdvance, Row},
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
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// The counter that orders have their numbers from. No name has this key: theirs have a slash.
const COUNTER: &str = "control";

/// The orders that stand in a row, each by its number; zero where none was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last order to pause.
    pause: u64,
    /// The last order to resume.
    resume: u64,
    /// The last order to drain.
    drain: u64,
    /// When that was given, in milliseconds of the Unix epoch, by the operator's clock.
    drain_at: u64,
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
        let number = self.next_number().await?;
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("effect", Attr::S(key(name)));
        // One that was overtaken on its way by a later one of its kind has nothing left to say.
        let call = call.condition_expression("attribute_not_exists(#order) OR #order < :number");
        let call = call.expression_attribute_names("#order", order.name());
        let call = call.expression_attribute_values(":number", Attr::N(number));
        let call = match order {
            Order::Drain => call
                .update_expression("SET #order = :number, drain_at = :at")
                .expression_attribute_values(":at", Attr::N(now_ms().to_string())),
            Order::Pause | Order::Resume => call.update_expression("SET #order = :number"),
        };
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) if is_refused(&e) => Ok(()),
            Err(e) => Err(self.unavailable("UpdateItem", &e)),
        }
    }

    /// A number that is larger than that of every order before.
    async fn next_number(&self) -> Result<String, Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("effect", Attr::S(COUNTER.to_owned()));
        let call = call.update_expression("ADD orders :one").return_values(ReturnValue::AllNew);
        let call = call.expression_attribute_values(":one", Attr::N("1".to_owned()));
        let row = call.send().await.map_err(|e| self.unavailable("UpdateItem", &e))?.attributes;
        let number = row.as_ref().and_then(|row| row.get("orders")?.as_n().ok()).cloned();
        number.ok_or_else(|| {
            let what = format!("UpdateItem of table {} gave no number for an order", self.table);
            Failure::transient("control", what)
        })
    }

    /// The rows of these names.
    async fn rows(&self, names: &[&str]) -> Result<Vec<Row>, Failure> {
        let keys =
            names.iter().map(|name| HashMap::from([("effect".to_owned(), Attr::S(key(name)))]));
        // Of a row that is read a little late, an order of before the start would look like a new one.
        let keys =
            KeysAndAttributes::builder().consistent_read(true).set_keys(Some(keys.collect()));
        let keys = keys.build();
        let keys = keys.map_err(|e| Failure::permanent("request", "control rows").caused_by(e))?;
        let answer = self.client.batch_get_item().request_items(&self.table, keys).send().await;
        let answer = answer.map_err(|e| self.unavailable("BatchGetItem", &e))?;
        // A row that DynamoDB had no time for is not one that is not there: a pause would end by it.
        if answer.unprocessed_keys().is_some_and(|left| !left.is_empty()) {
            let what = format!("BatchGetItem of table {} left rows unread", self.table);
            return Err(Failure::transient("control", what));
        }
        Ok(answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default())
    }

    pub(crate) fn unavailable<E: std::error::Error + 'static>(
        &self,
        call: &str,
        error: &E,
    ) -> Failure {
        let table = &self.table;
        Failure::transient("control", format!("{call} of table {table}: {}", chain(error)))
    }
}

/// Whether the last of these orders that is one to pause or to resume is one to pause: who resumes all
/// workers of a kind means those, too, that were paused alone, and the other way round.
fn is_paused<'a>(orders: impl Iterator<Item = &'a Standing>) -> bool {
    let (mut paused, mut resumed) = (0, 0);
    for order in orders {
        (paused, resumed) = (order.pause.max(paused), order.resume.max(resumed));
    }
    paused > resumed
}

fn key(name: &str) -> String {
    format!("{COUNTER}/{name}")
}

fn name(row: &Row) -> Option<&str> {
    row.get("effect")?.as_s().ok()?.strip_prefix("control/")
}

fn standing(row: &Row) -> Option<(String, Standing)> {
    let number =
        |field: &str| row.get(field).and_then(|it| it.as_n().ok()?.parse().ok()).unwrap_or(0);
    let name = name(row)?.to_owned();
    let [pause, resume, drain] =
        [Order::Pause, Order::Resume, Order::Drain].map(|order| number(order.name()));
    Some((name, Standing { pause, resume, drain, drain_at: number("drain_at") }))
}

fn is_refused<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    let refused = |e: &UpdateItemError| e.is_conditional_check_failed_exception();
    error.as_service_error().is_some_and(refused)
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
    /// What is cancelled before anybody has begun with it.
    pub(crate) in_advance: Arc<InAdvance>,
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
            let Some(looked) = end.run_until_cancelled(self.look()).await else { return };
            match looked {
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
        let [kind, id] = &self.names;
        let cancelled = advance::row_name(kind);
        let rows = self.control.rows(&[kind, id, &cancelled]).await?;
        // Before a pause ends: what is received after it must not be begun with.
        self.in_advance.learn(rows.iter().find(|row| name(row) == Some(&cancelled)));
        let orders = rows.iter().filter(|row| name(row) != Some(&cancelled));
        let orders: HashMap<_, _> = orders.filter_map(standing).collect();
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

    /// Whether an order to drain was given to this process. One that was not there at the last look was.
    /// Only at the first look is there nothing but two clocks to tell; there an order of before the
    /// start, or of a clock that is ahead, would end every process that is started after it.
    fn is_to_drain(&self, name: &str, order: &Standing) -> bool {
        match &self.known {
            Some(known) => order.drain > known.get(name).map_or(0, |known| known.drain),
            None => order.drain > 0 && (self.started..=now_ms()).contains(&order.drain_at),
        }
    }
}

#[cfg(test)]
mod tests;
