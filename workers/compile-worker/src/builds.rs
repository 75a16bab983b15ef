//! The table of builds: a row per request, from the first one who asks to the artifact.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue as Attr, TransactWriteItem, Update},
};
use flotilla_runtime::{Failure, failure::chain};
use serde::{Deserialize, Serialize};

use crate::{
    builder::BuilderInfo,
    keys::{self, RequestParts},
    message::BuildOrder,
    options::Options,
};

/// The one ecosystem so far; also the first part of its packages' keys.
pub const PYPI: &str = "pypi";
/// After this many seconds without an end an order is sent again: its message may be lost, and a
/// second one does no harm.
const RESEND_SECONDS: u64 = 120;

/// The table of builds. Clones share the client.
#[derive(Debug, Clone)]
pub struct Builds {
    client: Client,
    table: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The package, normalised.
    pub name: String,
    /// The version, as upstream writes it.
    pub version: String,
    /// How it is to be compiled.
    pub options: Options,
    /// The request key.
    pub key: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The version that was asked for.
    pub version: String,
    /// The canonical option set.
    pub options: String,
    /// The request key.
    pub request: String,
    /// Which try it is.
    pub epoch: u64,
    /// When it was last sent, in Unix seconds.
    pub ordered_at: u64,
    /// What became of it.
    pub state: State,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It waits, or is being built.
    Ordered,
    /// It is built.
    Done(Artifact),
    /// It cannot be built.
    Failed(Failed),
}

/// An artifact in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The artifact key.
    pub artifact: String,
    /// The wheel's name.
    pub filename: String,
    /// The key of the object.
    pub blob: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// The key of the log.
    pub log: String,
    /// SHA-256 of the source.
    pub source: String,
    /// SHA-256 of each build requirement by file name.
    pub build_requires: std::collections::BTreeMap<String, String>,
    /// Time in the container, in milliseconds.
    pub build_ms: u64,
}

/// Why there is no artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// In words for the one who asked.
    pub reason: String,
    /// Whether it was our fault and not the package's.
    pub ours: bool,
    /// The key of the log, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// From when on it may be tried again, in Unix seconds.
    pub retry_at: u64,
}

/// What an order led to.
#[derive(Debug, Clone)]
pub enum Ordered {
    /// This message is to be sent now, by nobody else.
    Send(BuildOrder),
    /// It is under way, built, or failed.
    Stands(Row),
}

impl Request {
    /// The request for a version of a package, with these options, from this builder.
    ///
    /// # Errors
    /// Never for a request of this type.
    pub fn new(
        name: &str,
        version: &str,
        options: Options,
        builder: &BuilderInfo,
    ) -> Result<Self, Failure> {
        let text = options.to_string();
        let parts = RequestParts {
            abi: &builder.abi,
            builder: &builder.image,
            ecosystem: PYPI,
            name,
            options: &text,
            version,
        };
        let key = keys::key(&parts).map_err(|e| Failure::permanent("key", e.to_string()))?;
        Ok(Self { name: name.to_owned(), version: version.to_owned(), options, key })
    }
}

/// The table's key of a package.
pub fn package_key(name: &str) -> String {
    format!("{PYPI}/{name}")
}

/// Now, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

impl Builds {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// The row of a request, if anybody asked.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn get(&self, name: &str, request: &str) -> Result<Option<Row>, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let call = call.set_key(Some(row_key(name, request)));
        let answer = call.send().await.map_err(|e| self.failed("GetItem", name, chain(&e)))?;
        Ok(answer.item.as_ref().and_then(read))
    }

    /// All rows of a package.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn of_package(&self, name: &str) -> Result<Vec<Row>, Failure> {
        let call = self.client.query().table_name(&self.table);
        let call = call.key_condition_expression("package = :package");
        let call = call.expression_attribute_values(":package", Attr::S(package_key(name)));
        let mut pages = call.into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| self.failed("Query", name, chain(&e)))?;
            rows.extend(read(&item));
        }
        Ok(rows)
    }

    /// Asks for a build: of all who ask, one is told to send the message. `lost` says that the
    /// blob of a finished build is gone.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn order(&self, request: &Request, lost: bool) -> Result<Ordered, Failure> {
        loop {
            let row = self.get(&request.name, &request.key).await?;
            let (was, epoch) = match &row {
                None => (None, 1),
                Some(row) => match &row.state {
                    State::Ordered if row.ordered_at + RESEND_SECONDS <= now() => {
                        (Some(row), row.epoch)
                    }
                    State::Failed(failed) if failed.retry_at <= now() => (Some(row), row.epoch + 1),
                    State::Done(_) if lost => (Some(row), row.epoch + 1),
                    _ => return Ok(Ordered::Stands(row.clone())),
                },
            };
            if self.open(request, was, epoch).await? {
                return Ok(Ordered::Send(message(request, epoch)));
            }
            // Somebody else was quicker: what is there now?
        }
    }

    async fn open(&self, it: &Request, was: Option<&Row>, epoch: u64) -> Result<bool, Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.set_key(Some(row_key(&it.name, &it.key))).update_expression(
            "SET #state = :state, #version = :version, #options = :options, epoch = :epoch, \
             ordered_at = :now REMOVE detail",
        );
        let call = call
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#options", "options")
            .expression_attribute_values(":state", Attr::S("ordered".into()))
            .expression_attribute_values(":version", Attr::S(it.version.clone()))
            .expression_attribute_values(":options", Attr::S(it.options.to_string()))
            .expression_attribute_values(":epoch", number(epoch))
            .expression_attribute_values(":now", number(now()));
        let call = match was {
            None => call.condition_expression("attribute_not_exists(#state)"),
            Some(was) => call
                .condition_expression("epoch = :was AND ordered_at = :at AND #state = :was_state")
                .expression_attribute_values(":was", number(was.epoch))
                .expression_attribute_values(":at", number(was.ordered_at))
                .expression_attribute_values(":was_state", Attr::S(was.state.name().into())),
        };
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(self.failed("UpdateItem", &it.name, chain(&e))),
        }
    }

    /// The item that ends an order, to be written by the holder of its lease.
    ///
    /// # Errors
    /// Never for a state of this type.
    pub fn end(&self, order: &BuildOrder, state: &State) -> Result<TransactWriteItem, Failure> {
        let bad = |e: String| Failure::permanent("request", format!("a row of builds: {e}"));
        let detail = serde_json::to_string(state).map_err(|e| bad(e.to_string()))?;
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(row_key(&order.name, &order.request)))
            .update_expression("SET #state = :state, detail = :detail, ended_at = :now")
            .condition_expression("epoch = :epoch")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", Attr::S(state.name().into()))
            .expression_attribute_values(":detail", Attr::S(detail))
            .expression_attribute_values(":now", number(now()))
            .expression_attribute_values(":epoch", number(order.epoch));
        let update = update.build().map_err(|e| bad(e.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn failed(&self, what: &str, name: &str, why: String) -> Failure {
        let table = &self.table;
        Failure::transient("dynamodb", format!("{what} of {name} in table {table}: {why}"))
    }
}

impl State {
    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
        }
    }
}

fn message(request: &Request, epoch: u64) -> BuildOrder {
    BuildOrder {
        name: request.name.clone(),
        version: request.version.clone(),
        options: request.options.to_string(),
        request: request.key.clone(),
        epoch,
    }
}

fn row_key(name: &str, request: &str) -> HashMap<String, Attr> {
    HashMap::from([
        ("package".to_owned(), Attr::S(package_key(name))),
        ("request".to_owned(), Attr::S(request.to_owned())),
    ])
}

fn read(item: &HashMap<String, Attr>) -> Option<Row> {
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    let count = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let state = match text("detail") {
        Some(detail) => serde_json::from_str(&detail).ok()?,
        None => State::Ordered,
    };
    Some(Row {
        version: text("version")?,
        options: text("options")?,
        request: text("request")?,
        epoch: count("epoch")?,
        ordered_at: count("ordered_at")?,
        state,
    })
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}
