//! `flotilla dlq`: what could not be done, why, and another try.

mod look;
mod redrive;

use std::{collections::BTreeMap, time::Duration};

use clap::Subcommand;
use flotilla_runtime::queue::Queue;

use self::look::{not_looked_at, read};
use crate::{
    bucket,
    console::{note, out},
    dead_letters::Letter,
    error::Error,
    stop::Stop,
    target::{self, Target},
    verdict::table,
};

/// How much of a reason a table shows.
const SHORT: usize = 90;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows how many dead letters there are of each kind, and the letters.
    List {
        #[command(flatten)]
        chosen: Chosen,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one letter whole, with the last lines of its log.
    Show {
        /// Its id, or the id that its message had.
        id: String,
        #[command(flatten)]
        chosen: Chosen,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends letters back to their queue; their attempts are counted from zero. Says what it has not
    /// seen. Ctrl-C or SIGTERM puts back what it holds, and ends it with 130.
    Redrive {
        #[command(flatten)]
        chosen: Chosen,
        /// Only the letter of this id, or of the message of this id.
        #[arg(long)]
        id: Option<String>,
        /// How many letters a second at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Shows what would be sent back, and sends nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which letters.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// The kind of worker: grading, compile, schedule, anomaly; or the URL of a queue, where a worker
    /// has others than the stack's. Of a FIFO queue ten letters of a group are seen at a time.
    #[arg(long, value_name = "WORKER|QUEUE_URL")]
    of: String,
    /// Only letters of this kind, such as `unparsable` or `attempts_exhausted`.
    #[arg(long)]
    kind: Option<String>,
    /// Only letters whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
    #[command(flatten)]
    target: target::Which,
}

impl Chosen {
    fn takes(&self, letter: &Letter) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == letter.why.kind)
            && self.reason.as_ref().is_none_or(|text| letter.why.reason.contains(text))
    }

    /// The URLs of the queue and of its dead-letter queue.
    async fn queues(&self, target: &Target) -> Result<(String, String), Error> {
        if self.of.contains("://") {
            let opened = Queue::open(target.clients.sqs.clone(), &self.of).await;
            let queue = opened.map_err(|failure| Error::Fleet(failure.to_string()))?;
            return Ok((queue.url().to_owned(), queue.dead_letter_url().to_owned()));
        }
        let queues = target.stack.outputs().queues();
        let found = queues.iter().find(|(name, ..)| *name == self.of);
        let (_, queue, dead) = found.ok_or_else(|| {
            let known: Vec<_> = queues.iter().map(|(name, ..)| *name).collect();
            Error::Usage(format!("--of {}: there are {}", self.of, known.join(", ")))
        })?;
        Ok(((*queue).to_owned(), (*dead).to_owned()))
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let done = async {
        match args.action {
            Action::List { chosen, json } => list(&chosen, json, &stop).await,
            Action::Show { id, chosen, json } => show(&chosen, &id, json, &stop).await,
            Action::Redrive { chosen, id, rate, dry_run } => match dry_run {
                true => redrive::preview(&chosen, id.as_deref(), &stop).await,
                false => redrive::run(&chosen, id.as_deref(), rate, &stop).await,
            },
        }
    };
    tokio::select! {
        done = done => done,
        () = stop.impatient() => {
            note("asked twice: what was in hand comes back by itself, within five minutes");
            Err(Error::Interrupted)
        }
    }
}

async fn list(chosen: &Chosen, json: bool, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let (_, dead) = chosen.queues(&target).await?;
    let wanted = |it: &Letter| chosen.takes(it);
    let found = read(&target.clients, &dead, stop, wanted, chosen.limit).await?;
    if json {
        print_json(&found.letters)?;
    } else {
        print_list(&found.letters);
    }
    not_looked_at(&found, chosen.limit, &dead);
    Ok(())
}

fn none_of(chosen: &Chosen, id: &str) -> Error {
    Error::Fleet(format!("no dead letter of {} has the id {id}", chosen.of))
}

/// `1 dead letter was`, `2 dead letters were`.
fn counted(letters: usize) -> String {
    match letters {
        1 => "1 dead letter was".to_owned(),
        letters => format!("{letters} dead letters were"),
    }
}

fn print_list(letters: &[Letter]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    letters.iter().for_each(|it| *kinds.entry(&it.why.kind).or_default() += 1);
    let mut counts = table(&["kind", "letters"]);
    counts.add_rows(kinds.iter().map(|(kind, count)| [(*kind).to_owned(), count.to_string()]));
    out(format!("{} found", counted(letters.len())));
    if letters.is_empty() {
        return;
    }
    out(counts);
    let mut rows = table(&["id", "dead for", "kind", "worker", "reason"]);
    rows.add_rows(letters.iter().map(|it| {
        let worker = it.why.worker.clone().unwrap_or_default();
        [it.id.clone(), ago(it.age()), it.why.kind.clone(), worker, short(&it.why.reason)]
    }));
    out(rows);
}

async fn show(chosen: &Chosen, id: &str, json: bool, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let (_, dead) = chosen.queues(&target).await?;
    let found = read(&target.clients, &dead, stop, |it| it.is(id), chosen.limit).await?;
    let Some(letter) = found.letters.first() else {
        not_looked_at(&found, chosen.limit, &dead);
        return Err(none_of(chosen, id));
    };
    if json {
        return print_json(letter);
    }
    let why = &letter.why;
    out(format!("dead letter {} of {}, dead for {}", letter.id, chosen.of, ago(letter.age())));
    out(format!("  kind      {}\n  reason    {}", why.kind, why.reason));
    let known = [
        ("worker", &why.worker),
        ("image", &why.image),
        ("message", &why.message_id),
        ("trace", &why.trace_id),
        ("tenant", &letter.group),
        ("log", &why.log),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            out(format!("  {name:<9} {value}"));
        }
    }
    out(format!("body:\n{}", letter.body));
    if let Some((bucket, key)) = why.log.as_deref().and_then(place) {
        out(format!("log:\n{}", bucket::text(&target.clients, bucket, key).await?));
    }
    Ok(())
}

/// Bucket and key of an `s3://` address.
fn place(address: &str) -> Option<(&str, &str)> {
    address.strip_prefix("s3://")?.split_once('/')
}

fn short(reason: &str) -> String {
    let one_line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn print_json(what: &impl serde::Serialize) -> Result<(), Error> {
    out(serde_json::to_string_pretty(what).map_err(|e| Error::Fleet(e.to_string()))?);
    Ok(())
}
