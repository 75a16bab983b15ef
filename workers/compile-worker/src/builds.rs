//! The table of builds: a row per request, from the first one who asks to the artifact; and a
//! small row per key, which says whose it is.

mod ends;
mod members;
mod pointers;
mod request;
mod retention;
mod row;

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::AttributeValue as Attr,
};
use flotilla_runtime::{Failure, failure::chain};

use self::pointers::{pointer, pointer_item};
pub(crate) use self::row::set;
pub use self::{
    pointers::Keyed,
    request::{Request, one_spelling, package_key},
    row::{Artifact, Failed, Live, Lock, Locked, Row, State, Verdict},
};
use crate::message::BuildOrder;

/// After this many seconds an order whose message is not known to be sent is sent again: who opened its
/// row may have died before he sent it, and a second message does no harm.
pub const RESEND_SECONDS: u64 = 120;
/// After this many seconds a message that was sent is on no queue any more: SQS keeps none for longer.
const KEPT_SECONDS: u64 = 14 * 86_400;
/// The range key of the row that says whose a key is.
const OF: &str = "of";
/// The attribute of it that says up to which epoch its rows were forgotten.
const FORGOTTEN: &str = "forgotten";

/// What a page needs to know of a row.
const OF_A_PAGE: [&str; 8] =
    ["package", "request", "version", "options", "parts", "epoch", "ordered_at", "detail"];

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
    /// The same; and nothing is on the queue, so neither is the message of an order that stands.
    Unheard,
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

    /// All rows of a package, each without what it is built with, its log and its groups: a page
    /// is made of many rows.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn of_package(&self, package: &str) -> Result<Vec<Row>, Failure> {
        let call = self.client.query().table_name(&self.table);
        let call = call.key_condition_expression("package = :package");
        // Some of these names are words of the language.
        let names = OF_A_PAGE.map(|name| format!("#{name}"));
        let mut call = call.projection_expression(names.join(", "));
        for (alias, name) in names.into_iter().zip(OF_A_PAGE) {
            call = call.expression_attribute_names(alias, name);
        }
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
             REMOVE detail, ended_at, live_generation, live_pieces, verdict, marked_at, sent_epoch{lock}"
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

    /// Notes that the message of an order is on the queue: nobody sends another while it is there.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn sent(&self, order: &BuildOrder) -> Result<(), Failure> {
        let call = self
            .update(&order.package(), &order.request)
            .update_expression("SET sent_epoch = :epoch")
            .condition_expression("epoch = :epoch AND #state = :ordered")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":epoch", number(order.epoch))
            .expression_attribute_values(":ordered", text("ordered"));
        self.conditional(call, &order.name).await.map(drop)
    }

    /// The message of an order could not be sent: whoever asks next sends it again, at once.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn unsent(&self, order: &BuildOrder) -> Result<(), Failure> {
        let call = self
            .update(&order.package(), &order.request)
            .update_expression("SET ordered_at = :never REMOVE sent_epoch")
            .condition_expression("epoch = :epoch AND #state = :ordered")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":never", number(0))
            .expression_attribute_values(":epoch", number(order.epoch))
            .expression_attribute_values(":ordered", text("ordered"));
        self.conditional(call, &order.name).await.map(drop)
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
            let item = item.map_err(|e| self.failed("Scan", "all", chain(&e)))?;
            rows.extend(row::read(&item));
        }
        Ok(rows)
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
        (State::Ordered, again) => is_lost(row, again).then_some((row.epoch, false)),
        (_, Again::Retry) => Some((row.epoch + 1, true)),
        (State::Failed(failed), _) => (failed.retry_at <= now()).then_some((row.epoch + 1, true)),
        (State::Done(_), Again::Lost) => Some((row.epoch + 1, false)),
        (State::Done(_), Again::Expired | Again::Unheard) => None,
    }
}

/// Whether the message of an order that has not ended is on no queue and in no hands.
fn is_lost(row: &Row, again: Again) -> bool {
    let age = now().saturating_sub(row.ordered_at);
    let unsent = !row.sent || again == Again::Unheard;
    age >= KEPT_SECONDS || (unsent && age >= RESEND_SECONDS)
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

fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(age: u64, sent: bool) -> Row {
        Row {
            package: "pypi/a".into(),
            version: "1.0".into(),
            options: "default".into(),
            request: "key".into(),
            parts: serde_json::Value::Null,
            epoch: 3,
            ordered_at: now() - age,
            ended_at: None,
            downloaded_at: None,
            marked_at: None,
            state: State::Ordered,
            lock: None,
            live: None,
            verdict: None,
            sent,
            groups: Default::default(),
            overtaken_by: None,
        }
    }

    #[test]
    fn an_order_that_is_on_the_queue_is_not_sent_again() {
        for again in [Again::Expired, Again::Lost, Again::Retry] {
            assert_eq!(reopened(&ordered(7200, true), again), None, "{again:?}");
            assert_eq!(reopened(&ordered(60, false), again), None, "{again:?}");
            assert_eq!(reopened(&ordered(130, false), again), Some((3, false)), "{again:?}");
        }
        assert_eq!(reopened(&ordered(130, true), Again::Unheard), Some((3, false)));
        assert_eq!(reopened(&ordered(60, true), Again::Unheard), None);
        assert_eq!(reopened(&ordered(KEPT_SECONDS, true), Again::Expired), Some((3, false)));
    }

    #[test]
    fn what_has_ended_is_opened_again_for_a_reason_alone_and_resolved_anew_unless_it_was_lost() {
        let all = [Again::Expired, Again::Unheard, Again::Lost, Again::Retry];
        let opened = |state: State| {
            all.map(|again| reopened(&Row { state: state.clone(), ..ordered(9, true) }, again))
        };
        let failed = |retry_at| {
            let reason = "no".to_owned();
            opened(State::Failed(Failed { reason, ours: false, log: None, retry_at }))
        };
        let anew = Some((4, true));
        assert_eq!(failed(now() + 100), [None, None, None, anew]);
        assert_eq!(failed(now()), [anew; 4]);
        let artifact = serde_json::json!({
            "state": "done", "artifact": "k", "parts": {}, "filename": "f", "blob": "b",
            "sha256": "00", "size": 1, "log": "l", "requires": [], "build_ms": 1,
        });
        let done = opened(serde_json::from_value(artifact).unwrap());
        assert_eq!(done, [None, None, Some((4, false)), anew]);
    }
}
