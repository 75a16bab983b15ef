//! Episodes as rows: read by pages, and acknowledged.
//!
//! An acknowledgement stands in attributes of its own. What the engine writes of an episode leaves
//! them alone, and asks them for the status of one that lasts; where the engine takes an episode
//! back and tells another in its place, the acknowledgement goes over to that one.

use aws_sdk_dynamodb::types::{AttributeValue as Attr, ReturnValue};
use flotilla_runtime::{Failure, failure::chain};
use serde::{Deserialize, Serialize};

use super::{
    Problems, Row, Status, Subject, number, number_of, problems::key, text, text_of, unavailable,
};
use crate::engine::{Change, Episode};

/// How often an acknowledgement is tried again while the engine changes the status.
const TRIES: u32 = 5;

/// The key of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeKey {
    /// The id of the problem.
    pub problem_id: String,
    /// When it opened, in Unix milliseconds of event time.
    pub opened: i64,
}

impl EpisodeKey {
    fn of(row: &Row) -> Option<Self> {
        Some(Self { problem_id: text_of(row, "problem_id")?, opened: number_of(row, "opened")? })
    }

    fn row(&self) -> Row {
        key(&self.problem_id, self.opened)
    }
}

/// That somebody saw a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// When, in Unix milliseconds of processing time.
    pub at: i64,
    /// Who.
    pub by: String,
    /// What they had to say.
    pub note: Option<String>,
}

impl Acknowledgement {
    /// The one in a row.
    pub fn of(row: &Row) -> Option<Self> {
        Some(Self {
            at: number_of(row, "acknowledged_at")?,
            by: text_of(row, "acknowledged_by")?,
            note: text_of(row, "acknowledged_note"),
        })
    }

    /// The assignments of an update, without `SET`; an earlier acknowledgement stays.
    pub(super) fn assignments(&self) -> String {
        let mut names = vec!["acknowledged", "acknowledged_at", "acknowledged_by"];
        names.extend(self.note.as_ref().map(|_| "acknowledged_note"));
        let set = names.iter().map(|name| format!("{name} = if_not_exists({name}, :{name})"));
        set.collect::<Vec<_>>().join(", ")
    }

    /// The values of [`assignments`](Self::assignments).
    pub(super) fn values(&self) -> Vec<(String, Attr)> {
        let mut values = vec![
            (":acknowledged".to_owned(), text(Status::Acknowledged.name())),
            (":acknowledged_at".to_owned(), number(self.at)),
            (":acknowledged_by".to_owned(), text(&self.by)),
        ];
        values.extend(self.note.as_ref().map(|it| (":acknowledged_note".to_owned(), text(it))));
        values
    }
}

/// What came of an acknowledgement.
#[derive(Debug, Clone, PartialEq)]
pub enum Acknowledged {
    /// It is noted; the row as it is now.
    Now(Row),
    /// It was acknowledged before, and stays so; the row as it is.
    Before(Row),
    /// It has ended, and nobody had acknowledged it; the row as it is.
    Ended(Row),
    /// There is no such episode.
    Missing,
}

/// What is taken back: the kind, and until when it was told to last.
#[derive(Debug)]
pub(super) struct Withdrawn {
    opened: i64,
    kind: Option<String>,
    resolved: Option<i64>,
    pub(super) acknowledgement: Option<Acknowledgement>,
}

impl Withdrawn {
    /// Whether this episode tells in its place what it told.
    fn continues_in(&self, episode: &Episode) -> bool {
        let ends_after = episode.resolved.is_none_or(|turn| turn.at >= self.opened);
        let begins_before = self.resolved.is_none_or(|end| episode.opened.at <= end);
        self.kind.as_deref() == Some(episode.kind.name()) && ends_after && begins_before
    }
}

/// Whose acknowledgement each change takes over: that of the nearest it continues.
pub(super) fn heir<'w>(
    changes: &[Change],
    withdrawn: &'w [Withdrawn],
    change: &Change,
) -> Option<&'w Acknowledgement> {
    let Change::Tell(episode) = change else { return None };
    let told =
        || changes.iter().filter_map(|it| if let Change::Tell(e) = it { Some(e) } else { None });
    let nearest = |gone: &Withdrawn| {
        let heirs = told().filter(|it| gone.continues_in(it));
        heirs.min_by_key(|it| it.opened.at.abs_diff(gone.opened)).map(|it| it.opened.at)
    };
    let mut gone = withdrawn.iter().filter(|gone| gone.acknowledgement.is_some());
    gone.find(|gone| nearest(gone) == Some(episode.opened.at))?.acknowledgement.as_ref()
}

impl Problems {
    /// At most `limit` rows of all problems, in no order that matters, from after this one; and
    /// the key of the last, where there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn rows(
        &self,
        after: Option<&EpisodeKey>,
        limit: i32,
    ) -> Result<(Vec<Row>, Option<EpisodeKey>), Failure> {
        let call = self.client.scan().table_name(&self.table).limit(limit);
        let call = call.set_exclusive_start_key(after.map(EpisodeKey::row));
        let answer = call.send().await;
        let answer = answer.map_err(|e| unavailable("Scan", "problems", &self.table, chain(&e)))?;
        let last = answer.last_evaluated_key.as_ref().and_then(EpisodeKey::of);
        Ok((answer.items.unwrap_or_default(), last))
    }

    /// At most `limit` episodes of a problem, the newest first, from before the one that opened at
    /// `before` (Unix milliseconds of event time); and whether there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn episodes(
        &self,
        id: &str,
        before: Option<i64>,
        limit: i32,
    ) -> Result<(Vec<Row>, bool), Failure> {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.scan_index_forward(false).limit(limit);
        let call = call.expression_attribute_values(":id", text(id));
        let call = match before {
            Some(before) => call
                .key_condition_expression("problem_id = :id AND opened < :before")
                .expression_attribute_values(":before", number(before)),
            None => call.key_condition_expression("problem_id = :id"),
        };
        let answer = call.send().await;
        let answer = answer.map_err(|e| unavailable("Query", id, &self.table, chain(&e)))?;
        let more = answer.last_evaluated_key.is_some();
        Ok((answer.items.unwrap_or_default(), more))
    }

    /// One episode's row.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn episode(&self, of: &EpisodeKey) -> Result<Option<Row>, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.set_key(Some(of.row())).send().await;
        let failed = |e| unavailable("GetItem", &of.problem_id, &self.table, e);
        Ok(answer.map_err(|e| failed(chain(&e)))?.item)
    }

    /// Notes that somebody saw a problem that lasts. The first to say so is the one who did.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn acknowledge(
        &self,
        of: &EpisodeKey,
        it: &Acknowledgement,
    ) -> Result<Acknowledged, Failure> {
        for _ in 0..TRIES {
            if let Some(row) = self.try_acknowledge(of, it).await? {
                return Ok(Acknowledged::Now(row));
            }
            let Some(row) = self.episode(of).await? else { return Ok(Acknowledged::Missing) };
            if Acknowledgement::of(&row).is_some() {
                return Ok(Acknowledged::Before(row));
            }
            if text_of(&row, "problem_status").as_deref() != Some(Status::Unresolved.name()) {
                return Ok(Acknowledged::Ended(row));
            }
        }
        let what = format!("problem {}: its status changes all the time", of.problem_id);
        Err(Failure::transient("problem_conflict", what))
    }

    async fn try_acknowledge(
        &self,
        of: &EpisodeKey,
        it: &Acknowledgement,
    ) -> Result<Option<Row>, Failure> {
        let set = format!("SET problem_status = :acknowledged, {}", it.assignments());
        let mut call = self.client.update_item().table_name(&self.table).set_key(Some(of.row()));
        for (name, value) in it.values() {
            call = call.expression_attribute_values(name, value);
        }
        let call = call.expression_attribute_values(":unresolved", text(Status::Unresolved.name()));
        let call = call.update_expression(set).return_values(ReturnValue::AllNew);
        match call.condition_expression("problem_status = :unresolved").send().await {
            Ok(answer) => Ok(Some(answer.attributes.unwrap_or_default())),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(None)
            }
            Err(e) => Err(unavailable("UpdateItem", &of.problem_id, &self.table, chain(&e))),
        }
    }

    /// The rows that these changes take back, as they are now.
    pub(super) async fn withdrawn(
        &self,
        subject: &Subject,
        changes: &[Change],
    ) -> Result<Vec<Withdrawn>, Failure> {
        let mut found = Vec::new();
        for change in changes {
            let Change::Retract(gone) = change else { continue };
            let (problem_id, opened) = (subject.problem_id(gone.kind), gone.opened);
            let of = EpisodeKey { problem_id, opened };
            let row = self.episode(&of).await?.unwrap_or_default();
            found.push(Withdrawn {
                opened,
                kind: text_of(&row, "problem"),
                resolved: number_of(&row, "resolved"),
                acknowledgement: Acknowledgement::of(&row),
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Evidence, Kind, Sample, Told, Turn};

    fn turn(at: i64) -> Turn {
        let sample = Sample { at, filling: 1.0 };
        Turn { at, evidence: Evidence { current: Some(sample), ..Evidence::default() } }
    }

    fn episode(kind: Kind, opened: i64, resolved: Option<i64>) -> Episode {
        let (opened, resolved) = (turn(opened), resolved.map(turn));
        Episode { kind, opened, resolved, flaps: 0, recurrences: 0, settled: false }
    }

    fn tell(kind: Kind, opened: i64, resolved: Option<i64>) -> Change {
        Change::Tell(episode(kind, opened, resolved))
    }

    fn withdrawn(opened: i64, resolved: Option<i64>) -> Withdrawn {
        let acknowledgement = Acknowledgement { at: 1, by: "ada".to_owned(), note: None };
        let kind = Some(Kind::Problem.name().to_owned());
        Withdrawn { opened, kind, resolved, acknowledgement: Some(acknowledgement) }
    }

    #[test]
    fn an_acknowledgement_goes_over_to_the_nearest_episode_of_its_kind_that_continues_it() {
        let changes = [
            Change::Retract(Told::of(&episode(Kind::Problem, 60, None))),
            tell(Kind::Problem, 10, Some(40)),
            tell(Kind::Obstruction, 59, None),
            tell(Kind::Problem, 50, None),
            tell(Kind::Problem, 90, None),
        ];
        let gone = [withdrawn(60, None)];
        let heirs: Vec<_> = changes.iter().map(|it| heir(&changes, &gone, it).is_some()).collect();
        assert_eq!(heirs, [false, false, false, true, false]);
        let ended = [withdrawn(45, Some(48))];
        assert!(changes.iter().all(|it| heir(&changes, &ended, it).is_none()));
    }
}
