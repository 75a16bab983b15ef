//! `flotilla dlq`: what could not be done, why, and another try.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use clap::Subcommand;
use flotilla_runtime::{queue::Queue, tally};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    aws::Clients,
    bucket,
    console::{note, out},
    dead_letters::{DeadLetters, Letter},
    error::Error,
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
    /// Sends letters back to their queue; their attempts are counted from zero.
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
    match args.action {
        Action::List { chosen, json } => list(&chosen, json).await,
        Action::Show { id, chosen, json } => show(&chosen, &id, json).await,
        Action::Redrive { chosen, id, rate, dry_run } => {
            redrive(&chosen, id.as_deref(), rate, dry_run).await
        }
    }
}

/// Every letter that is asked for; all are visible again after it.
async fn read(
    clients: &Clients,
    dead: &str,
    wanted: impl Fn(&Letter) -> bool,
    limit: usize,
) -> Result<Vec<Letter>, Error> {
    let mut letters = DeadLetters::new(clients, dead);
    let mut found = Vec::new();
    let looked = async {
        while found.len() < limit {
            let batch = letters.next().await?;
            if batch.is_empty() {
                break;
            }
            found.extend(batch.into_iter().filter(&wanted));
        }
        Ok(())
    };
    let looked = looked.await;
    letters.put_back().await?;
    looked?;
    found.truncate(limit);
    found.sort_by_key(|letter| letter.sent_at);
    Ok(found)
}

async fn list(chosen: &Chosen, json: bool) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let (_, dead) = chosen.queues(&target).await?;
    let letters = read(&target.clients, &dead, |it| chosen.takes(it), chosen.limit).await?;
    if json {
        return print_json(&letters);
    }
    print_list(&letters);
    unseen(&dead);
    Ok(())
}

/// Says what SQS keeps from whoever looks through a FIFO queue: while ten letters of a group are in
/// hand, it gives no more of them.
fn unseen(dead: &str) {
    if dead.ends_with(".fifo") {
        note(
            "of a FIFO queue the first ten letters of each group are seen; redrive them for the next",
        );
    }
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

async fn show(chosen: &Chosen, id: &str, json: bool) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let (_, dead) = chosen.queues(&target).await?;
    let letters = read(&target.clients, &dead, |it| it.is(id), chosen.limit).await?;
    let Some(letter) = letters.first() else {
        let of = &chosen.of;
        unseen(&dead);
        return Err(Error::Fleet(format!("no dead letter of {of} has the id {id}")));
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

async fn redrive(chosen: &Chosen, id: Option<&str>, rate: u32, dry_run: bool) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let (queue, dead) = chosen.queues(&target).await?;
    let start = SystemTime::now();
    let wanted = |it: &Letter| chosen.takes(it) && id.is_none_or(|id| it.is(id));
    if dry_run {
        let letters = read(&target.clients, &dead, wanted, chosen.limit).await?;
        print_list(&letters);
        unseen(&dead);
        out(format!("they would go to {queue}"));
        return Ok(());
    }
    // What dies again while this runs is not sent back again, or it might never end.
    let wanted = |it: &Letter| wanted(it) && it.was_dead_at(start);
    let mut letters = DeadLetters::new(&target.clients, &dead);
    let mut sent = 0;
    let moving = send_back(&mut letters, &queue, wanted, chosen.limit, rate, &mut sent);
    let table = &target.stack.outputs().fleet_table_name;
    let moved = tally::telling(Some(table), target.clients.dynamo.clone(), moving).await;
    let put_back = letters.put_back().await;
    out(format!("{} sent back to {queue}", counted(sent)));
    moved.and(put_back)
}

async fn send_back(
    letters: &mut DeadLetters<'_>,
    queue: &str,
    wanted: impl Fn(&Letter) -> bool,
    limit: usize,
    rate: u32,
    sent: &mut usize,
) -> Result<(), Error> {
    let mut clock = interval(Duration::from_secs(1) / rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let batch = letters.next().await?;
        if batch.is_empty() {
            return Ok(());
        }
        for letter in batch.iter().filter(|letter| wanted(letter)) {
            if *sent >= limit {
                return Ok(());
            }
            clock.tick().await;
            letters.redrive(letter, queue).await?;
            *sent += 1;
        }
        note(format!("{sent} sent back …"));
    }
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
