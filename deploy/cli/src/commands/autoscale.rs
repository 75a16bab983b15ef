//! `flotilla autoscale`: replay a log of decisions, simulate policies on a trace, freeze an autoscaler and let it go on.

mod freeze;
mod simulate;

use std::{fs::File, io::BufReader, path::PathBuf};

use clap::Subcommand;
use flotilla_autoscaling::{Mismatch, Replayed, Shadow, records, replay};

use crate::{
    console::{note, out},
    error::{Doing, Error},
    target::Which,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes every decision of a log again; exits 1 and says where, if one comes out differently.
    Replay {
        /// A file that FLOTILLA_DECISION_LOG of an autoscaler named.
        log: PathBuf,
    },
    /// Says what the autoscaler would have cost beside the policy in charge, by its log.
    Shadow {
        /// A file that FLOTILLA_DECISION_LOG of an autoscaler named (FLOTILLA_SHADOW=true for one
        /// that only watches).
        log: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs policies on a trace, and says what they cost and how long jobs wait.
    Simulate(simulate::Args),
    /// Has the autoscaler of a group go on to decide and to log, and do nothing.
    Freeze {
        #[command(flatten)]
        of: Group,
        /// Why, for the log.
        #[arg(long, default_value = "by an operator")]
        why: String,
    },
    /// Has a frozen autoscaler act again.
    Thaw {
        #[command(flatten)]
        of: Group,
    },
}

#[derive(Debug, clap::Args)]
struct Group {
    /// The Auto Scaling group: one that has workers or an autoscaler, or that Auto Scaling knows.
    group: String,
    #[command(flatten)]
    stack: Which,
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Replay { log } => replay_log(&log),
        Action::Shadow { log, json } => shadow(&log, json),
        Action::Simulate(args) => simulate::run(&args),
        Action::Freeze { of, why } => freeze::freeze(&of, &why).await,
        Action::Thaw { of } => freeze::thaw(&of).await,
    }
}

fn replay_log(path: &std::path::Path) -> Result<(), Error> {
    let log = File::open(path).doing(|| format!("reading {}", path.display()))?;
    let Replayed { count, mismatches, unread } = replay(BufReader::new(log));
    mismatches.iter().for_each(tell);
    unread.iter().for_each(|why| out(crate::chain(why)));
    match (mismatches.len(), unread.len()) {
        // Whoever replays a file that holds none has named another, or one of a standby.
        (0, 0) if count == 0 => Err(no_decision(path)),
        (0, 0) => {
            out(format!("{count} decisions, made again: each the same"));
            Ok(())
        }
        (different, unread) => Err(Error::Fleet(format!(
            "{}: {different} of {count} decisions come out differently (made by another version?), \
             and {unread} line(s) could not be read",
            path.display()
        ))),
    }
}

fn no_decision(path: &std::path::Path) -> Error {
    Error::Fleet(format!("{}: there is no decision in it", path.display()))
}

fn shadow(path: &std::path::Path, json: bool) -> Result<(), Error> {
    let log = File::open(path).doing(|| format!("reading {}", path.display()))?;
    let (mut shadow, mut count) = (Shadow::default(), 0);
    for read in records(BufReader::new(log)) {
        match read {
            Ok((_, record)) => {
                count += 1;
                shadow.note(&record.observed, &record.policy, record.now);
            }
            Err(why) => note(format!("left out: {}: {}", path.display(), crate::chain(&why))),
        }
    }
    if count == 0 {
        return Err(no_decision(path));
    }
    let report = shadow.report();
    match json {
        true => out(serde_json::to_string(&report).unwrap_or_default()),
        false => out(report.words()),
    }
    Ok(())
}

fn tell(mismatch: &Mismatch) {
    let Mismatch { line, was, is } = mismatch;
    out(format!("line {line}"));
    for (word, decision) in [("was", was), ("is ", is)] {
        let going = decision.remove.join(" ");
        out(format!("  {word} {} instances; {}; go: [{going}]", decision.desired, decision.reason));
    }
    if (was.desired, &was.remove, &was.reason) == (is.desired, &is.remove, &is.reason) {
        out("  what is remembered differs");
    }
}
