//! `schedule-executor resource start --service ec2 --ids i-1,i-2`: a handler alone, with no table,
//! queue or schedule.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::ExitCode,
};

use aws_config::SdkConfig;
use clap::{Parser, Subcommand, ValueEnum};
use flotilla_runtime::signed::Call;
use serde_json::json;

use crate::{
    arn::{Home, Target, region, short},
    handlers::{Accounts, AnyHandler, Handler, Limits, Places, Refusal, Seen, Subject},
    message::BATCH,
    plan::{Action, Asked, Observed, Step, reconcile},
    rows::{Mode, Service, attrib},
};

/// Starts and stops resources by schedule; without a command it is the worker.
///
/// The worker's settings are environment variables, or keys of the TOML file that FLOTILLA_CONFIG names;
/// workers/schedule-executor/README.md has them all.
#[derive(Debug, Parser)]
#[command(name = "schedule-executor", version)]
pub struct Cli {
    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done without a queue.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts, stops or shows resources by their ids or ARNs, with no table, queue or schedule.
    Resource(Args),
}

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[arg(value_enum)]
    what: What,
    /// The kind of resource: ec2, rds, aurora, asg, ecs, appstream, or as in a table.
    #[arg(long, value_parser = kind)]
    service: Service,
    /// Ids or ARNs, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    ids: Vec<String>,
    /// The region of ids that are no ARNs; that of the environment by default.
    #[arg(long, value_parser = place)]
    region: Option<String>,
    /// The new class for modclass; else such as `hibernate`, `types=m5a.large`, `size=1/4/2`.
    #[arg(long, default_value = "")]
    attrib: String,
    /// The role to take in the accounts that ARNs name: a name, or an ARN with {account} in it.
    #[arg(long, env = "FLOTILLA_ROLE")]
    role: Option<String>,
    /// The account of the credentials, where STS is not to be asked for it.
    #[arg(long, env = "FLOTILLA_ACCOUNT")]
    account: Option<String>,
    /// Looks and asks for the permission, and switches nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON, an object on each line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Start,
    Stop,
    Modclass,
    Show,
}

fn kind(name: &str) -> Result<Service, String> {
    let known = "ec2, rds, aurora, asg, ecs, appstream";
    Service::named(name)
        .ok_or_else(|| format!("{name:?} is no kind of resource: say one of {known}"))
}

fn place(name: &str) -> Result<String, String> {
    region(name).map(|()| name.to_owned())
}

/// What became of one resource.
struct Line {
    key: String,
    outcome: &'static str,
    why: String,
}

/// Does it, and prints a line for each resource. It fails if any of them did.
pub async fn run(args: Args, sdk: &SdkConfig) -> ExitCode {
    if let Err(why) = attribute(&args) {
        eprintln!("{why}");
        return ExitCode::from(2);
    }
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    let account = own_account(&args, sdk, &region).await;
    let home = Home { account, region: args.region.clone().unwrap_or(region) };
    let accounts =
        Accounts { own: home.account.clone(), role: args.role.clone(), external_id: None };
    let (places, limits) = (Places::new(sdk, accounts), Limits::default());
    let (mut lines, mut groups) = (Vec::new(), BTreeMap::<_, BTreeSet<String>>::new());
    for id in &args.ids {
        match located(&home, args.service, id) {
            Ok(it) => drop(groups.entry((it.account, it.region)).or_default().insert(it.id)),
            Err(why) => lines.push(Line { key: short(id), outcome: "failed", why }),
        }
    }
    for ((account, region), ids) in groups {
        let ids: Vec<String> = ids.into_iter().collect();
        for ids in ids.chunks(BATCH) {
            let caller = limits.caller(&account, &region, args.service);
            let done = match places.at(&account, &region).await {
                Ok(sdk) => {
                    let handler = AnyHandler::new(args.service, &sdk, caller);
                    switch(&args, &handler, &region, ids).await
                }
                Err(why) => all_failed(&args, &region, ids, &why),
            };
            lines.extend(done);
        }
    }
    print(&lines, args.json);
    match lines.iter().any(|line| line.outcome == "failed") {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// A class is for MODCLASS of databases; else words that the kind reads.
fn attribute(args: &Args) -> Result<(), String> {
    let has_class = matches!(args.service, Service::Rds | Service::Cluster);
    match args.what {
        What::Modclass if !has_class => {
            Err(format!("modclass is for rds and aurora, and not for {}", args.service.name()))
        }
        What::Modclass if args.attrib.trim().is_empty() => {
            Err("modclass needs the new class: name it with --attrib, such as db.t3.large"
                .to_owned())
        }
        What::Modclass => Ok(()),
        _ => attrib::check(args.service, &args.attrib).map_err(|why| format!("--attrib: {why}")),
    }
}

/// Where an id or ARN is, or why nothing can be asked of it.
fn located(home: &Home, service: Service, id: &str) -> Result<Target, String> {
    let kind = service.name();
    if id.trim().is_empty() {
        return Err(format!("an id of {kind} is empty: name each with --ids, separated by commas"));
    }
    let target = home.target(service, id).map_err(|why| {
        format!("{why}: name an id or an ARN of this kind, or another kind with --service")
    })?;
    if target.region.is_empty() {
        return Err(format!("no region is known for {kind} {}: name it with --region", short(id)));
    }
    home.has(&target).map_err(|why| format!("{why}: correct the ARN {}", short(id)))?;
    Ok(target)
}

/// Why something failed, and what to do.
fn explained(why: &Refusal) -> String {
    format!("{}: {}", why.message, why.advice())
}

/// The account that the credentials are of, where an ARN makes it matter: that of another is not
/// to be taken for it. Empty where it cannot be told, so that ARNs need a role.
async fn own_account(args: &Args, sdk: &SdkConfig, region: &str) -> String {
    if let Some(account) = &args.account {
        return account.clone();
    }
    if !args.ids.iter().any(|id| id.starts_with("arn:")) {
        return String::new();
    }
    let own = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
    let url = own.iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let url = url.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
    let call = Call {
        service: "sts",
        region,
        url: &format!("{}/", url.trim_end_matches('/')),
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: Some("Action=GetCallerIdentity&Version=2011-06-15"),
    };
    let answer = call.send(sdk).await.map(|(_, body)| body).unwrap_or_default();
    let account = answer.split_once("<Account>").and_then(|(_, rest)| rest.split_once('<'));
    account.map(|(account, _)| account.to_owned()).unwrap_or_default()
}

async fn switch(args: &Args, handler: &AnyHandler, region: &str, ids: &[String]) -> Vec<Line> {
    let seen = match handler.observe(ids).await {
        Ok(seen) => seen,
        Err(why) => return all_failed(args, region, ids, &why),
    };
    let of = |id: &String| seen.get(id).cloned().unwrap_or_else(|| Observed::Gone.into());
    let action = match args.what {
        What::Start => Action::Start,
        What::Stop => Action::Stop,
        What::Modclass => Action::ModClass,
        What::Show => {
            let show = |id: &String| match of(id).refused {
                Some(why) => unseen(args, region, id, &why),
                None => line(args, region, id, "seen", of(id).state.name().to_owned()),
            };
            return ids.iter().map(show).collect();
        }
    };
    let (mut lines, mut due) = (Vec::new(), Vec::new());
    for id in ids {
        if let Some(why) = of(id).refused {
            lines.push(unseen(args, region, id, &why));
            continue;
        }
        match step(args, action, &of(id)) {
            Step::Act(..) => due.push(subject(args, id)),
            Step::Skip("gone", why) => {
                let why = format!("{why}: correct the id, or name where it is with --region");
                lines.push(line(args, region, id, "failed", why));
            }
            Step::Skip(_, why) => lines.push(line(args, region, id, "skipped", why)),
        }
    }
    lines.extend(act(args, action, handler, region, &due, of).await);
    lines
}

async fn act(
    args: &Args,
    action: Action,
    handler: &AnyHandler,
    region: &str,
    due: &[Subject],
    of: impl Fn(&String) -> Seen,
) -> Vec<Line> {
    if due.is_empty() {
        return Vec::new();
    }
    let outcomes = match args.dry_run {
        false => handler.act(action, due).await,
        true => {
            let ids: Vec<String> = due.iter().map(|it| it.id.clone()).collect();
            handler.permitted(action, &ids).await
        }
    };
    let told = |(id, outcome): (String, Result<String, Refusal>)| {
        let seen = of(&id);
        let size = seen.size.map(|size| format!(", size {size}")).unwrap_or_default();
        match outcome {
            Ok(note) => {
                let outcome = if args.dry_run { "dry_run" } else { "done" };
                let why = format!("{}, was {}{size} {note}", action.name(), seen.state.name());
                line(args, region, &id, outcome, why.trim_end().to_owned())
            }
            Err(why) => {
                let what = format!("{} failed: {}", action.name(), explained(&why));
                line(args, region, &id, "failed", what)
            }
        }
    };
    outcomes.into_iter().map(told).collect()
}

fn step(args: &Args, action: Action, seen: &Seen) -> Step {
    let asked = Asked {
        action,
        service: args.service,
        mode: Mode::Enforce,
        hand: true,
        chosen: None,
        reason: "by command",
        tick: jiff::Timestamp::now(),
    };
    reconcile(asked, None, &seen.state, asked.tick)
}

fn subject(args: &Args, id: &str) -> Subject {
    Subject { id: id.to_owned(), attrib: args.attrib.clone(), size: None }
}

fn line(args: &Args, region: &str, id: &str, outcome: &'static str, why: String) -> Line {
    let (account, region, id) = (String::new(), region.to_owned(), id.to_owned());
    let key = Target { account, region, service: args.service, id }.key();
    Line { key, outcome, why }
}

fn all_failed(args: &Args, region: &str, ids: &[String], why: &Refusal) -> Vec<Line> {
    ids.iter().map(|id| unseen(args, region, id, why)).collect()
}

fn unseen(args: &Args, region: &str, id: &str, why: &Refusal) -> Line {
    line(args, region, id, "failed", format!("looking at it failed: {}", explained(why)))
}

fn print(lines: &[Line], as_json: bool) {
    let mut out = std::io::stdout().lock();
    for Line { key, outcome, why } in lines {
        let text = match as_json {
            true => json!({ "resource": key, "outcome": outcome, "reason": why }).to_string(),
            false => format!("{outcome:8} {key}: {why}"),
        };
        // A reader that has gone away is no failure of what was done.
        let _ = writeln!(out, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_changed_to_one_that_is_named_and_of_what_has_one() {
        let checked = |line: &[&str]| {
            let line = [&["flotilla", "resource", "modclass", "--ids", "a"], line].concat();
            let Some(Command::Resource(args)) = Cli::try_parse_from(line).unwrap().command else {
                panic!("it is a command")
            };
            attribute(&args)
        };
        assert_eq!(checked(&["--service", "aurora", "--attrib", "db.r6g.large"]), Ok(()));
        let why = checked(&["--service", "rds"]).unwrap_err();
        assert!(why.contains("--attrib"), "{why}");
        let why = checked(&["--service", "ec2", "--attrib", "m5a.large"]).unwrap_err();
        assert!(why.contains("rds") && why.contains("ec2:instance"), "{why}");
    }

    #[test]
    fn what_cannot_be_asked_for_is_said_of_its_id_with_what_to_do() {
        let home = |region: &str| Home { account: String::new(), region: region.to_owned() };
        let why = |region: &str, id| located(&home(region), Service::Ec2, id).unwrap_err();
        for (region, id, words) in [
            ("eu-west-1", "arn:aws:rds:eu-west-1:1:db:orders", ["db:orders", "--service"]),
            ("eu-west-1", "arn:aws:ec2:mars-1:1:instance/i-1", ["mars-1", "correct the ARN"]),
            ("", "i-1", ["i-1", "--region"]),
            ("eu-west-1", "", ["empty", "--ids"]),
            ("eu-west-1", "arn:aws:ec2:eu-west-1:1:instance/i-1", ["12 digits", "correct the ARN"]),
        ] {
            let said = why(region, id);
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        assert!(kind("moon").unwrap_err().contains("aurora"));
        let denied = explained(&Refusal::under_way("i-1", "STOP of it is under way"));
        assert!(denied.contains("i-1") && denied.contains("ask again"), "{denied}");
    }
}
