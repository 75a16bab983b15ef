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
use tokio::sync::watch;
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
        let rows = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
        Ok(rows.iter().filter_map(standing).collect())
    }

    fn unavailable<E: std::error::Error + 'static>(&self, call: &str, error: &E) -> Failure {
        let table = &self.table;
        Failure::transient("control", format!("{call} of table {table}: {}", chain(error)))
    }
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

fn now_ms() -> u64 {
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
}

impl Obedience {
    /// Looks for orders until the token is cancelled. A failure changes nothing: the last order
    /// that was read stands.
    pub(crate) async fn run(self, end: CancellationToken) {
        let started = now_ms();
        let mut failing = false;
        while !end.is_cancelled() {
            match self.look(started).await {
                Ok(()) => failing = false,
                Err(failure) if !failing => {
                    failing = true;
                    tracing::warn!(%failure, "orders cannot be read: the last ones stand");
                }
                Err(_) => {}
            }
            let _ = tokio::time::timeout(self.every, end.cancelled()).await;
        }
    }

    async fn look(&self, started: u64) -> Result<(), Failure> {
        let orders = self.control.standing(&self.names.each_ref().map(String::as_str)).await?;
        let stands = |order: Order| orders.values().filter(move |it| it.order == order.name());
        let paused = stands(Order::Pause).next().is_some();
        if self.paused.send_replace(paused) != paused {
            tracing::info!(paused, "as the operator ordered");
            self.health.paused(paused);
        }
        if stands(Order::Drain).any(|it| it.at > started) {
            self.drain.begin("the operator's order", None);
        }
        Ok(())
    }
}
