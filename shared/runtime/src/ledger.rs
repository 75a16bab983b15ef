//! The ledger: which effects are claimed, by whom, and which have happened.
//!
//! One DynamoDB row per effect key. A claim is conditional and raises the row's *generation*, the
//! fencing token: every later write of the holder names its generation, so that a worker that
//! lost its lease (a pause, a partition) finds its writes refused, completion included.

mod effect;
mod row;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue as Attr, ReturnValue, ReturnValuesOnConditionCheckFailure as OnRefusal,
    },
};

use crate::failure::{Failure, chain, shortened};

use row::{
    Row, cancelled, claim, ended, lease_of, made_by, not_renewed, occupied, open, refusal, too_long,
};

/// Rows outlive the longest SQS retention (14 days, and 14 more after a redrive).
pub const ROW_LIFE: Duration = Duration::from_secs(35 * 24 * 3600);

/// The table of claims.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: Arc<str>,
    owner: Arc<str>,
    lease: Duration,
}

/// The right to produce an effect, until the lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The effect's key.
    pub key: String,
    /// The fencing token: larger at every claim of this key.
    pub generation: u64,
    /// Attempts so far, this one included; orderly releases are not counted.
    pub attempt: u32,
    /// Why the attempt before this one failed.
    pub last_failure: Option<String>,
    /// Why an operator does not want the effect any more, where that is so.
    pub cancelled: Option<String>,
}

/// An effect that has been claimed and has not happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its key.
    pub key: String,
    /// Whether somebody is at it.
    pub held: bool,
    /// The message that it was last claimed for.
    pub message_id: Option<String>,
}

/// How the work at an effect has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It has happened.
    Done,
    /// Its message is dead-lettered, and was not redriven.
    Buried,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The effect is ours to produce.
    Won(Claim),
    /// It has happened: nothing is left to do but delete the message.
    Done,
    /// Another worker is at it, at most for this long unless it renews.
    Held(Duration),
}

/// The answer to a renewal.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The claim is ours for another lease.
    Renewed,
    /// The same, but an operator does not want the effect any more, for this reason.
    Cancelled(String),
    /// Its effect is committed, by us: there is nothing left to renew.
    Completed,
    /// It is no longer ours.
    Fenced,
}

/// The answer to a write under a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// The effect is durable.
    Committed,
    /// One of the effect's own conditions failed; nothing was written.
    Refused,
    /// The claim is no longer ours; nothing was written.
    Fenced,
    /// An operator does not want the effect any more, for this reason; nothing was written.
    Cancelled(String),
}

impl Ledger {
    /// A ledger in `table` whose claims are made in the name of `owner` for `lease` each.
    pub fn new(client: Client, table: &str, owner: &str, lease: Duration) -> Self {
        Self { client, table: table.into(), owner: owner.into(), lease }
    }

    /// Claims an effect, if nobody holds it and it has not happened. Its row names the message that it is
    /// claimed for, by which an operator may look for it.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn claim(&self, key: &str, message_id: &str) -> Result<Claimed, Failure> {
        let (now, lease) = (now_ms(), self.lease.as_millis() as u64);
        let id = uuid::Uuid::new_v4().to_string();
        let result = self
            .update(key)
            .update_expression(
                "SET #s = :claimed, #o = :me, claim_id = :id, lease_until = :until, lease_ms = :lease, \
                 expires_at = :ttl, message_id = :message \
                 REMOVE buried ADD generation :one, attempts :one",
            )
            .condition_expression(
                "attribute_not_exists(#s) OR #s = :free OR (#s = :claimed AND (lease_until < :now \
                 OR (doubted = lease_until AND doubt_ends < :now)))",
            )
            .expression_attribute_names("#s", "state")
            .expression_attribute_names("#o", "owner")
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":free", text("free"))
            .expression_attribute_values(":me", text(&self.owner))
            .expression_attribute_values(":id", text(&id))
            .expression_attribute_values(":message", text(message_id))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":lease", number(lease))
            .expression_attribute_values(":until", number(now + lease))
            .expression_attribute_values(":ttl", number(now / 1000 + ROW_LIFE.as_secs()))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnRefusal::AllOld)
            .send()
            .await;
        match result {
            Ok(row) => Ok(Claimed::Won(claim(key, row.attributes()))),
            Err(error) => match refusal(&error) {
                // The answer to our own claim was lost, and the SDK asked again.
                Some(row) if made_by(row, &id) => Ok(Claimed::Won(claim(key, Some(row)))),
                Some(row) => {
                    let longest = lease.max(lease_of(row));
                    if let Some(until) = too_long(row, now + longest + longest / 2) {
                        self.doubt(key, until, now + longest).await;
                    }
                    Ok(occupied(row, now, self.lease))
                }
                None => Err(self.unavailable("claim", key, &error)),
            },
        }
    }

    /// Notes that a claim lasts longer than its lease by our clock: its holder's is ahead of ours. It renews in
    /// less than its lease all the same, which its row names. Where it has not by the end of our doubt, it is
    /// dead, and whoever comes next takes the claim over: its fencing token sees to the rest.
    async fn doubt(&self, key: &str, until: u64, ends: u64) {
        let noted = self
            .update(key)
            .update_expression("SET doubted = :seen, doubt_ends = :over")
            .condition_expression(
                "#s = :claimed AND lease_until = :seen AND \
                 (attribute_not_exists(doubt_ends) OR doubted <> :seen OR doubt_ends > :over)",
            )
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":seen", number(until))
            .expression_attribute_values(":over", number(ends))
            .send()
            .await;
        match noted {
            Ok(_) => tracing::warn!(
                key,
                "its claim ends later than any of ours would: is a clock wrong?"
            ),
            // Noted before, or renewed.
            Err(error) if refusal(&error).is_some() => {}
            Err(error) => tracing::warn!(key, error = chain(&error), "a claim's end is in doubt"),
        }
    }

    /// Extends a claim by the lease.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn renew(&self, claim: &Claim) -> Result<Renewal, Failure> {
        let until = number(now_ms() + self.lease.as_millis() as u64);
        let call = self.update(&claim.key).update_expression("SET lease_until = :until");
        let call = call.expression_attribute_values(":until", until);
        let written = self.conditional(claim, call, "renew").await?;
        Ok(match written {
            Ok(row) => cancelled(&row).map_or(Renewal::Renewed, Renewal::Cancelled),
            Err(row) => not_renewed(claim, &row),
        })
    }

    /// Cancels the effect of a key that has not happened yet: who holds it ends its job at the next
    /// beat (within a third of the lease), who claims it next does not begin, and the message is
    /// dead-lettered with the reason. A job that wants to commit before the next beat is refused. A
    /// redrive of it is not cancelled any more. False where the effect has happened, or its message is
    /// dead-lettered already: there is nothing to cancel before a redrive.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn cancel(&self, key: &str, reason: &str) -> Result<bool, Failure> {
        let result = self
            .update(key)
            .update_expression("SET cancelled = :why, expires_at = if_not_exists(expires_at, :ttl)")
            .condition_expression(
                "(attribute_not_exists(#s) OR #s <> :done) AND attribute_not_exists(buried)",
            )
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":done", text("done"))
            .expression_attribute_values(":why", text(&shortened(reason)))
            .expression_attribute_values(":ttl", number(now_ms() / 1000 + ROW_LIFE.as_secs()))
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error) if refusal(&error).is_some() => Ok(false),
            Err(error) => Err(self.unavailable("cancel", key, &error)),
        }
    }

    /// The effects whose keys begin so, of those that have been claimed and have not happened, and
    /// whose messages are not dead-lettered.
    /// It reads the whole table: for operators, and not for workers.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn open(&self, prefix: &str) -> Result<Vec<Open>, Failure> {
        let pages = self
            .client
            .scan()
            .table_name(&*self.table)
            .filter_expression(
                "begins_with(effect, :prefix) AND #s <> :done AND attribute_not_exists(buried)",
            )
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":done", text("done"))
            .expression_attribute_values(":prefix", text(prefix))
            .into_paginator()
            .items()
            .send();
        let rows = pages.collect::<Result<Vec<Row>, _>>().await;
        let rows = rows.map_err(|error| self.unavailable("scan", prefix, &error))?;
        Ok(rows.iter().filter_map(open).collect())
    }

    /// The name of its table.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// How the work at the effect of a key has ended, if it has.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn ended(&self, key: &str) -> Result<Option<Ended>, Failure> {
        let call = self.client.get_item().table_name(&*self.table).key("effect", text(key));
        let row = call.consistent_read(true).send().await;
        let row = row.map_err(|error| self.unavailable("look at", key, &error))?.item;
        Ok(row.as_ref().and_then(ended))
    }

    /// Whether the ledger takes writes, asked with one that it refuses: it changes no row.
    pub(crate) async fn answers(&self) -> Result<(), Failure> {
        let (key, generation) = ("control/answers".to_owned(), 0);
        let nobodys = Claim { key, generation, attempt: 0, last_failure: None, cancelled: None };
        self.renew(&nobodys).await.map(drop)
    }

    /// Gives a claim back unharmed: what a stop hands back was no attempt.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn release(&self, claim: &Claim) -> Result<bool, Failure> {
        let call = self.update(&claim.key).update_expression("SET #s = :free ADD attempts :back");
        let call = call.expression_attribute_values(":back", Attr::N("-1".to_owned()));
        self.fenced(claim, call.expression_attribute_values(":free", text("free")), "release").await
    }

    /// Gives a claim back after a failed attempt, with its reason.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn fail(&self, claim: &Claim, reason: &str) -> Result<bool, Failure> {
        let reason = text(&shortened(reason));
        let call = self.update(&claim.key).update_expression("SET #s = :free, last_failure = :why");
        let call = call.expression_attribute_values(":why", reason);
        self.fenced(claim, call.expression_attribute_values(":free", text("free")), "fail").await
    }

    /// Gives a claim up for good and forgets its attempts, so that a redrive starts afresh.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn bury(&self, claim: &Claim, reason: &str) -> Result<bool, Failure> {
        let reason = text(&shortened(reason));
        let call = self
            .update(&claim.key)
            .update_expression(
                "SET #s = :free, last_failure = :why, attempts = :none, buried = :yes \
                 REMOVE cancelled",
            )
            .expression_attribute_values(":yes", Attr::Bool(true))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":why", reason);
        self.fenced(claim, call.expression_attribute_values(":free", text("free")), "bury").await
    }

    /// Sends an update that only the holder of `claim` may make. False when it is not ours.
    async fn fenced(
        &self,
        claim: &Claim,
        call: UpdateItem,
        what: &'static str,
    ) -> Result<bool, Failure> {
        Ok(self.conditional(claim, call, what).await?.is_ok())
    }

    /// The row as it is now; as an error where it is not under `claim`, and so was left alone.
    async fn conditional(
        &self,
        claim: &Claim,
        call: UpdateItem,
        what: &'static str,
    ) -> Result<Result<Row, Row>, Failure> {
        let result = call
            .return_values(ReturnValue::AllNew)
            .condition_expression("#s = :claimed AND generation = :generation")
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":generation", number(claim.generation))
            .return_values_on_condition_check_failure(OnRefusal::AllOld)
            .send()
            .await;
        match result {
            Ok(written) => Ok(Ok(written.attributes.unwrap_or_default())),
            Err(error) => match refusal(&error) {
                Some(row) => Ok(Err(row.clone())),
                None => Err(self.unavailable(what, &claim.key, &error)),
            },
        }
    }

    fn update(&self, key: &str) -> UpdateItem {
        self.client.update_item().table_name(&*self.table).key("effect", text(key))
    }

    fn unavailable<E>(&self, what: &str, key: &str, error: &E) -> Failure
    where
        E: std::error::Error + 'static,
    {
        let table = &self.table;
        Failure::transient("ledger", format!("{what} of {key} in table {table}: {}", chain(error)))
    }
}

type UpdateItem = aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;

fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests;
