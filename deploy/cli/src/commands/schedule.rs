//! `flotilla schedule`: the exact transitions of a schedule; what holds against one.

use clap::Subcommand;
use jiff::{Span, Timestamp};
use schedule_executor::schedule::{DEFAULT_ZONE, Schedule, said};

use super::overrides;
use crate::{
    console::out,
    error::{Doing, Error},
    verdict::table,
};

/// The most transitions that are printed.
const LIMIT: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints every change of a schedule's state, in UTC and on the local clock.
    ///
    /// A rule has cron's 5 fields or AWS's 6. What falls into a gap of the clock happens at its
    /// end, what falls into a fold once, at the first, unless --gap and --fold say otherwise.
    Preview(Preview),
    /// Keeps a context, a tag or a resource on or off for some time, whatever its schedule says.
    Override(overrides::Args),
}

#[derive(Debug, clap::Args)]
struct Preview {
    /// The rule of starts, for example "0 8 * * 1-5".
    #[arg(long, default_value = "", conflicts_with = "period")]
    start: String,
    /// The rule of stops, for example "cron(0 19 ? * MON-FRI *)".
    #[arg(long, default_value = "", conflicts_with = "period")]
    stop: String,
    /// Periods of being on instead of rules, for example "mon-fri 08:00-19:00".
    #[arg(long)]
    period: Option<String>,
    /// An iCalendar file of the days on which no period begins.
    #[arg(long, value_name = "FILE", requires = "period")]
    holidays: Option<std::path::PathBuf>,
    /// The IANA zone of rules and periods.
    #[arg(long, default_value = DEFAULT_ZONE)]
    zone: String,
    /// What becomes of a rule inside a gap of the clock: it comes at its end, or is skipped.
    #[arg(long, default_value = "end", value_parser = ["end", "skip"])]
    gap: String,
    /// What becomes of a rule inside a fold of the clock: it comes at the first, or at the second.
    #[arg(long, default_value = "first", value_parser = ["first", "second"])]
    fold: String,
    /// From this instant on, or this date of the zone; now by default.
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// Before this instant or date; a week after --from by default.
    #[arg(long, value_name = "INSTANT")]
    to: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Preview(args) => preview(&args),
        Action::Override(args) => overrides::run(args).await,
    }
}

fn preview(args: &Preview) -> Result<(), Error> {
    let holidays = match &args.holidays {
        None => String::new(),
        Some(path) => {
            std::fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?
        }
    };
    let schedule = match &args.period {
        Some(period) => Schedule::periods_but(period, &holidays, &args.zone),
        None => Schedule::rules(&args.start, &args.stop, &args.zone),
    };
    let policy = serde_json::json!({ "gap": args.gap, "fold": args.fold });
    let policy = serde_json::from_value(policy).map_err(|why| Error::Usage(why.to_string()))?;
    let schedule = schedule.and_then(|schedule| schedule.with(policy));
    let schedule = schedule.map_err(|why| Error::Usage(why.to_string()))?;
    if let Some(what) = schedule.never() {
        return Err(Error::Usage(format!("{what} never comes")));
    }
    let at = |name: &str, text: &Option<String>| {
        let at = |text: &String| said(name, text, schedule.zone());
        text.as_ref().map(at).transpose().map_err(|why| Error::Usage(why.to_string()))
    };
    let from = at("--from", &args.from)?.unwrap_or_else(Timestamp::now);
    let week = || from.checked_add(Span::new().hours(7 * 24)).unwrap_or(Timestamp::MAX);
    let to = at("--to", &args.to)?.unwrap_or_else(week);
    if from >= to {
        return Err(Error::Usage(format!(
            "--from {from} is not before --to {to}: name an earlier one"
        )));
    }
    let found = schedule.preview(from, to, LIMIT + 1);
    if found.len() > LIMIT {
        let what = format!("over {LIMIT} transitions: ask for less time with --from and --to");
        return Err(Error::Usage(what));
    }
    if args.json {
        out(format!("{:#}", serde_json::json!(found)));
        return Ok(());
    }
    let mut rows = table(&["UTC", "", "local", ""]);
    for it in &found {
        let [at, power, local] = [it.at.to_string(), it.power.to_string(), it.local.to_string()];
        rows.add_row([at.as_str(), power.as_str(), &local, it.note.unwrap_or_default()]);
    }
    let state = schedule.desired(from).map_or("unknown".to_owned(), |it| it.power.to_string());
    out(format!("at {from} it is {state}\n{rows}"));
    Ok(())
}
