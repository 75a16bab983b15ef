//! `/v1/problems`: all of them, one with its episodes, and that somebody has seen one.

use std::sync::Arc;

use anomaly_worker::tables::{Acknowledged, Acknowledgement, EpisodeKey, Row, Status, now_ms};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Sensors,
    ask::{Params, ProblemId, Refused, check_problem_id, cursor, limit, place, time},
    filter::Filter,
    subscription::{capitals, check_names, kinds},
    view,
};

/// Rows of an answer: where nothing is said, and at most.
pub(super) const LIMIT: usize = 100;
pub(super) const MOST: usize = 1000;
/// Rows that are read at a time, and for one answer.
pub(super) const PAGE: i32 = 500;
pub(super) const BUDGET: usize = 5000;
/// The longest name and the longest note, in characters.
const WHO: usize = 200;
const NOTE: usize = 4000;

type Answer = Result<Json<Value>, Refused>;

/// What may be asked of the list of problems.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    status: Option<String>,
    kind: Option<String>,
    device: Option<String>,
    zone: Option<String>,
    prefix: Option<String>,
    #[serde(alias = "opened_from")]
    from: Option<String>,
    #[serde(alias = "opened_to")]
    to: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, Refused> {
        let at = |name, text: &Option<String>| text.as_deref().map(|it| time(name, it)).transpose();
        Ok(Filter {
            devices: self.device.clone().into_iter().collect(),
            zones: self.zone.clone().into_iter().collect(),
            prefixes: self.prefix.clone().into_iter().collect(),
            kinds: names("kind", self.kind.as_deref(), &kinds())?,
            statuses: names("status", self.status.as_deref(), &Status::ALL.map(Status::name))?,
            from: at("from", &self.from)?,
            to: at("to", &self.to)?,
        })
    }
}

/// `GET /v1/problems`: those that are meant, by pages. A page may be shorter than asked for, and
/// even empty, where much had to be read for it; the last one has no `next`.
pub(super) async fn list(State(it): State<Arc<Sensors>>, Params(asked): Params<Asked>) -> Answer {
    let (filter, limit) = (asked.filter()?, limit(asked.limit, LIMIT, MOST)?);
    let mut after = asked.cursor.as_deref().map(place::<EpisodeKey>).transpose()?;
    after.as_ref().map_or(Ok(()), |it| check_problem_id(&it.problem_id)).map_err(Refused::Bad)?;
    let (mut found, mut read) = (Vec::new(), 0);
    loop {
        let (rows, last) = it.problems.rows(after.as_ref(), PAGE).await?;
        read += rows.len();
        for (number, row) in rows.iter().enumerate() {
            if it.admits(&filter, row) {
                found.push(view::problem(row));
            }
            let is_last = number + 1 == rows.len() && last.is_none();
            if found.len() == limit && !is_last {
                return Ok(page(found, view::key(row)));
            }
        }
        after = last;
        if after.is_none() || read >= BUDGET {
            return Ok(page(found, after));
        }
    }
}

impl Sensors {
    fn admits(&self, filter: &Filter, row: &Row) -> bool {
        filter.admits(&view::about(row, &view::devices_of(row)), &self.zones)
    }
}

/// A list separated by commas, of names among these.
fn names(what: &str, list: Option<&str>, known: &[&str]) -> Result<Vec<String>, Refused> {
    let names = list.into_iter().flat_map(|list| list.split(','));
    let names: Vec<_> = names.map(capitals).collect();
    check_names(what, &names, known).map_err(Refused::Bad)?;
    Ok(names)
}

fn page(problems: Vec<Value>, next: Option<EpisodeKey>) -> Json<Value> {
    Json(json!({ "problems": problems, "next": next.map(|it| cursor(&it)) }))
}

/// What may be asked of one problem.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Episodes {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    before: i64,
}

/// `GET /v1/problems/{id}`: all its episodes, the newest first, by pages.
pub(super) async fn one(
    State(it): State<Arc<Sensors>>,
    ProblemId(id): ProblemId,
    Params(asked): Params<Episodes>,
) -> Answer {
    let limit = limit(asked.limit, LIMIT, MOST)?;
    let before = asked.cursor.as_deref().map(place::<Before>).transpose()?.map(|it| it.before);
    let (rows, more) = it.problems.episodes(&id, before, limit as i32).await?;
    if rows.is_empty() && before.is_none() {
        return Err(missing(&id));
    }
    let last = rows.last().and_then(view::key).filter(|_| more);
    let next = last.map(|last| cursor(&Before { before: last.opened }));
    let episodes: Vec<_> = rows.iter().map(view::problem).collect();
    Ok(Json(json!({ "problem_id": id, "episodes": episodes, "next": next })))
}

/// That somebody has seen a problem.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    #[serde(alias = "who")]
    by: String,
    note: Option<String>,
    opened: Option<Value>,
}

/// `POST /v1/problems/{id}/acknowledge`: of the latest episode, or of the one that opened then.
/// To say it again changes nothing, and is no error.
pub(super) async fn acknowledge(
    State(it): State<Arc<Sensors>>,
    ProblemId(id): ProblemId,
    body: Result<Json<Seen>, JsonRejection>,
) -> Answer {
    let Json(seen) = body.map_err(|why| bad_body(&why))?;
    let note = seen.note.filter(|note| !note.trim().is_empty());
    check_text("by", &seen.by, WHO)?;
    note.as_deref().map_or(Ok(()), |note| check_text("note", note, NOTE))?;
    let opened = match seen.opened {
        Some(opened) => anomaly_worker::message::time(&opened)
            .map_err(|why| Refused::Bad(format!("opened: {why}")))?,
        None => latest(&it, &id).await?,
    };
    let key = EpisodeKey { problem_id: id, opened };
    let by = seen.by.trim().to_owned();
    let acknowledgement = Acknowledgement { at: now_ms(), by, note };
    match it.problems.acknowledge(&key, &acknowledgement).await? {
        Acknowledged::Now(row) | Acknowledged::Before(row) => Ok(Json(view::problem(&row))),
        Acknowledged::Ended(row) => {
            let why =
                format!("problem {} has ended, and nobody had acknowledged it", key.problem_id);
            let body = json!({ "error": why, "problem": view::problem(&row) });
            Err(Refused::Other(StatusCode::CONFLICT, body))
        }
        Acknowledged::Missing => Err(missing(&key.problem_id)),
    }
}

async fn latest(it: &Sensors, id: &str) -> Result<i64, Refused> {
    let (rows, _) = it.problems.episodes(id, None, 1).await?;
    rows.first().and_then(view::key).map(|key| key.opened).ok_or_else(|| missing(id))
}

fn check_text(what: &str, text: &str, most: usize) -> Result<(), Refused> {
    let why = match text.chars().count() {
        0 => "is empty".to_owned(),
        _ if text.trim().is_empty() => "is empty".to_owned(),
        count if count > most => format!("has {count} characters, and {most} are allowed"),
        _ if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) => {
            "has a control character".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Refused::Bad(format!("{what} {why}")))
}

/// Why a body was not taken.
pub(super) fn bad_body(why: &JsonRejection) -> Refused {
    Refused::Other(why.status(), json!({ "error": why.body_text() }))
}

fn missing(id: &str) -> Refused {
    Refused::Missing(format!("there is no such episode of problem {id}"))
}
