//! `flotilla schedule`: the exact transitions of a schedule; what holds against one.

use clap::Subcommand;
use jiff::{Span, Timestamp, tz::TimeZone};
use schedule_executor::{
    arn::Scope,
    plan::Plan,
    rows::Scheduling,
    schedule::{DEFAULT_ZONE, Schedule, Transition, said},
    store::Store,
};

use super::overrides;
use crate::{
    console::{note, out},
    error::{Doing, Error},
    kind,
    target::{self, Target},
    verdict::{shown, table},
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
    /// That of this context of the fleet, with its overrides, hands and learned lead, instead of rules.
    #[arg(long, conflicts_with_all = OWN, value_parser = overrides::not_empty)]
    context: Option<String>,
    /// The same of this tag.
    #[arg(long, conflicts_with_all = OWN, conflicts_with = "context", value_parser = overrides::not_empty)]
    tag: Option<String>,
    /// The rule of starts, for example "0 8 * * 1-5".
    #[arg(long, default_value = "", conflicts_with = "period")]
    start: String,
    /// The rule of stops, for example "cron(0 19 ? * MON-FRI *)".
    #[arg(long, default_value = "", conflicts_with = "period")]
    stop: String,
    /// Periods of being on instead of rules, for example "mon-fri 08:00-19:00".
    #[arg(long)]
    period: Option<String>,
    /// An iCalendar file of the days on which no period begins; needs --period.
    // What requires a period does not where there are rules, which a period conflicts with.
    #[arg(long, value_name = "FILE", requires = "period", conflicts_with_all = ["start", "stop"])]
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
    #[command(flatten)]
    target: target::Which,
}

/// What a context or tag says by itself.
const OWN: [&str; 7] = ["start", "stop", "period", "holidays", "zone", "gap", "fold"];

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Preview(args) => match source(&args) {
            Some(source) => preview_of(&args, &source).await,
            None => preview(&args),
        },
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
    let (from, to) = span(args, schedule.zone())?;
    let found = schedule.preview(from, to, LIMIT + 1);
    few(found.len())?;
    if args.json {
        out(format!("{:#}", serde_json::json!(found)));
        return Ok(());
    }
    let mut rows = table(&["UTC", "", "local", ""]);
    for it in &found {
        let [at, power, local] = told(it);
        rows.add_row([at.as_str(), power.as_str(), &local, it.note.unwrap_or_default()]);
    }
    let state = schedule.desired(from).map_or("unknown".to_owned(), |it| it.power.to_string());
    out(format!("at {from} it is {state}\n{rows}"));
    Ok(())
}

fn told(it: &Transition) -> [String; 3] {
    [it.at.to_string(), it.power.to_string(), it.local.to_string()]
}

/// From when to when is asked for; dates are those of a zone.
fn span(args: &Preview, zone: &TimeZone) -> Result<(Timestamp, Timestamp), Error> {
    let at = |name: &str, text: &Option<String>| {
        let at = |text: &String| said(name, text, zone);
        text.as_ref().map(at).transpose().map_err(|why| Error::Usage(why.to_string()))
    };
    let from = at("--from", &args.from)?.unwrap_or_else(Timestamp::now);
    let week = || from.checked_add(Span::new().hours(7 * 24)).unwrap_or(Timestamp::MAX);
    let to = at("--to", &args.to)?.unwrap_or_else(week);
    let wrong = || format!("--from {from} is not before --to {to}: name an earlier one");
    (from < to).then_some((from, to)).ok_or_else(|| Error::Usage(wrong()))
}

fn few(transitions: usize) -> Result<(), Error> {
    let what = || format!("over {LIMIT} transitions: ask for less time with --from and --to");
    (transitions <= LIMIT).then_some(()).ok_or_else(|| Error::Usage(what()))
}

/// The context or tag whose schedule is asked for.
fn source(args: &Preview) -> Option<Scope> {
    let context = args.context.clone().map(Scope::Context);
    context.or_else(|| args.tag.clone().map(Scope::Tag))
}

/// What ticks will do with a context or a tag that is registered, by the decision that they take.
async fn preview_of(args: &Preview, source: &Scope) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    let store = Store::new(target.clients.dynamo.clone(), kind::tables(target.stack.outputs()));
    let row = scheduling(&store, source).await?;
    let plan = Plan::of(&row).map_err(Error::Fleet)?;
    let (from, to) = span(args, plan.schedule().zone())?;
    let found = plan.preview(from, to, LIMIT + 1);
    few(found.len())?;
    if !row.scheduled {
        note(format!("the scheduler of {} is stopped: nothing of it is done", source.name()));
    }
    if args.json {
        out(format!("{:#}", serde_json::json!(found)));
        return Ok(());
    }
    let mut rows = table(&["UTC", "", "local", "", "why"]);
    for change in &found {
        let ([at, power, local], why) = (told(&change.transition), shown(&change.reason));
        let note = change.transition.note.unwrap_or_default();
        rows.add_row([at.as_str(), power.as_str(), &local, note, &why]);
    }
    let state = plan.wanted(from).map_or("unknown".to_owned(), |it| it.power.to_string());
    out(format!("at {from} it is {state}\n{rows}"));
    Ok(())
}

async fn scheduling(store: &Store, source: &Scope) -> Result<Scheduling, Error> {
    let reading = || format!("reading {}", source.name());
    let row = match source {
        Scope::Context(id) => store.context(id).await.doing(reading)?.map(|it| it.scheduling),
        Scope::Tag(key) => store.tag(key).await.doing(reading)?.map(|it| it.scheduling),
        Scope::Resource(_) => None,
    };
    row.ok_or_else(|| unregistered(source))
}

fn unregistered(source: &Scope) -> Error {
    let advice = "register it, or correct the name";
    Error::Fleet(format!("{} is not registered: {advice}", source.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_of_nobody_is_refused_with_what_to_do() {
        let said = unregistered(&Scope::Context("wbe".to_owned())).to_string();
        assert!(
            said.contains("wbe") && said.contains("register it, or correct the name"),
            "{said}"
        );
    }

    #[test]
    fn a_preview_is_of_rules_or_of_a_context_or_of_a_tag() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Preview,
        }
        let parse = |line: &[&str]| {
            let line = [&["preview"], line].concat();
            <Line as clap::Parser>::try_parse_from(line).map(|it| source(&it.args))
        };
        assert_eq!(parse(&["--period", "daily 08:00-19:00"]).unwrap(), None);
        assert_eq!(parse(&["--context", "web"]).unwrap(), Some(Scope::Context("web".to_owned())));
        assert_eq!(parse(&["--tag", "env"]).unwrap(), Some(Scope::Tag("env".to_owned())));
        for also in [["--zone", "UTC"], ["--start", "0 8 * * *"], ["--tag", "env"]] {
            assert!(parse(&[&["--context", "web"][..], &also].concat()).is_err(), "{also:?}");
        }
        let holidays = |also: &str, value: &str| parse(&["--holidays", "file.ics", also, value]);
        assert!(holidays("--period", "daily 08:00-19:00").is_ok());
        for rule in ["--start", "--stop"] {
            assert!(holidays(rule, "0 8 * * *").is_err(), "{rule}: holidays are for periods");
        }
    }
}
