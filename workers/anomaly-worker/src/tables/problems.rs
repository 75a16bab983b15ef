//! The table of problems: a row per episode, by problem and time of opening.
//!
//! - `problem_id`, the ids of the two sensors one after the other, or `device/KIND` for what is told
//!   of a device alone; `opened`, in Unix milliseconds of event time;
//! - as in the original service `problem` (the kind), `problem_time` (Unix seconds),
//!   `problem_status`;
//! - `current` (the sensor, or the device) and `following`; `opening` and `resolution`, the readings
//!   that decided, as JSON, with `heard`, when they told it, where it is dated before; `resolved`, in Unix
//!   milliseconds of event time;
//! - `opened_processed` and `resolved_processed`, in Unix milliseconds of processing time;
//! - `certainty`: `PROVISIONAL` while a reading may come in time that changes what the row says,
//!   then `FINAL`; `corrected_processed`, in Unix milliseconds of processing time, where a reading
//!   that came later showed that the row had said something wrong: when it was last put right;
//! - `recurrences`, how many episodes there were before; `flaps`, how often it ended and came back
//!   so soon that it is still this one;
//! - `cause_id` and `cause_opened`, the problem that this one follows from, where it follows from one;
//! - `resolution_reason`, where it ended for another reason than a reading: no topology has the edge
//!   or the device any more;
//! - `acknowledged…`: see [`Acknowledgement`].
//!
//! All of a row is a function of the set of readings that came in time, whatever their order, but
//! the three attributes that end in `_processed`; what people and changed topologies write is apart.

mod telling;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, Delete, TransactWriteItem, Update},
};
use flotilla_runtime::{Failure, failure::chain};
use futures::future::try_join_all;
use serde::Serialize;

use self::telling::{telling, told};
use super::{
    Acknowledgement, EpisodeKey, Row, Subject,
    episodes::{Withdrawn, heir},
    number, number_of, text, text_of, unavailable, unbuilt,
};
use crate::{
    engine::{Change, Episode, Evidence, Kind, Review, Turn},
    root::Times,
};

/// Why a problem ended that no reading ended.
const NO_TOPOLOGY: &str = "no topology has it any more";
/// Episodes of a page, where those are looked for that last.
const LASTING: i32 = 100;
/// After every time of opening.
const END_OF_TIME: i64 = 999_999_999_999_999;

/// An episode, and the problem that it is written to follow from.
#[derive(Debug, Clone, PartialEq)]
pub struct Linked {
    /// The episode; of its evidence what opened it.
    pub episode: Episode,
    /// The problem that it follows from.
    pub cause: Option<EpisodeKey>,
}

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
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Unresolved, Self::Acknowledged, Self::Resolved, Self::Retracted];

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

    /// A problem from its row.
    pub fn from_row(row: &Row) -> Option<Self> {
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

    /// The items that tell changes of a subject's problems. `now` is in Unix milliseconds.
    pub(super) async fn items<M>(
        &self,
        subject: &Subject,
        Review { changes, corrected, .. }: &Review<M>,
        now: i64,
    ) -> Result<Vec<TransactWriteItem>, Failure> {
        let withdrawn = self.withdrawn(subject, changes).await?;
        let mut gone = withdrawn.iter();
        let mut items = Vec::new();
        for change in changes {
            let item = TransactWriteItem::builder();
            let item = match change {
                Change::Tell(episode) => {
                    let seen = heir(changes, &withdrawn, change);
                    let corrected = corrected.contains(&episode.key());
                    item.update(self.update(subject, episode, now, corrected, seen)?)
                }
                Change::Retract(told) => {
                    let id = subject.problem_id(told.kind);
                    item.delete(self.delete(&id, told.opened, gone.next())?)
                }
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

    /// What tells an episode as it is now.
    fn update(
        &self,
        subject: &Subject,
        it: &Episode,
        now: i64,
        corrected: bool,
        seen: Option<&Acknowledgement>,
    ) -> Result<Update, Failure> {
        let is_edge = subject.following().is_some();
        let mut update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(&subject.problem_id(it.kind), it.opened.at)))
            .update_expression(telling(it, is_edge, corrected, seen))
            .expression_attribute_names("#current", "current");
        if is_edge {
            update = update.expression_attribute_names("#following", "following");
        }
        for (name, value) in told(subject, it, now, seen)? {
            update = update.expression_attribute_values(name, value);
        }
        update.build().map_err(|e| unbuilt("a row of problems", e))
    }
}

impl Problems {
    /// What has an episode end that no topology has any more.
    pub(super) fn ending(&self, id: &str, opened: i64, now: i64) -> Result<Update, Failure> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(id, opened)))
            .update_expression(
                "SET problem_status = :resolved, resolved = :at, resolved_processed = :now, \
                 certainty = :final, resolution_reason = :why",
            )
            .condition_expression("attribute_exists(problem_id)")
            .expression_attribute_values(":resolved", text(Status::Resolved.name()))
            .expression_attribute_values(":at", number(now.max(opened)))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":final", text("FINAL"))
            .expression_attribute_values(":why", text(NO_TOPOLOGY));
        update.build().map_err(|e| unbuilt("a row of problems", e))
    }

    /// The episodes of a subject, whose problems have these ids, that last at any time of these; each
    /// with the problem that it follows from, as is written, and what opened it.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn lasting(
        &self,
        subject: &Subject,
        ids: &[String],
        times: Times,
    ) -> Result<Vec<Linked>, Failure> {
        let all = ids.iter().map(|id| self.lasting_of(subject, id, times));
        Ok(try_join_all(all).await?.concat())
    }

    async fn lasting_of(
        &self,
        subject: &Subject,
        id: &str,
        (from, to): Times,
    ) -> Result<Vec<Linked>, Failure> {
        let (mut found, mut before) = (Vec::new(), to.min(END_OF_TIME).saturating_add(1));
        loop {
            let (rows, more) = self.episodes(id, Some(before), LASTING).await?;
            for row in &rows {
                // Other neighbours may have ids that are the same, one after the other.
                let Some(it) = Linked::of(row).filter(|_| is_of(row, subject)) else { continue };
                // They come one after the other, the newest first.
                if it.episode.resolved.is_some_and(|end| end.at < from) {
                    return Ok(found);
                }
                found.push(it);
            }
            match rows.last().and_then(|row| number_of(row, "opened")).filter(|_| more) {
                Some(last) => before = last,
                None => return Ok(found),
            }
        }
    }

    /// Notes which problem an episode follows from, or that it follows from none. Where there is
    /// no such episode, or nothing to change, nothing is written.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn link(&self, of: &EpisodeKey, cause: Option<&EpisodeKey>) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.set_key(Some(key(&of.problem_id, of.opened)));
        let call = match cause {
            Some(cause) => call
                .update_expression("SET cause_id = :id, cause_opened = :opened")
                .condition_expression("attribute_exists(problem_id)")
                .expression_attribute_values(":id", text(&cause.problem_id))
                .expression_attribute_values(":opened", number(cause.opened)),
            None => call
                .update_expression("REMOVE cause_id, cause_opened")
                .condition_expression("attribute_exists(cause_id)"),
        };
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(unavailable("UpdateItem", &of.problem_id, &self.table, chain(&e))),
        }
    }
}

impl Linked {
    fn of(row: &Row) -> Option<Self> {
        let opening = text_of(row, "opening").and_then(|it| serde_json::from_str(&it).ok());
        let end = |at| Turn { at, evidence: Evidence::default() };
        let episode = Episode {
            kind: Kind::from_name(&text_of(row, "problem")?)?,
            opened: Turn { at: number_of(row, "opened")?, evidence: opening.unwrap_or_default() },
            resolved: number_of(row, "resolved").map(end),
            flaps: number_of(row, "flaps").unwrap_or(0),
            recurrences: number_of(row, "recurrences").unwrap_or(0),
            settled: text_of(row, "certainty").as_deref() == Some("FINAL"),
        };
        let cause = text_of(row, "cause_id").zip(number_of(row, "cause_opened"));
        let cause = cause.map(|(problem_id, opened)| EpisodeKey { problem_id, opened });
        Some(Self { episode, cause })
    }
}

/// Whether a row of problems is of this subject.
pub fn is_of(row: &Row, subject: &Subject) -> bool {
    text_of(row, "current").as_deref() == Some(subject.current())
        && text_of(row, "following").as_deref() == subject.following()
}

fn json(value: &impl Serialize) -> Result<AttributeValue, Failure> {
    serde_json::to_string(value).map(text).map_err(|e| unbuilt("evidence", e))
}

pub(super) fn key(id: &str, opened: i64) -> Row {
    Row::from([("problem_id".to_owned(), text(id)), ("opened".to_owned(), number(opened))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_acknowledged_meanwhile_is_not_taken_back_unseen() {
        let sdk = crate::fake::sdk(|_| (500, Vec::new()));
        let problems = Problems::new(flotilla_runtime::aws::dynamo_client(&sdk), "problems");
        let delete = problems.delete("0102", 5, None).unwrap();
        assert_eq!(delete.key(), &key("0102", 5));
        let unless = delete.condition_expression();
        assert_eq!(unless, Some("attribute_not_exists(acknowledged_at)"));
    }
}
