//! `flotilla pause`, `resume`, `drain` and `cancel`: what an operator orders of running workers.

use clap::builder::NonEmptyStringValueParser;
use flotilla_runtime::{
    aws::dynamo_client,
    control,
    control::Order,
    ledger::{Ended, Ledger, Open},
};

use crate::{
    console::{note, out},
    error::Error,
    stack::KINDS,
    target::{self, Target},
};

/// So many jobs are named whose keys begin with an id that is none.
const NEAR: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kind of worker (grading, compile, schedule, anomaly), or the id of one.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    worker: String,
    #[command(flatten)]
    target: target::Which,
}

/// The message goes whole to the dead-letter queue, from where it can be redriven. A job that no worker
/// has begun with stands in no table yet: --in-advance cancels the first one of its id that a worker
/// begins with within two weeks. Where nothing is found to cancel, or the job is done, the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// The kind of worker: grading, compile.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    worker: String,
    /// The job: the key of its effect, a part of that between slashes (a submission's id, a build's
    /// key), or the id of its message on SQS (as in the log).
    id: String,
    /// Cancels what no worker has begun with yet; the id is its whole key, a part of that between slashes
    /// (a submission's id, say), or the id of its message.
    #[arg(long)]
    in_advance: bool,
    /// Why, for the dead letter and for whoever waits.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    #[command(flatten)]
    target: target::Which,
}

pub(crate) async fn run(args: Args, order: Order) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    known(&target, &args.worker)?;
    let client = dynamo_client(&target.clients.sdk);
    let table = &target.stack.outputs().ledger_table_name;
    let control = control::Control::new(client, table);
    control.order(&args.worker, order).await.map_err(|e| Error::Fleet(e.to_string()))?;
    let what = match order {
        Order::Pause => "receives nothing more, and finishes what it has",
        Order::Resume => "receives again",
        Order::Drain => "finishes what it has or hands it back, and ends",
    };
    out(format!("{} {what}, within about ten seconds", args.worker));
    Ok(())
}

/// A name that no worker has would be obeyed by nobody, in silence. Which workers there are is
/// known of those of this machine alone; of others it is said what that means.
fn known(target: &Target, name: &str) -> Result<(), Error> {
    if KINDS.contains(&name) {
        return Ok(());
    }
    let kinds = KINDS.join(", ");
    let Some(here) = &target.note else {
        note(format!(
            "{name} is no kind of worker (there are {kinds}), but may be the id of one: where none \
             has it, nobody obeys"
        ));
        return Ok(());
    };
    let ids: Vec<_> = here.workers.iter().map(|worker| worker.id.as_str()).collect();
    if ids.contains(&name) {
        return Ok(());
    }
    let ids = ids.join(", ");
    Err(Error::Usage(format!("no worker is called {name}: there are {kinds}, and {ids}")))
}

/// An empty id is the beginning of all; and what may happen twice can be kept from nothing.
fn cancellable(args: &CancelArgs) -> Result<(), Error> {
    if args.id.trim().is_empty() {
        return Err(Error::Usage("which job? Its id is empty".to_owned()));
    }
    match args.worker == "anomaly" {
        true => Err(Error::Usage("a reading cannot be cancelled: it may come twice".to_owned())),
        false => Ok(()),
    }
}

/// A kind that no worker is of has no jobs: a cancel of one in advance would look done, and be nothing.
/// As with other orders, which kinds there are is known of a fleet of this machine alone.
fn is_kind(local: bool, kind: &str) -> Result<(), Error> {
    if !local || KINDS.contains(&kind) {
        return Ok(());
    }
    let kinds = KINDS.join(", ");
    Err(Error::Usage(format!("no worker is of the kind {kind}: there are {kinds}")))
}

pub(crate) async fn cancel(args: CancelArgs) -> Result<(), Error> {
    cancellable(&args)?;
    let target = Target::find(&args.target).await?;
    is_kind(target.note.is_some(), &args.worker)?;
    let table = &target.stack.outputs().ledger_table_name;
    let client = dynamo_client(&target.clients.sdk);
    let ledger = Ledger::new(client.clone(), table, "", std::time::Duration::ZERO);
    let told = |e: flotilla_runtime::Failure| Error::Fleet(e.to_string());
    let (kind, wanted) = (format!("{}/", args.worker), whole_key(&args.worker, &args.id));
    let open = ledger.open(&kind).await.map_err(told)?;
    let (open, others): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|it| is_of(it, &args.worker, &args.id));
    match meant(&open, &wanted)? {
        Some(meant) => cancel_begun(&ledger, meant, &args.reason).await,
        None => {
            // What is done is in none of these; its own row says so.
            let ended = ledger.ended(&wanted).await.map_err(told)?;
            if ended.is_some() || !args.in_advance {
                return Err(nothing(&args, &wanted, ended, &others));
            }
            let control = control::Control::new(client, table);
            let CancelArgs { worker, id, reason, .. } = &args;
            control.cancel_in_advance(worker, id, reason).await.map_err(told)?;
            out(format!(
                "{wanted} is cancelled in advance: the first job of {worker} of this id that a worker \
                 begins with in the next two weeks is dead-lettered"
            ));
            Ok(())
        }
    }
}

async fn cancel_begun(ledger: &Ledger, meant: &Open, reason: &str) -> Result<(), Error> {
    let told = |e: flotilla_runtime::Failure| Error::Fleet(e.to_string());
    let key = &meant.key;
    if !ledger.cancel(key, reason).await.map_err(told)? {
        return Err(over(key, ledger.ended(key).await.map_err(told)?));
    }
    out(match meant.held {
        true => format!("{key} is cancelled: its worker ends it at the next heartbeat"),
        false => format!("{key} is cancelled: it is not tried again"),
    });
    Ok(())
}

/// The key that an id is, whether it names the kind of worker or not.
fn whole_key(worker: &str, id: &str) -> String {
    match id.strip_prefix(worker).is_some_and(|rest| rest.starts_with('/')) {
        true => id.to_owned(),
        false => format!("{worker}/{id}"),
    }
}

/// Whether an id is an effect's key, parts of it from the first on, another part of it, or the id of its
/// message. What is only the beginning of a part may be the whole id of another job, which waits or is done.
fn is_of(open: &Open, worker: &str, id: &str) -> bool {
    let begins = open.key.strip_prefix(&whole_key(worker, id));
    let own = open.key.strip_prefix(worker).unwrap_or(&open.key);
    open.message_id.as_deref() == Some(id)
        || begins.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || own.split('/').any(|part| !part.is_empty() && part == id)
}

fn over(key: &str, ended: Option<Ended>) -> Error {
    Error::Fleet(match ended {
        Some(Ended::Buried) => format!(
            "{key} is dead-lettered already: there is nothing to cancel (`flotilla dlq` shows, \
             redrives and deletes it)"
        ),
        _ => format!("{key} is done: there is nothing to cancel"),
    })
}

/// What there is to say where nothing was found to cancel. Of other jobs those are told that begin so.
fn nothing(args: &CancelArgs, wanted: &str, ended: Option<Ended>, others: &[Open]) -> Error {
    let CancelArgs { worker, id, .. } = args;
    if ended.is_some() {
        return over(wanted, ended);
    }
    let near = others.iter().map(|it| it.key.as_str()).filter(|key| key.starts_with(wanted));
    let near: Vec<_> = near.take(NEAR).collect();
    let near = match near.is_empty() {
        true => String::new(),
        false => format!(". Some begin so; whole, they are\n  {}", near.join("\n  ")),
    };
    Error::Fleet(format!(
        "nothing is cancelled: no job of {worker} that was begun and is not done has {id} as its \
         key, a part of it, or its message's id; one that still waits on the queue is cancelled \
         with --in-advance{near}"
    ))
}

/// Which of the open effects that were found is meant: the one whose key is no longer than what is asked
/// for, or else the only one.
fn meant<'a>(open: &'a [Open], wanted: &str) -> Result<Option<&'a Open>, Error> {
    match (open.iter().find(|it| it.key == wanted), open) {
        (Some(exact), _) => Ok(Some(exact)),
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(one)),
        (None, several) => {
            let keys: Vec<_> = several.iter().map(|it| it.key.as_str()).collect();
            let which = keys.join("\n  ");
            Err(Error::Usage(format!("{wanted} may be any of these:\n  {which}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct One {
        #[command(flatten)]
        args: CancelArgs,
    }

    #[derive(Debug, Parser)]
    struct Told {
        #[command(flatten)]
        _args: Args,
    }

    #[test]
    fn an_order_to_a_worker_without_a_name_is_refused() {
        assert!(Told::try_parse_from(["flotilla", "grading"]).is_ok());
        assert!(Told::try_parse_from(["flotilla", ""]).is_err());
        assert!(One::try_parse_from(["flotilla", "", "an-id"]).is_err());
    }

    fn opened(key: &str, message_id: Option<&str>) -> Open {
        Open { key: key.to_owned(), held: true, message_id: message_id.map(str::to_owned) }
    }

    #[test]
    fn a_whole_key_is_meant_though_others_are_below_it() {
        let open = ["w/a/1", "w/a", "w/b/1"].map(|key| opened(key, None));
        let key = |open, wanted: &str| meant(open, wanted).unwrap().map(|it| it.key.as_str());
        assert_eq!(key(&open[..2], "w/a"), Some("w/a"));
        assert_eq!(key(&open[2..], "w/b"), Some("w/b/1"), "the only one that is found");
        assert_eq!(key(&[], "w/c"), None);
        let why = meant(&open, "w/").unwrap_err().to_string();
        assert!(open.iter().all(|it| why.contains(&it.key)), "{why}");
    }

    #[test]
    fn no_other_job_is_cancelled_that_only_begins_as_the_one_which_waits_or_is_done() {
        let args = One::try_parse_from(["flotilla", "grading", "sub-1"]).unwrap().args;
        let other = opened("grading/sub-10/abc", None);
        assert!(!is_of(&other, &args.worker, &args.id));
        let why = nothing(&args, "grading/sub-1", None, &[other]).to_string();
        assert!(
            why.contains("nothing is cancelled") && why.ends_with("grading/sub-10/abc"),
            "{why}"
        );
    }

    #[test]
    fn only_jobs_of_a_kind_that_there_is_and_that_can_be_cancelled_are() {
        let args = |worker: &str| {
            let line = ["flotilla", worker, "an-id", "--in-advance"];
            One::try_parse_from(line).unwrap().args
        };
        for (worker, exit) in
            [("grading", None), ("compile", None), ("anomaly", Some(2)), ("foo", Some(2))]
        {
            let refused = cancellable(&args(worker)).and_then(|()| is_kind(true, worker));
            assert_eq!(refused.err().map(|it| it.exit_code()), exit, "{worker}");
        }
        assert!(is_kind(false, "another").is_ok(), "a fleet elsewhere may have kinds of its own");
    }

    #[test]
    fn what_has_ended_is_not_cancelled_and_it_is_said_how() {
        for (ended, said) in [(Ended::Buried, "is dead-lettered already"), (Ended::Done, "is done")]
        {
            let error = over("grading/a", Some(ended));
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_job_is_known_by_a_part_of_its_key_or_by_its_messages_id() {
        let open = opened("compile/abc/1", Some("a-message"));
        let known = ["abc", "1", "abc/1", "compile/abc", "compile/abc/1", "a-message"];
        for id in known {
            assert!(is_of(&open, "compile", id), "{id}");
        }
        for id in ["a-messag", "ab", "abc/", "compile", "compile/ab", "compile/", "/abc", ""] {
            assert!(!is_of(&open, "compile", id), "{id}");
        }
    }
}
