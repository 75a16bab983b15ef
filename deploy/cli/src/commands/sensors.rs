//! `flotilla sensors`: problems between sensors, and readings that came too late.

use anomaly_worker::tables::{
    Acknowledged, Acknowledgement, EpisodeKey, LateReading, Problems, Row, Span, Status, now_ms,
};
use clap::Subcommand;
use serde_json::{Value, json};

use super::replay::{moment, tables, time};
use crate::{
    console::out,
    error::{Doing, Error},
    target::{self, Target},
    verdict::table,
};

/// Rows that are read at a time.
const PAGE: i32 = 1000;
/// After all times.
const END: i64 = 999_999_999_999_999;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists problems, in order of their opening.
    Problems {
        #[command(flatten)]
        target: target::Which,
        /// Only those with this status: UNRESOLVED, ACKNOWLEDGED or RESOLVED.
        #[arg(long)]
        status: Option<String>,
        /// The most that are shown: the newest.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Acknowledges the latest episode of a problem, or the one that opened at a time.
    Ack {
        /// The problem, for example 0102, or 01/SILENCE.
        problem_id: String,
        #[command(flatten)]
        target: target::Which,
        /// Who has seen it.
        #[arg(long, env = "USER", value_parser = somebody)]
        by: String,
        /// What they have to say.
        #[arg(long)]
        note: Option<String>,
        /// The episode: when it opened.
        #[arg(long, value_name = "TIME", value_parser = time)]
        opened: Option<i64>,
    },
    /// Lists the readings that came too late to be compared; `flotilla replay --late` shows what
    /// they would have changed.
    Late {
        #[command(flatten)]
        target: target::Which,
        /// Readings from this time on.
        #[arg(long, value_name = "TIME", value_parser = time, default_value_t = 0)]
        from: i64,
        /// Readings before this time.
        #[arg(long, value_name = "TIME", value_parser = time, default_value_t = END)]
        to: i64,
        /// Prints JSON lines.
        #[arg(long)]
        json: bool,
    },
}

/// Whoever acknowledges has a name, as over HTTP.
fn somebody(name: &str) -> Result<String, String> {
    match name.trim().is_empty() {
        true => Err("say who has seen it".to_owned()),
        false => Ok(name.to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Problems { target, status, limit, json } => {
            let target = Target::find(&target).await?;
            problems(&target, status.as_deref(), limit, json).await
        }
        Action::Ack { problem_id, target, by, note, opened } => {
            let target = Target::find(&target).await?;
            let seen = Acknowledgement { at: now_ms(), by, note };
            acknowledge(&tables(&target).problems, problem_id, opened, &seen).await
        }
        Action::Late { target, from, to, json } => {
            if from >= to {
                return Err(Error::Usage("--from must be before --to".to_owned()));
            }
            let target = Target::find(&target).await?;
            late(&target, Span { from, to, after: None, newest_first: false }, json).await
        }
    }
}

async fn problems(
    target: &Target,
    status: Option<&str>,
    limit: usize,
    json: bool,
) -> Result<(), Error> {
    let status = status.map(known_status).transpose()?;
    let (problems, mut found, mut after) = (tables(target).problems, Vec::new(), None);
    loop {
        let page = problems.rows(after.as_ref(), PAGE).await;
        let (rows, last) = page.doing(|| "reading the table of problems".to_owned())?;
        let fits = |row: &Row| status.as_ref().is_none_or(|it| text(row, "problem_status") == *it);
        found.extend(rows.into_iter().filter(fits));
        if found.len() > limit.saturating_mul(2) {
            newest(&mut found, limit);
        }
        after = last;
        if after.is_none() {
            break;
        }
    }
    newest(&mut found, limit);
    let names =
        ["problem_id", "problem", "problem_status", "opened", "resolved", "certainty", "cause_id"];
    if json {
        let shown = |row: &Row| -> Value {
            names
                .iter()
                .map(|name| ((*name).to_owned(), value(row, name)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        found.iter().for_each(|row| out(shown(row)));
        return Ok(());
    }
    let mut rows = table(&["problem", "kind", "status", "opened", "resolved", "", "follows from"]);
    rows.add_rows(found.iter().map(|row| {
        names.map(|name| match (name, value(row, name).as_i64()) {
            ("opened" | "resolved", Some(at)) => moment(at),
            _ => text(row, name),
        })
    }));
    out(rows);
    Ok(())
}

/// A status as it is written.
fn known_status(text: &str) -> Result<String, Error> {
    let (status, known) = (text.to_uppercase(), Status::ALL.map(Status::name));
    match known.contains(&status.as_str()) {
        true => Ok(status),
        false => {
            let known = known.join(", ");
            Err(Error::Usage(format!("--status {text:.40?} is none of {known}")))
        }
    }
}

/// In order of opening, the newest of them.
fn newest(rows: &mut Vec<Row>, limit: usize) {
    rows.sort_by_key(|row| (value(row, "opened").as_i64(), text(row, "problem_id")));
    rows.drain(..rows.len().saturating_sub(limit));
}

async fn acknowledge(
    problems: &Problems,
    problem_id: String,
    opened: Option<i64>,
    seen: &Acknowledgement,
) -> Result<(), Error> {
    let doing = || format!("acknowledging problem {problem_id}");
    let missing = || Error::Usage(format!("there is no such episode of problem {problem_id}"));
    let opened = match opened {
        Some(opened) => opened,
        None => {
            let (rows, _) = problems.episodes(&problem_id, None, 1).await.doing(doing)?;
            rows.first().and_then(|row| value(row, "opened").as_i64()).ok_or_else(missing)?
        }
    };
    let key = EpisodeKey { problem_id: problem_id.clone(), opened };
    let by = |row: &Row| text(row, "acknowledged_by");
    match problems.acknowledge(&key, seen).await.doing(doing)? {
        Acknowledged::Now(row) => out(format!("{problem_id}: acknowledged by {}", by(&row))),
        Acknowledged::Before(row) => {
            out(format!("{problem_id}: {} had acknowledged it before", by(&row)));
        }
        Acknowledged::Ended(_) => {
            let what = format!("problem {problem_id} has ended, and nobody had acknowledged it");
            return Err(Error::Usage(what));
        }
        Acknowledged::Missing => return Err(missing()),
    }
    Ok(())
}

async fn late(target: &Target, mut span: Span, json: bool) -> Result<(), Error> {
    let readings = tables(target).readings;
    let mut rows = table(&["device", "of", "filling", "seq", "came"]);
    loop {
        let page = readings.late(&span, PAGE).await;
        let (found, more) = page.doing(|| "reading the late list".to_owned())?;
        span.after = found.last().map(|it| it.key.clone());
        for LateReading { device, reading, stored_at, .. } in found {
            if json {
                out(json!({
                    "device": device, "at": reading.at, "filling": reading.filling,
                    "seq": reading.seq, "stored_at": stored_at,
                }));
            } else {
                let seq = reading.seq.map(|it| it.to_string()).unwrap_or_default();
                let level = reading.filling.to_string();
                rows.add_row([device, moment(reading.at), level, seq, moment(stored_at)]);
            }
        }
        if !more || span.after.is_none() {
            break;
        }
    }
    if !json {
        out(rows);
    }
    Ok(())
}

fn text(row: &Row, name: &str) -> String {
    row.get(name).and_then(|it| it.as_s().ok()).cloned().unwrap_or_default()
}

fn value(row: &Row, name: &str) -> Value {
    match row.get(name) {
        Some(it) => it.as_n().map_or_else(
            |_| json!(text(row, name)),
            |number| serde_json::from_str(number).unwrap_or(Value::Null),
        ),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_cannot_acknowledge_a_problem() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parse = |by| {
            let line = ["sensors", "ack", "0102", "--by", by];
            <Line as clap::Parser>::try_parse_from(line).map(|it| it.args)
        };
        assert!(parse("ada").is_ok());
        for nobody in ["", " "] {
            let refused = parse(nobody).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            assert!(refused.to_string().contains("say who has seen it"), "{refused}");
        }
    }

    #[test]
    fn a_status_that_there_is_not_is_refused_with_those_that_there_are() {
        assert_eq!(known_status("resolved").ok().as_deref(), Some("RESOLVED"));
        let why = known_status("open").unwrap_err().to_string();
        assert!(why.contains("\"open\" is none of UNRESOLVED, ACKNOWLEDGED"), "{why}");
    }
}
