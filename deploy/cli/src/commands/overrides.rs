//! `flotilla schedule override`: a state for some time, whatever the rules say.

use flotilla_runtime::tally;
use jiff::{Timestamp, tz::TimeZone};
use schedule_executor::{
    arn::{Home, Scope, account_of_queue},
    rows::ALL,
    schedule::{Override, zone},
    store::{Overridden, Store},
};
use serde_json::{Value, json};

use crate::{
    console::{note, out},
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
    /// The IANA zone of a time of day, for a resource: by default that of the context that has it, and
    /// UTC where none does. A context or tag goes by its own.
    #[arg(long, conflicts_with_all = ["context", "tag", "list", "end"])]
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
    #[arg(long, value_parser = not_empty)]
    context: Option<String>,
    /// Of this tag.
    #[arg(long, value_parser = not_empty)]
    tag: Option<String>,
    /// Of this resource, by its key in the audit, ec2:instance/eu-west-1/i-0123456789abcdef0, or by
    /// its kind and id, ec2/i-0123456789abcdef0.
    #[arg(long, value_parser = not_empty)]
    resource: Option<String>,
    /// Of all: prints each that holds, with who asked for it and until when.
    #[arg(long)]
    list: bool,
}

/// No table has a row without a name, and DynamoDB says so in words of its own.
pub(super) fn not_empty(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("the name is empty".to_owned()),
        false => Ok(text.to_owned()),
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
    let scope = scope(&args.whose, &home)?;
    let clock = clock(&store, &home, (&args, &scope)).await?;
    let now = Timestamp::now();
    let (over, fields) = match args.end {
        true => {
            let over = there_is_one(&store, &scope, now).await?.ended(now);
            // Of a context or tag it tells when it was switched back.
            let over = Some(over).filter(|_| !matches!(scope, Scope::Resource(_)));
            (None, json!({ "override": over }))
        }
        false => {
            let over = read(&args, &clock)?;
            (Some(over.clone()), json!({ "override": over }))
        }
    };
    let told = told(over.as_ref(), &clock);
    if args.dry_run {
        out(format!("it would be {told}"));
        return Ok(());
    }
    write(&store, &scope, &fields).await?;
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
    let acts = store.switched_by(&home, &scope, now).await;
    if let Err(why) = acts.doing(|| "reading who switches it".to_owned())? {
        note(format!("nothing switches it now: {why}"));
    }
    Ok(())
}

/// The zone on whose clock a time of day is.
async fn clock(
    store: &Store,
    home: &Home,
    (args, scope): (&Args, &Scope),
) -> Result<TimeZone, Error> {
    let reading = || "reading the schedule".to_owned();
    let scheduling = match scope {
        Scope::Context(id) => store.context(id).await.doing(reading)?.map(|it| it.scheduling),
        Scope::Tag(key) => store.tag(key).await.doing(reading)?.map(|it| it.scheduling),
        Scope::Resource(target) => {
            let name = match &args.zone {
                Some(said) => said.clone(),
                None => store.zone_of(home, &target.key()).await.doing(reading)?,
            };
            return zone(&name).map_err(|why| Error::Usage(why.to_string()));
        }
    };
    let scheduling = scheduling.ok_or_else(|| missing(scope))?;
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

/// The override that is to be ended.
async fn there_is_one(store: &Store, scope: &Scope, now: Timestamp) -> Result<Override, Error> {
    let scope = scope.name();
    let over = store.override_of(&scope, now).await;
    let over = over.doing(|| format!("reading the override of {scope}"))?;
    let none = || {
        let hint = "`flotilla schedule override --list` prints what is";
        Error::Fleet(format!("{scope} is overridden by nothing: {hint}"))
    };
    over.ok_or_else(none)
}

/// What it is of.
fn scope(whose: &Whose, home: &Home) -> Result<Scope, Error> {
    let resource = match whose {
        Whose { context: Some(id), .. } => return Ok(Scope::Context(id.clone())),
        Whose { tag: Some(key), .. } => return Ok(Scope::Tag(key.clone())),
        Whose { resource, .. } => resource.as_deref().unwrap_or_default(),
    };
    match home.scope(resource) {
        Ok(scope @ Scope::Resource(_)) => Ok(scope),
        Ok(_) => Err(Error::Usage(format!("--resource {resource:?} is no resource"))),
        Err(why) => Err(Error::Usage(format!("--resource: {why}"))),
    }
}

fn told(over: Option<&Override>, clock: &TimeZone) -> String {
    let Some(over) = over else { return "as its schedule says".to_owned() };
    let until = Timestamp::from_second(over.until).unwrap_or(Timestamp::MAX);
    format!("{} until {until} ({})", over.power, until.to_zoned(clock.clone()).datetime())
}

async fn write(store: &Store, scope: &Scope, fields: &Value) -> Result<(), Error> {
    let found = match scope {
        Scope::Context(id) if id == ALL => Ok(false),
        Scope::Context(id) => store.set_context(id, fields).await,
        Scope::Tag(key) => store.set_tag(key, fields).await,
        Scope::Resource(target) => store.hold(&target.key(), fields).await.map(|()| true),
    };
    let found = found.doing(|| "writing the override".to_owned())?;
    found.then_some(()).ok_or_else(|| missing(scope))
}

fn missing(scope: &Scope) -> Error {
    Error::Fleet(format!("{:?} is not registered", scope.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_by_the_key_that_its_audit_has() {
        let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
        let named = |text: &str| {
            let (context, tag, resource) = (None, None, Some(text.to_owned()));
            let named = scope(&Whose { context, tag, resource, list: false }, &home);
            named.map(|it| it.name()).map_err(|why| why.to_string())
        };
        let key = "ec2:instance/eu-west-1/i-1";
        for text in ["ec2/eu-west-1/i-1", "ec2/i-1", key] {
            assert_eq!(named(text).as_deref(), Ok(key));
        }
        let far = "rds:instance/210987654321/eu-west-1/orders";
        assert_eq!(named("rds/210987654321/eu-west-1/Orders").as_deref(), Ok(far));
        for bad in ["", "i-1", "ec2/mars-1/i-1", "moon/eu-west-1/i-1", "ec2//i-1", "context/web"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_zone_is_not_taken_for_a_context_that_has_its_own() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parse = |line: &[&str]| {
            let line = [&["override", "on", "for", "3 h"], line].concat();
            <Line as clap::Parser>::try_parse_from(line).map(|it| it.args.zone)
        };
        assert!(parse(&["--resource", "ec2/i-1", "--zone", "UTC"]).is_ok());
        assert!(parse(&["--context", "web"]).is_ok());
        assert!(parse(&["--context", "web", "--zone", "UTC"]).is_err());
        assert!(parse(&["--tag", "env", "--zone", "UTC"]).is_err());
    }

    #[test]
    fn an_empty_name_is_refused_before_anything_is_asked() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        for whose in ["--context", "--tag", "--resource"] {
            let line = ["override", "on", "for", "3 h", whose, ""];
            let parsed = <Line as clap::Parser>::try_parse_from(line);
            let refused = parsed.map(|it| it.args).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{whose}");
            assert!(refused.to_string().contains("the name is empty"), "{refused}");
        }
    }
}
