//! The table of problems: a row per episode, by edge and time of opening.

use aws_sdk_dynamodb::{
    Client,
    types::{Delete, TransactWriteItem, Update},
};
use flotilla_runtime::{Failure, failure::chain};
use serde::Serialize;

use super::{
    Acknowledgement, Name, Row,
    episodes::{Withdrawn, heir},
    number, number_of, text, text_of, unavailable, unbuilt,
};
use crate::engine::{Change, Episode};

/// After every time of opening.
const END_OF_TIME: i64 = 999_999_999_999_999;

/// The table of problems. Clones share the client.
#[derive(Debug, Clone)]
pub struct Problems {
    pub(super) client: Client,
    pub(super) table: String,
}

/// A problem, in the shape of the original service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The ids of the two sensors, one after the other.
    pub problem_id: String,
    /// `OBSTRUCTION` or `PROBLEM`.
    pub problem: String,
    /// When it opened, in Unix seconds of event time.
    pub problem_time: i64,
    /// What became of it.
    pub problem_status: String,
}

/// What became of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It lasts.
    Unresolved,
    /// It lasts, and somebody has seen it.
    Acknowledged,
    /// It has ended.
    Resolved,
    /// A reading that came later shows that it never was. Its row is gone; this is told only.
    Retracted,
}

impl Status {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unresolved => "UNRESOLVED",
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Resolved => "RESOLVED",
            Self::Retracted => "RETRACTED",
        }
    }
}

impl Problem {
    /// A problem from its fields, by name.
    pub fn from_fields(field: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            problem_id: field("problem_id")?,
            problem: field("problem")?,
            problem_time: field("problem_time")?.parse().ok()?,
            problem_status: field("problem_status")?,
        })
    }

    fn from_row(row: &Row) -> Option<Self> {
        let time = |row| number_of::<i64>(row, "problem_time").map(|time| time.to_string());
        Self::from_fields(|name| text_of(row, name).or_else(|| time(row)))
    }
}

impl Problems {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// The latest episode of a problem.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn latest(&self, id: &str) -> Result<Option<Problem>, Failure> {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression("problem_id = :id").scan_index_forward(false);
        let call = call.expression_attribute_values(":id", text(id)).limit(1);
        let answer = call.send().await;
        let answer = answer.map_err(|e| unavailable("Query", id, &self.table, chain(&e)))?;
        Ok(answer.items().first().and_then(Problem::from_row))
    }

    /// At most `limit` rows, from after the last episode of this problem, as the latest episode of
    /// each problem among them; and the last problem, where there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn page(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> Result<(Vec<Problem>, Option<String>), Failure> {
        let start = after.map(|id| key(id, END_OF_TIME));
        let call = self.client.scan().table_name(&self.table).limit(limit);
        let answer = call.set_exclusive_start_key(start).send().await;
        let answer = answer.map_err(|e| unavailable("Scan", "problems", &self.table, chain(&e)))?;
        let mut latest: Vec<Problem> = Vec::new();
        // The episodes of a problem come one after the other.
        for problem in answer.items().iter().filter_map(Problem::from_row) {
            match latest.last_mut().filter(|last| last.problem_id == problem.problem_id) {
                Some(last) if last.problem_time > problem.problem_time => {}
                Some(last) => *last = problem,
                None => latest.push(problem),
            }
        }
        let cut = answer.last_evaluated_key.and_then(|key| text_of(&key, "problem_id"));
        if let (Some(id), Some(last)) = (&cut, latest.last_mut())
            && let Some(problem) = self.latest(id).await?
        {
            *last = problem;
        }
        Ok((latest, cut))
    }

    /// The items that tell changes of an edge's problems. `now` is in Unix milliseconds.
    pub(super) async fn items(
        &self,
        edge: &Name,
        changes: &[Change],
        now: i64,
    ) -> Result<Vec<TransactWriteItem>, Failure> {
        let id = edge.problem_id();
        let withdrawn = self.withdrawn(&id, changes).await?;
        let mut gone = withdrawn.iter();
        let mut items = Vec::new();
        for change in changes {
            let item = TransactWriteItem::builder();
            let item = match change {
                Change::Tell(episode) => {
                    let seen = heir(changes, &withdrawn, change);
                    item.update(self.update(edge, &id, episode, now, seen)?)
                }
                Change::Retract(opened) => item.delete(self.delete(&id, *opened, gone.next())?),
            };
            items.push(item.build());
        }
        Ok(items)
    }

    /// Not if somebody acknowledged it since it was looked at.
    fn delete(
        &self,
        id: &str,
        opened: i64,
        as_seen: Option<&Withdrawn>,
    ) -> Result<Delete, Failure> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(key(id, opened)));
        let delete = match as_seen.and_then(|it| it.acknowledgement.as_ref()) {
            Some(seen) => delete
                .condition_expression("acknowledged_at = :seen")
                .expression_attribute_values(":seen", number(seen.at)),
            None => delete.condition_expression("attribute_not_exists(acknowledged_at)"),
        };
        delete.build().map_err(|e| unbuilt("a row of problems", e))
    }

    /// Processing times are those of the first telling. One that lasts stays acknowledged.
    fn update(
        &self,
        edge: &Name,
        id: &str,
        it: &Episode,
        now: i64,
        seen: Option<&Acknowledgement>,
    ) -> Result<Update, Failure> {
        let status = match (it.resolved, seen) {
            (Some(_), _) => Status::Resolved,
            (None, Some(_)) => Status::Acknowledged,
            (None, None) => Status::Unresolved,
        };
        let told = match it.resolved {
            Some(_) => ":status",
            None => "if_not_exists(acknowledged, :status)",
        };
        let seen_too = seen.map_or_else(String::new, |it| format!(", {}", it.assignments()));
        let common = format!(
            "SET problem = :kind, problem_time = :seconds, problem_status = {told}, \
             #current = :current, #following = :following, opening = :opening, \
             opened_processed = if_not_exists(opened_processed, :now){seen_too}"
        );
        let end = match it.resolved {
            Some(_) => {
                ", resolved = :resolved, resolution = :resolution, \
                 resolved_processed = if_not_exists(resolved_processed, :now)"
            }
            None => " REMOVE resolved, resolution, resolved_processed",
        };
        let mut update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(id, it.opened.at)))
            .update_expression(format!("{common}{end}"))
            .expression_attribute_names("#current", "current")
            .expression_attribute_names("#following", "following")
            .expression_attribute_values(":kind", text(it.kind.name()))
            .expression_attribute_values(":seconds", number(it.opened.at / 1000))
            .expression_attribute_values(":status", text(status.name()))
            .expression_attribute_values(":current", text(&edge.current))
            .expression_attribute_values(":following", text(&edge.following))
            .expression_attribute_values(":opening", json(&it.opened.evidence)?)
            .expression_attribute_values(":now", number(now));
        if let Some(turn) = it.resolved {
            update = update
                .expression_attribute_values(":resolved", number(turn.at))
                .expression_attribute_values(":resolution", json(&turn.evidence)?);
        }
        for (name, value) in seen.map(Acknowledgement::values).into_iter().flatten() {
            update = update.expression_attribute_values(name, value);
        }
        update.build().map_err(|e| unbuilt("a row of problems", e))
    }
}

fn json(value: &impl Serialize) -> Result<aws_sdk_dynamodb::types::AttributeValue, Failure> {
    serde_json::to_string(value).map(text).map_err(|e| unbuilt("evidence", e))
}

pub(super) fn key(id: &str, opened: i64) -> Row {
    Row::from([("problem_id".to_owned(), text(id)), ("opened".to_owned(), number(opened))])
}
