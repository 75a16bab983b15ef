//! `flotilla dlq`: what could not be done, why, and another try.

mod delete;
mod look;
mod redrive;

use std::{collections::BTreeMap, time::Duration};

use clap::{Subcommand, builder::NonEmptyStringValueParser};
use flotilla_runtime::{payload::Payloads, queue::Queue};

use self::{
    look::{not_looked_at, read},
    redrive::Wish,
};
use crate::{
    aws::Clients,
    bucket,
    console::{note, one_line, out},
    dead_letters::Letter,
    error::Error,
    stack::KINDS,
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
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        chosen: Chosen,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends each letter back to the queue that it was on; their attempts are counted from zero. Says
    /// what it has not seen. Ctrl-C or SIGTERM puts back what it holds, and ends it with 130.
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
        /// Sends them to this queue instead, named as with --of.
        #[arg(long, value_name = "WORKER|QUEUE_URL")]
        to: Option<String>,
    },
    /// Deletes letters for good. Shows what it would delete, unless it is told --yes or the --id of one.
    Delete {
        #[command(flatten)]
        chosen: Chosen,
        /// Only the letter of this id, or of the message of this id.
        #[arg(long)]
        id: Option<String>,
        /// Deletes all that are chosen.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// Shows what would be deleted, and deletes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which letters.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// The kind of worker: grading, compile, schedule, anomaly; or one queue alone: compile-refresh, or
    /// the URL of any, also where a worker has others than the stack's. Of a FIFO queue ten letters of a group are seen at a time.
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

/// Which queues' letters are meant.
#[derive(Debug)]
struct Place {
    /// The URL of the queue, and of its dead-letter queue.
    queue: String,
    dead: String,
    /// Whether letters of other queues are meant too, where they are on the same dead-letter queue.
    all: bool,
}

impl Place {
    /// Whether a letter was on this queue, as far as it says.
    fn has(&self, letter: &Letter) -> bool {
        self.all || letter.home(&self.queue) == self.queue
    }
}

impl Chosen {
    fn takes(&self, place: &Place, letter: &Letter) -> bool {
        place.has(letter) && self.fits(letter)
    }

    fn fits(&self, letter: &Letter) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == letter.why.kind)
            && self.reason.as_ref().is_none_or(|text| letter.why.reason.contains(text))
    }

    async fn place(&self, target: &Target) -> Result<Place, Error> {
        if self.of.contains("://") {
            let opened = Queue::open(target.clients.sqs.clone(), &self.of).await;
            let queue = opened.map_err(|failure| Error::Fleet(failure.to_string()))?;
            let (queue, dead) = (queue.url().to_owned(), queue.dead_letter_url().to_owned());
            return Ok(Place { queue, dead, all: false });
        }
        let queues = target.stack.outputs().queues();
        let found = queues.iter().find(|(name, ..)| *name == self.of);
        let (name, queue, dead) = found.ok_or_else(|| {
            let known: Vec<_> = queues.iter().map(|(name, ..)| *name).collect();
            Error::Usage(format!("--of {}: there are {}", self.of, known.join(", ")))
        })?;
        let (queue, dead) = ((*queue).to_owned(), (*dead).to_owned());
        Ok(Place { queue, dead, all: KINDS.contains(name) })
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let done = async {
        match args.action {
            Action::List { chosen, json } => list(&chosen, json, &stop).await,
            Action::Show { id, chosen, json } => show(&chosen, &id, json, &stop).await,
            Action::Redrive { chosen, id, rate, dry_run, to } => {
                let wish = Wish { id, to, rate };
                match dry_run {
                    true => redrive::preview(&chosen, wish, &stop).await,
                    false => redrive::run(&chosen, wish, &stop).await,
                }
            }
            Action::Delete { chosen, id, yes, dry_run } => {
                let sure = !dry_run && (yes || id.is_some());
                match sure {
                    true => delete::run(&chosen, id.as_deref(), &stop).await,
                    false => delete::preview(&chosen, id.as_deref(), dry_run, &stop).await,
                }
            }
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
    let place = chosen.place(&target).await?;
    let (dead, wanted) = (&place.dead, |it: &Letter| chosen.takes(&place, it));
    let found = read(&target.clients, dead, stop, wanted, chosen.limit).await?;
    if json {
        print_json(&found.letters)?;
    } else {
        print_list(&found.letters);
    }
    not_looked_at(&found, chosen.limit, dead);
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
    counts.add_rows(kinds.iter().map(|(kind, it)| [one_line(kind).into_owned(), it.to_string()]));
    out(format!("{} found", counted(letters.len())));
    if letters.is_empty() {
        return;
    }
    out(counts);
    let mut rows = table(&["id", "dead for", "kind", "worker", "reason"]);
    rows.add_rows(letters.iter().map(|it| {
        let worker = it.why.worker.clone().unwrap_or_default();
        let (kind, worker) = (one_line(&it.why.kind).into_owned(), one_line(&worker).into_owned());
        [it.id.clone(), ago(it.age()), kind, worker, short(&it.why.reason)]
    }));
    out(rows);
}

async fn show(chosen: &Chosen, id: &str, json: bool, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let dead = chosen.place(&target).await?.dead;
    let found = read(&target.clients, &dead, stop, |it| it.is(id), chosen.limit).await?;
    let Some(letter) = found.letters.first() else {
        not_looked_at(&found, chosen.limit, &dead);
        return Err(none_of(chosen, id));
    };
    let payloads = &target.stack.outputs().payloads_bucket_name;
    let payloads = Payloads::new(target.clients.s3.clone(), payloads);
    let mut letter = letter.clone();
    if let Err(error) = letter.read_body(&payloads).await {
        note(format!("its body cannot be read: {}", crate::chain(&error)));
    }
    if let Err(error) = letter.read_attributes(&payloads).await {
        note(format!("its attributes cannot be read: {}", crate::chain(&error)));
    }
    if json {
        return print_json(&letter);
    }
    print_letter(chosen, &letter);
    print_log(&target.clients, &letter).await;
    Ok(())
}

fn print_letter(chosen: &Chosen, letter: &Letter) {
    let why = &letter.why;
    out(format!("dead letter {} of {}, dead for {}", letter.id, chosen.of, ago(letter.age())));
    out(format!("  kind      {}", one_line(&why.kind)));
    out(format!("  reason    {}", one_line(&why.reason)));
    let known = [
        ("queue", &why.queue),
        ("worker", &why.worker),
        ("image", &why.image),
        ("message", &why.message_id),
        ("trace", &why.trace_id),
        ("x-ray", &letter.trace_header),
        ("tenant", &letter.group),
        ("log", &why.log),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            out(format!("  {name:<9} {}", one_line(value)));
        }
    }
    letter.attribute_lines().for_each(|line| out(format!("  attribute {line}")));
    out(format!("body:\n{}", letter.body));
}

/// What it died of is known without its log, which may be gone.
async fn print_log(clients: &Clients, letter: &Letter) {
    let Some((bucket, key)) = letter.why.log.as_deref().and_then(place) else { return };
    match bucket::text(clients, bucket, key).await {
        Ok(text) => out(format!("log:\n{text}")),
        Err(error) => note(format!("its log cannot be read: {}", crate::chain(&error))),
    }
}

/// Bucket and key of an `s3://` address.
fn place(address: &str) -> Option<(&str, &str)> {
    address.strip_prefix("s3://")?.split_once('/')
}

fn short(reason: &str) -> String {
    let text = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = one_line(&text).into_owned();
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
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
