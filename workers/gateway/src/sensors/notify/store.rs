//! The table of notifications: a row per episode that was or will be told, and who tells.
//!
//! The row `#owner` is the lease: one gateway tells, and keeps there how far it has read the
//! stream of problems. Every other row is written on its version, so that a gateway that lost the
//! lease without noticing can write nothing.

use anomaly_worker::tables::{EpisodeKey, Row, now_ms};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue as Attr, ReturnValue},
};
use flotilla_runtime::{Failure, failure::chain};
use serde_json::Value;

use super::notice::Notice;

/// The row of the lease.
const OWNER: &str = "#owner";
/// How long rows are kept after the last word, in seconds.
const KEPT: i64 = 35 * 86_400;

/// The newest episodes of a kind, each of which knows when one before it was told, and how many rows are
/// read to find them, at a time and in all.
const NEWEST: usize = 20;
const PAGE: i32 = 100;
const ROWS: usize = 1000;

/// The table.
#[derive(Debug, Clone)]
pub(super) struct Store {
    client: Client,
    table: String,
}

/// A row: what was told of an episode.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: EpisodeKey,
    /// The problem, as `/v1` shows it.
    pub(super) problem: Value,
    pub(super) notice: Notice,
    pub(super) version: u64,
}

impl Store {
    pub(super) fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// Takes or keeps the lease until then (Unix milliseconds); gives the position that was noted
    /// last, or `None` while another has it.
    pub(super) async fn lease(
        &self,
        me: &str,
        until: i64,
        position: Option<&str>,
    ) -> Result<Option<Option<String>>, Failure> {
        let mut call = self.client.update_item().table_name(&self.table);
        call = call.key("problem_id", text(OWNER)).key("opened", number(0));
        call = call.expression_attribute_names("#owner", "owner");
        call = call.expression_attribute_values(":me", text(me));
        call = call.expression_attribute_values(":until", number(until));
        call = call.expression_attribute_values(":now", number(now_ms()));
        call = call.condition_expression(
            "attribute_not_exists(#owner) OR #owner = :me OR until_ms < :now",
        );
        call = match position {
            Some(position) => call
                .update_expression("SET #owner = :me, until_ms = :until, stream_position = :at")
                .expression_attribute_values(":at", text(position)),
            None => call.update_expression("SET #owner = :me, until_ms = :until"),
        };
        match call.return_values(ReturnValue::AllNew).send().await {
            Ok(answer) => {
                let row = answer.attributes.unwrap_or_default();
                Ok(Some(words(&row, "stream_position")))
            }
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(None)
            }
            Err(e) => Err(self.failed("UpdateItem", chain(&e))),
        }
    }

    /// All that is not over.
    pub(super) async fn unfinished(&self) -> Result<Vec<Entry>, Failure> {
        let call = self.client.scan().table_name(&self.table).consistent_read(true);
        let call = call.filter_expression("finished = :no");
        let call = call.expression_attribute_values(":no", Attr::Bool(false));
        let mut items = call.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(row) = items.next().await {
            found.extend(entry(&row.map_err(|e| self.failed("Scan", chain(&e)))?));
        }
        Ok(found)
    }

    /// What was told of an episode.
    pub(super) async fn get(&self, key: &EpisodeKey) -> Result<Option<Entry>, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let call = call.key("problem_id", text(&key.problem_id)).key("opened", number(key.opened));
        let answer = call.send().await.map_err(|e| self.failed("GetItem", chain(&e)))?;
        Ok(answer.item.as_ref().and_then(entry))
    }

    /// When this problem was last told to be of this kind, in Unix milliseconds. Who was told that too
    /// little arrives does not know that too much does.
    pub(super) async fn told_at(
        &self,
        problem: &str,
        kind: &Value,
    ) -> Result<Option<i64>, Failure> {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression("problem_id = :id").scan_index_forward(false);
        let call = call.expression_attribute_values(":id", text(problem)).limit(PAGE);
        let mut items = call.into_paginator().items().send();
        let (mut newest, mut read) = (Vec::new(), 0);
        while let Some(row) = items.next().await {
            let row = row.map_err(|e| self.failed("Query", chain(&e)))?;
            newest.extend(entry(&row).filter(|it| it.problem["problem"] == *kind));
            read += 1;
            if newest.len() >= NEWEST || read >= ROWS {
                break;
            }
        }
        Ok(last_told(&newest))
    }

    /// Writes an entry over the version that was read; `false` if another did.
    pub(super) async fn put(&self, it: &Entry, finished: bool) -> Result<bool, Failure> {
        let notice = serde_json::to_string(&it.notice);
        let notice = notice.map_err(|e| Failure::permanent("notice", e.to_string()))?;
        let mut call = self.client.put_item().table_name(&self.table);
        call =
            call.item("problem_id", text(&it.key.problem_id)).item("opened", number(it.key.opened));
        call = call.item("notice", text(notice)).item("problem", text(it.problem.to_string()));
        call = call.item("finished", Attr::Bool(finished)).item("version", number(it.version + 1));
        if finished {
            call = call.item("expires_at", number(now_ms() / 1000 + KEPT));
        }
        call = match it.version {
            0 => call.condition_expression("attribute_not_exists(problem_id)"),
            version => call
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(version)),
        };
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(self.failed("PutItem", chain(&e))),
        }
    }

    fn failed(&self, call: &str, why: String) -> Failure {
        Failure::transient("dynamodb", format!("{call} in table {}: {why}", self.table))
    }
}

/// When one of these was last told, or one before them, in Unix milliseconds.
fn last_told(newest: &[Entry]) -> Option<i64> {
    newest.iter().filter_map(|it| it.notice.told_at()).max()
}

fn entry(row: &Row) -> Option<Entry> {
    let number = |name: &str| row.get(name)?.as_n().ok();
    Some(Entry {
        key: EpisodeKey {
            problem_id: words(row, "problem_id")?,
            opened: number("opened")?.parse().ok()?,
        },
        problem: serde_json::from_str(&words(row, "problem")?).ok()?,
        notice: serde_json::from_str(&words(row, "notice")?).ok()?,
        version: number("version")?.parse().ok()?,
    })
}

fn text(value: impl Into<String>) -> Attr {
    Attr::S(value.into())
}

fn number(value: impl ToString) -> Attr {
    Attr::N(value.to_string())
}

fn words(row: &Row, name: &str) -> Option<String> {
    row.get(name)?.as_s().ok().cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::notice::What, *};

    #[test]
    fn a_problem_that_comes_back_again_and_again_knows_when_it_was_told_first() {
        let entry = |notice| {
            let key = EpisodeKey { problem_id: "0102".to_owned(), opened: 1 };
            Entry { key, problem: json!({ "problem": "OBSTRUCTION" }), notice, version: 1 }
        };
        let mut first = Notice::new(0);
        first.tried("a", What::Opened, 7, Ok(()), 0.5);
        let mut all = vec![entry(first)];
        for number in 1..100 {
            // It ends before it is told, as often as it comes back.
            let told_before = last_told(&all[..all.len().min(NEWEST)]);
            assert_eq!(told_before, Some(7), "{number}");
            all.insert(0, entry(Notice { told_before, ..Notice::new(number) }));
        }
        assert_eq!(last_told(&[entry(Notice::new(0))]), None);
    }
}
