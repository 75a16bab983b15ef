//! The table of builds: a row per request, from the first one who asks to the artifact; and a
//! small row per key, which says whose it is.

mod request;
mod row;

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue as Attr, Put, ReturnValue, TransactWriteItem, Update},
};
use flotilla_runtime::{Failure, failure::chain};

pub(crate) use self::row::set;
pub use self::{
    request::{PYPI, Request, package_key},
    row::{Artifact, Failed, Live, Lock, Locked, Row, State, Verdict},
};
use crate::message::BuildOrder;

/// After this many seconds without an end an order is sent again: its message may be lost, and a
/// second one does no harm.
pub const RESEND_SECONDS: u64 = 120;
/// The range key of the row that says whose a key is.
const OF: &str = "of";
/// The attribute of it that says up to which epoch its rows were forgotten.
const FORGOTTEN: &str = "forgotten";

/// The table of builds. Clones share the client.
#[derive(Debug, Clone)]
pub struct Builds {
    client: Client,
    table: String,
}

/// What an order led to.
#[derive(Debug, Clone)]
pub enum Ordered {
    /// This message is to be sent now, by nobody else.
    Send(BuildOrder),
    /// It is under way, built, or failed.
    Stands(Box<Row>),
}

/// Why a request that has ended may be opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Only because its failure is to be forgotten by now.
    Expired,
    /// The blob of the artifact is gone. It is built with what it was built with.
    Lost,
    /// Somebody wants it, with what its requirements are now.
    Retry,
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

    /// The table's name.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// The row of a request for a package (`pypi/markupsafe`), if anybody asked.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn get(&self, package: &str, request: &str) -> Result<Option<Row>, Failure> {
        Ok(self.item(package, request).await?.as_ref().and_then(row::read))
    }

    /// The row of a request key or an artifact key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn by_key(&self, key: &str) -> Result<Option<Row>, Failure> {
        let Some(pointer) = self.item(&pointer(key), OF).await? else {
            return Ok(None);
        };
        let text = |name: &str| pointer.get(name).and_then(|it| it.as_s().ok());
        match (text("of_package"), text("of_request")) {
            (Some(package), Some(request)) => self.get(package, request).await,
            _ => Ok(None),
        }
    }

    /// All rows of a package.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn of_package(&self, package: &str) -> Result<Vec<Row>, Failure> {
        let call = self.client.query().table_name(&self.table);
        let call = call.key_condition_expression("package = :package");
        let call = call.expression_attribute_values(":package", Attr::S(package.to_owned()));
        let mut pages = call.into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| self.failed("Query", package, chain(&e)))?;
            rows.extend(row::read(&item));
        }
        Ok(rows)
    }

    /// Asks for a build: of all who ask, one is told to send the message.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn order(&self, request: &Request, mut again: Again) -> Result<Ordered, Failure> {
        loop {
            let row = self.get(&request.package(), &request.key).await?;
            let (epoch, forget) = match &row {
                None => (self.point(request).await?, true),
                Some(row) => match reopened(row, again) {
                    Some(next) => next,
                    None => return Ok(Ordered::Stands(Box::new(row.clone()))),
                },
            };
            if self.open(request, row.as_ref(), epoch, forget).await? {
                return Ok(Ordered::Send(request.order(epoch)));
            }
            // Somebody else was quicker, and has done what we wanted. What is there now?
            again = Again::Expired;
        }
    }

    async fn open(
        &self,
        it: &Request,
        was: Option<&Row>,
        epoch: u64,
        forget: bool,
    ) -> Result<bool, Failure> {
        let lock = if forget { ", build_lock" } else { "" };
        let call = self.update(&it.package(), &it.key).update_expression(format!(
            "SET #state = :state, #version = :version, #options = :options, parts = :parts, \
             epoch = :epoch, ordered_at = :now \
             REMOVE detail, ended_at, live_generation, live_pieces, verdict, marked_at{lock}"
        ));
        let call = call
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#options", "options")
            .expression_attribute_values(":state", text("ordered"))
            .expression_attribute_values(":version", text(&it.version))
            .expression_attribute_values(":options", text(&it.options.to_string()))
            .expression_attribute_values(":parts", text(&it.parts.to_string()))
            .expression_attribute_values(":epoch", number(epoch))
            .expression_attribute_values(":now", number(now()));
        let call = match was {
            None => call.condition_expression("attribute_not_exists(#state)"),
            Some(was) => call
                .condition_expression("epoch = :was AND ordered_at = :at AND #state = :was_state")
                .expression_attribute_values(":was", number(was.epoch))
                .expression_attribute_values(":at", number(was.ordered_at))
                .expression_attribute_values(":was_state", text(was.state.name())),
        };
        self.conditional(call, &it.name).await
    }

    /// Says whose a request key is, before there is a row: a key that points nowhere is no key.
    /// Gives the first epoch of the row: no earlier row of this request had it.
    async fn point(&self, it: &Request) -> Result<u64, Failure> {
        let call = self.update(&pointer(&it.key), OF);
        let call = call
            .update_expression("SET of_package = :package, of_request = :request")
            .expression_attribute_values(":package", text(&it.package()))
            .expression_attribute_values(":request", text(&it.key))
            .return_values(ReturnValue::AllNew);
        let answer =
            call.send().await.map_err(|e| self.failed("UpdateItem", &it.key, chain(&e)))?;
        let item = answer.attributes.unwrap_or_default();
        let forgotten = item.get(FORGOTTEN).and_then(|it| it.as_n().ok()?.parse::<u64>().ok());
        Ok(forgotten.unwrap_or(0) + 1)
    }

    /// Says how many pieces of its log the running build has stored. What a later generation has
    /// said, or the end, stands.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn live(&self, order: &BuildOrder, live: Live) -> Result<(), Failure> {
        let call = self
            .update(&order.package(), &order.request)
            .update_expression("SET live_generation = :generation, live_pieces = :pieces");
        let call = call
            .condition_expression(
                "epoch = :epoch AND #state = :ordered \
                 AND (attribute_not_exists(live_generation) OR live_generation <= :generation)",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":ordered", text("ordered"))
            .expression_attribute_values(":epoch", number(order.epoch))
            .expression_attribute_values(":generation", number(live.generation))
            .expression_attribute_values(":pieces", number(live.pieces));
        self.conditional(call, &order.name).await.map(drop)
    }

    /// The items that end an order, to be written by the holder of its lease.
    ///
    /// # Errors
    /// Never for a state of this type.
    pub fn end(
        &self,
        order: &BuildOrder,
        state: &State,
    ) -> Result<Vec<TransactWriteItem>, Failure> {
        let detail = serde_json::to_string(state).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET #state = :state, detail = :detail, ended_at = :now");
        let update = update
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", text(state.name()))
            .expression_attribute_values(":detail", text(&detail))
            .expression_attribute_values(":now", number(now()));
        let mut items = vec![transact(update)?];
        if let State::Done(artifact) = state {
            let item = pointer_item(&artifact.artifact, &order.package(), &order.request);
            let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
            let put = put.map_err(|e| bad(e.to_string()))?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        Ok(items)
    }

    /// Notes that somebody got what a request is built to.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn downloaded(&self, request: &Request) -> Result<(), Failure> {
        let call = self.update(&request.package(), &request.key);
        let call = call
            .update_expression("SET downloaded_at = :now REMOVE marked_at")
            .condition_expression("attribute_exists(epoch)")
            .expression_attribute_values(":now", number(now()));
        self.conditional(call, &request.name).await.map(drop)
    }

    /// Marks a row that nobody downloaded since `row` was read.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn mark(&self, row: &Row) -> Result<bool, Failure> {
        let call =
            self.update(&row.package, &row.request).update_expression("SET marked_at = :now");
        let call = call.expression_attribute_values(":now", number(now()));
        let same = "epoch = :epoch AND attribute_not_exists(marked_at)";
        let call = call.expression_attribute_values(":epoch", number(row.epoch));
        let call = match row.downloaded_at {
            None => {
                call.condition_expression(format!("{same} AND attribute_not_exists(downloaded_at)"))
            }
            Some(at) => call
                .condition_expression(format!("{same} AND downloaded_at = :at"))
                .expression_attribute_values(":at", number(at)),
        };
        self.conditional(call, &row.package).await
    }

    /// Deletes a row that is marked since then, and what says whose its keys are; false where
    /// somebody downloaded it, or asked for it anew, meanwhile.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn forget(&self, row: &Row) -> Result<bool, Failure> {
        // Builds happen once per epoch: a later row must begin behind this one.
        let call = self.update(&pointer(&row.request), OF);
        let call = call
            .update_expression(format!("SET {FORGOTTEN} = :epoch"))
            .expression_attribute_values(":epoch", number(row.epoch));
        call.send().await.map_err(|e| self.failed("UpdateItem", &row.package, chain(&e)))?;
        let call = self.client.delete_item().table_name(&self.table);
        let call = call
            .set_key(Some(row_key(&row.package, &row.request)))
            .condition_expression("marked_at = :at")
            .expression_attribute_values(":at", number(row.marked_at.unwrap_or_default()));
        match call.send().await {
            Ok(_) => {}
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(self.failed("DeleteItem", &row.package, chain(&e))),
        }
        if let State::Done(artifact) = &row.state {
            let call = self.client.delete_item().table_name(&self.table);
            let call = call.set_key(Some(row_key(&pointer(&artifact.artifact), OF)));
            call.send().await.map_err(|e| self.failed("DeleteItem", &row.package, chain(&e)))?;
        }
        Ok(true)
    }

    /// All rows of requests. It reads the whole table.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn all(&self) -> Result<Vec<Row>, Failure> {
        let call = self.client.scan().table_name(&self.table).consistent_read(true);
        let mut pages = call.into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| self.failed("Scan", PYPI, chain(&e)))?;
            rows.extend(row::read(&item));
        }
        Ok(rows)
    }

    /// The item that says what came of building an artifact twice, to be written by the holder of
    /// the lease.
    ///
    /// # Errors
    /// Never for a verdict of this type.
    pub fn verdict(&self, order: &BuildOrder, it: &Verdict) -> Result<TransactWriteItem, Failure> {
        let verdict = serde_json::to_string(it).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET verdict = :verdict");
        transact(update.expression_attribute_values(":verdict", text(&verdict)))
    }

    /// Has a group wait for the end of a request, whose row stands.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn join(&self, request: &Request, group: &str) -> Result<(), Failure> {
        let call = self.update(&request.package(), &request.key).update_expression("ADD #g :group");
        let call = call
            .expression_attribute_names("#g", "groups")
            .expression_attribute_values(":group", Attr::Ss(vec![group.to_owned()]));
        call.send().await.map(drop).map_err(|e| self.failed("UpdateItem", &request.name, chain(&e)))
    }

    /// A group that waits no more.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn leave(&self, row: &Row, group: &str) -> Result<(), Failure> {
        let call = self.update(&row.package, &row.request).update_expression("DELETE #g :group");
        let call = call
            .expression_attribute_names("#g", "groups")
            .expression_attribute_values(":group", Attr::Ss(vec![group.to_owned()]));
        call.send().await.map(drop).map_err(|e| self.failed("UpdateItem", &row.package, chain(&e)))
    }

    /// The item that says what an order is built with, to be written by the holder of its lease.
    ///
    /// # Errors
    /// Never for a lock of this type.
    pub fn lock(&self, order: &BuildOrder, lock: &Lock) -> Result<TransactWriteItem, Failure> {
        let lock = serde_json::to_string(lock).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET build_lock = :lock");
        transact(update.expression_attribute_values(":lock", text(&lock)))
    }

    /// An update of an order's row, as long as the row is of this try.
    fn held(
        &self,
        order: &BuildOrder,
        what: &str,
    ) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(row_key(&order.package(), &order.request)))
            .update_expression(what)
            .condition_expression("epoch = :epoch")
            .expression_attribute_values(":epoch", number(order.epoch))
    }

    fn update(&self, package: &str, request: &str) -> UpdateItemFluentBuilder {
        let call = self.client.update_item().table_name(&self.table);
        call.set_key(Some(row_key(package, request)))
    }

    /// Sends an update; false where its condition is not met.
    async fn conditional(&self, call: UpdateItemFluentBuilder, of: &str) -> Result<bool, Failure> {
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if refused(&e) => Ok(false),
            Err(e) => Err(self.failed("UpdateItem", of, chain(&e))),
        }
    }

    async fn item(
        &self,
        package: &str,
        request: &str,
    ) -> Result<Option<HashMap<String, Attr>>, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let call = call.set_key(Some(row_key(package, request)));
        let answer = call.send().await.map_err(|e| self.failed("GetItem", package, chain(&e)))?;
        Ok(answer.item)
    }

    fn failed(&self, what: &str, name: &str, why: String) -> Failure {
        let table = &self.table;
        Failure::transient("dynamodb", format!("{what} of {name} in table {table}: {why}"))
    }
}

/// The epoch in which a row is opened again, and whether what it was built with is forgotten.
fn reopened(row: &Row, again: Again) -> Option<(u64, bool)> {
    match (&row.state, again) {
        (State::Ordered, _) if row.ordered_at + RESEND_SECONDS <= now() => Some((row.epoch, false)),
        (State::Ordered, _) => None,
        (_, Again::Retry) => Some((row.epoch + 1, true)),
        (State::Failed(failed), _) => (failed.retry_at <= now()).then_some((row.epoch + 1, true)),
        (State::Done(_), Again::Lost) => Some((row.epoch + 1, false)),
        (State::Done(_), Again::Expired) => None,
    }
}

fn transact(
    update: aws_sdk_dynamodb::types::builders::UpdateBuilder,
) -> Result<TransactWriteItem, Failure> {
    let update = update.build().map_err(|e| bad(e.to_string()))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn bad(why: String) -> Failure {
    Failure::permanent("request", format!("a row of builds: {why}"))
}

fn refused<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

fn row_key(package: &str, request: &str) -> HashMap<String, Attr> {
    HashMap::from([("package".to_owned(), text(package)), ("request".to_owned(), text(request))])
}

/// The first part of the key of the row that says whose a key is; no package has it.
fn pointer(key: &str) -> String {
    format!("key:{key}")
}

fn pointer_item(key: &str, package: &str, request: &str) -> HashMap<String, Attr> {
    let mut item = row_key(&pointer(key), OF);
    item.insert("of_package".to_owned(), text(package));
    item.insert("of_request".to_owned(), text(request));
    item
}

fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}
