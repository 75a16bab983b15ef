//! `flotilla replay`: the sensors' problems, recomputed from what was stored.

use anomaly_worker::{
    engine::{Confirm, Rule},
    message,
    replay::{Difference, Replay, Tables, Wanted, replay},
    tables::{Devices, Edges, Problems, Readings, Topologies},
};
use serde_json::{Value, json};

use crate::{
    console::out,
    error::{Doing, Error},
    target::{self, Target},
    verdict::table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: target::Which,
    /// Problems that opened from this time on: RFC 3339, or Unix seconds or milliseconds.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: i64,
    /// Problems that opened before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: i64,
    /// Takes the readings that came too late, too, to show what they would have changed.
    #[arg(long)]
    late: bool,
    /// How far levels may differ and be equal where no topology says so: as the workers have it.
    #[arg(long, env = "FLOTILLA_LEVEL_TOLERANCE", default_value_t = 0.0, value_name = "LEVELS")]
    tolerance: f64,
    /// A problem that comes back within so many seconds is the same one, where no topology says
    /// so: as the workers have it.
    #[arg(long, env = "FLOTILLA_FLAP_SECONDS", default_value_t = 0.0, value_name = "SECONDS")]
    flap: f64,
    /// How late readings may come, in seconds: so long a device's number tells a duplicate; as the
    /// workers have it.
    #[arg(
        long,
        env = "FLOTILLA_LATENESS_SECONDS",
        default_value_t = 3600.0,
        value_name = "SECONDS"
    )]
    lateness: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A time in Unix milliseconds.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let value = text.trim().parse::<f64>().map_or_else(|_| json!(text.trim()), Value::from);
    message::time(&value)
}

/// The tables of a fleet's sensors.
pub(super) fn tables(target: &Target) -> Tables {
    let (dynamo, names) = (&target.clients.dynamo, target.stack.outputs());
    Tables {
        devices: Devices::new(dynamo.clone(), &names.devices_table_name),
        readings: Readings::new(dynamo.clone(), &names.readings_table_name),
        edges: Edges::new(dynamo.clone(), &names.edges_table_name),
        topologies: Topologies::new(dynamo.clone(), &names.edges_table_name),
        problems: Problems::new(dynamo.clone(), &names.problems_table_name),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let Args { from, to, late, tolerance, flap, lateness, .. } = args;
    if from >= to {
        return Err(Error::Usage("--from must be before --to".to_owned()));
    }
    if !(0.0..=1e9).contains(&tolerance)
        || ![flap, lateness].iter().all(|it| (0.0..=31_536_000.0).contains(it))
    {
        let what = "--tolerance, --flap and --lateness are numbers from 0";
        return Err(Error::Usage(what.to_owned()));
    }
    let target = Target::find(&args.target).await?;
    let confirm = Confirm { flap: (flap * 1000.0) as i64, ..Confirm::default() };
    let plain = Rule { tolerance, confirm, ..Rule::default() };
    let lateness = (lateness * 1000.0) as i64;
    let found = replay(&tables(&target), Wanted { from, to, late, plain, lateness }).await;
    let found = found.doing(|| format!("recomputing problems of stack {}", target.stack.name()))?;
    match args.json {
        true => out(format!("{:#}", json!(found))),
        false => print(&found, late),
    }
    Ok(())
}

fn print(found: &Replay, late: bool) {
    let Replay { machines, readings, late_readings, told, replayed, differences } = found;
    let taken = if late { "taken" } else { "left out" };
    out(format!(
        "{machines} edges and devices, {readings} readings ({late_readings} too late, {taken}): \
         {told} problems told, {replayed} recomputed, {} differences",
        differences.len()
    ));
    if differences.is_empty() {
        return;
    }
    let mut rows = table(&["problem", "opened", "as told", "as recomputed"]);
    rows.add_rows(differences.iter().map(row));
    out(rows);
}

fn row(it: &Difference) -> [String; 4] {
    let shown = |side: &Option<Value>| side.as_ref().map_or("-".to_owned(), outline);
    [it.problem_id.clone(), moment(it.opened), shown(&it.told), shown(&it.replayed)]
}

fn outline(it: &Value) -> String {
    let end =
        it["resolved"].as_i64().map_or("lasts".to_owned(), |at| format!("until {}", moment(at)));
    let kind = it["problem"].as_str().unwrap_or("?");
    let cause = it["cause_id"].as_str().map_or(String::new(), |id| format!(", follows from {id}"));
    format!("{kind}, {end}, flaps {}, recurrences {}{cause}", it["flaps"], it["recurrences"])
}

/// A time as it is read.
pub(super) fn moment(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_spelling() {
        assert_eq!(time("1700000000"), Ok(1_700_000_000_000));
        assert_eq!(time("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert!(time("yesterday").is_err() && time("nan").is_err());
    }
}
