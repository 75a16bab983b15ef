//! `flotilla schedule override`: a state for some time, whatever the rules say.

use flotilla_runtime::tally;
use jiff::{Timestamp, tz::TimeZone};
use schedule_executor::{
    arn::{Home, account_of_queue},
    rows::{ALL, Service},
    schedule::{DEFAULT_ZONE, Override, zone},
    store::{Overridden, Store},
};
use serde_json::{Value, json};

use crate::{
    console::out,
    error::{Doing, Error},
    kind,
    target::{self, Target},
    ticker,
    verdict::{shown, table},
};

/// The longest reason and the longest name of who asked that are kept, in characters.
const REASON: usize = 500;
const WHO: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For example: on until 22:00, off for 3 h, on until 2026-06-01T22:00 (all on the clock of the
    /// context or tag).
    #[arg(required_unless_present_any = ["end", "list"], conflicts_with_all = ["end", "list"])]
    words: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    /// The IANA zone of a time of day: by default that of the context or tag, of a resource that of
    /// the context that has it, and UTC where none does.
    #[arg(long, requires = "resource")]
    zone: Option<String>,
    /// Why, for the audit.
    #[arg(long, default_value = "")]
    reason: String,
    /// Who asks for it; by default who is logged in.
    #[arg(long)]
    who: Option<String>,
    /// Ends the override before its time.
    #[arg(long, conflicts_with = "list")]
    end: bool,
    /// Says what would be, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: target::Which,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Of this context.
    #[arg(long)]
    context: Option<String>,
    /// Of this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Of this resource, by its key in the audit: ec2:instance/eu-west-1/i-0123456789abcdef0.
    #[arg(long, value_parser = key)]
    resource: Option<String>,
    /// Of all: prints each that holds, with who asked for it and until when.
    #[arg(long)]
    list: bool,
}

fn key(text: &str) -> Result<String, String> {
    let mut parts = text.split('/');
    let known = parts.next().and_then(Service::named);
    match known.filter(|_| parts.clone().count() >= 2 && parts.all(|part| !part.is_empty())) {
        Some(kind) => {
            let rest = text.split_once('/').map(|(_, rest)| rest).unwrap_or_default();
            Ok(format!("{}/{rest}", kind.name()))
        }
        None => {
            Err("a key is KIND/REGION/ID, with the account before the region of another".into())
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    let outputs = target.stack.outputs();
    let store = Store::new(target.clients.dynamo.clone(), kind::tables(outputs));
    if args.whose.list {
        return list(&store).await;
    }
    let account = account_of_queue(&outputs.schedule_queue_url).to_owned();
    let home = Home { account, region: target.clients.region.clone() };
    let clock = clock(&store, &home, &args).await?;
    let over = match args.end {
        true => None,
        false => Some(read(&args, &clock)?),
    };
    let told = told(over.as_ref(), &clock);
    if args.dry_run {
        out(format!("it would be {told}"));
        return Ok(());
    }
    if args.end {
        there_is_one(&store, &args.whose).await?;
    }
    write(&store, &args.whose, &json!({ "override": over })).await?;
    // At once, and not at the next tick.
    let call = target.clients.sqs.send_message().queue_url(&outputs.schedule_queue_url);
    let sending = async {
        let sent = call.message_body(ticker::look_now()).send().await;
        sent.doing(|| format!("sending a tick to {}", outputs.schedule_queue_url))?;
        tally::sent(&outputs.schedule_queue_url, 1);
        Ok::<(), Error>(())
    };
    let table = Some(outputs.fleet_table_name.as_str());
    tally::telling(table, target.clients.dynamo.clone(), sending).await?;
    out(format!("it is {told}"));
    Ok(())
}

/// The zone on whose clock a time of day is.
async fn clock(store: &Store, home: &Home, args: &Args) -> Result<TimeZone, Error> {
    let Whose { context, tag, resource, .. } = &args.whose;
    let reading = || "reading the schedule".to_owned();
    let own = match (&args.zone, resource) {
        (None, Some(key)) => Some(store.zone_of(home, key).await.doing(reading)?),
        (said, _) => said.clone(),
    };
    let scheduling = match (context, tag) {
        (Some(id), _) => store.context(id).await.doing(reading)?.map(|it| it.scheduling),
        (_, Some(key)) => store.tag(key).await.doing(reading)?.map(|it| it.scheduling),
        _ => {
            let name = own.as_deref().unwrap_or(DEFAULT_ZONE);
            return zone(name).map_err(|why| Error::Usage(why.to_string()));
        }
    };
    let scheduling = scheduling.filter(|_| context.as_deref() != Some(ALL));
    let scheduling = scheduling.ok_or_else(|| missing(&args.whose))?;
    zone(&scheduling.zone).map_err(|why| Error::Usage(why.to_string()))
}

fn read(args: &Args, clock: &TimeZone) -> Result<Override, Error> {
    let over = Override::parse(&args.words.join(" "), Timestamp::now(), clock);
    let over = over.map_err(|why| Error::Usage(why.to_string()))?;
    let who = args
        .who
        .clone()
        .or_else(|| ["USER", "LOGNAME"].iter().find_map(|it| std::env::var(it).ok()));
    let who = who.unwrap_or_else(|| "a command".to_owned()).chars().take(WHO).collect();
    Ok(Override { reason: args.reason.chars().take(REASON).collect(), who, ..over })
}

/// Prints all that hold or are to come.
async fn list(store: &Store) -> Result<(), Error> {
    let all = store.overrides(Timestamp::now()).await;
    let all = all.doing(|| "reading the overrides".to_owned())?;
    let mut rows = table(&["of", "", "until", "who", "reason"]);
    for Overridden { scope, over } in &all {
        let until = Timestamp::from_second(over.until).unwrap_or(Timestamp::MAX).to_string();
        let power = over.power.to_string();
        rows.add_row([&shown(scope), &power, &until, &shown(&over.who), &shown(&over.reason)]);
    }
    match all.is_empty() {
        true => out("nothing is overridden"),
        false => out(rows),
    }
    Ok(())
}

/// Whether there is an override to be ended.
async fn there_is_one(store: &Store, whose: &Whose) -> Result<(), Error> {
    let scope = scope(whose);
    let over = store.override_of(&scope, Timestamp::now()).await;
    let over = over.doing(|| format!("reading the override of {scope}"))?;
    let none = || {
        let hint = "`flotilla schedule override --list` prints what is";
        Error::Fleet(format!("{scope} is overridden by nothing: {hint}"))
    };
    over.map(drop).ok_or_else(none)
}

/// What it is of, as the list names it.
fn scope(whose: &Whose) -> String {
    match whose {
        Whose { context: Some(id), .. } => format!("context/{id}"),
        Whose { tag: Some(key), .. } => format!("tag/{key}"),
        Whose { resource, .. } => resource.clone().unwrap_or_default(),
    }
}

fn told(over: Option<&Override>, clock: &TimeZone) -> String {
    let Some(over) = over else { return "as its schedule says".to_owned() };
    let until = Timestamp::from_second(over.until).unwrap_or(Timestamp::MAX);
    format!("{} until {until} ({})", over.power, until.to_zoned(clock.clone()).datetime())
}

async fn write(store: &Store, whose: &Whose, fields: &Value) -> Result<(), Error> {
    let found = match whose {
        Whose { context: Some(id), .. } => store.set_context(id, fields).await,
        Whose { tag: Some(key), .. } => store.set_tag(key, fields).await,
        Whose { resource, .. } => {
            store.hold(resource.as_deref().unwrap_or_default(), fields).await.map(|()| true)
        }
    };
    let found = found.doing(|| "writing the override".to_owned())?;
    found.then_some(()).ok_or_else(|| missing(whose))
}

fn missing(whose: &Whose) -> Error {
    let Whose { context, tag, .. } = whose;
    let (what, name) = if context.is_some() { ("context", context) } else { ("tag", tag) };
    Error::Fleet(format!("no {what} {:?} is registered", name.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_by_the_key_that_its_audit_has() {
        assert_eq!(key("ec2/eu-west-1/i-1").as_deref(), Ok("ec2:instance/eu-west-1/i-1"));
        let far = "rds:instance/210987654321/eu-west-1/orders";
        assert_eq!(key(far).as_deref(), Ok(far));
        for bad in ["", "i-1", "ec2/i-1", "moon/eu-west-1/i-1", "ec2//i-1"] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
