//! `flotilla status`: queues, workers, and what they are at.

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;

use crate::{
    console::out,
    depth::{self, Depth},
    error::Error,
    http,
    places::WorkerNote,
    target::{self, Target},
    verdict::table,
};

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: target::Which,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What is known of a fleet at one moment.
#[derive(Debug, Serialize)]
struct Status {
    stack: String,
    endpoint: String,
    queues: Vec<Queue>,
    /// The workers that `flotilla up` runs on this machine; others are not known here.
    workers: Vec<Worker>,
    /// Messages that workers hold.
    in_flight: u64,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    url: String,
    #[serde(flatten)]
    depth: Depth,
}

#[derive(Debug, Serialize)]
struct Worker {
    id: String,
    address: String,
    /// Whether it takes messages; its own words where it does not.
    ready: bool,
    healthy: bool,
    says: Option<String>,
    /// Messages being worked on, of as many slots.
    busy: Option<u64>,
    slots: Option<u64>,
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    let status = Status::of(&target).await?;
    match args.json {
        true => {
            let text = serde_json::to_string_pretty(&status);
            out(text.map_err(|e| Error::Fleet(e.to_string()))?);
        }
        false => status.print(),
    }
    Ok(())
}

impl Status {
    async fn of(target: &Target) -> Result<Self, Error> {
        let mut queues = Vec::new();
        for (name, url) in listed(&target.stack.outputs().queues()) {
            let depth = depth::of(&target.clients, &url).await?;
            queues.push(Queue { name, url, depth });
        }
        let noted = target.note.iter().flat_map(|note| &note.workers);
        Ok(Status {
            stack: target.stack.name().to_owned(),
            endpoint: target.clients.endpoint.to_string(),
            in_flight: queues.iter().map(|queue| queue.depth.in_flight).sum(),
            queues,
            workers: join_all(noted.map(Worker::ask)).await,
        })
    }

    fn print(&self) {
        let Status { stack, endpoint, in_flight, .. } = self;
        out(format!("stack {stack} on {endpoint}, {in_flight} in flight"));
        let mut queues = table(&["queue", "visible", "in flight", "delayed"]);
        queues.add_rows(self.queues.iter().map(Queue::row));
        out(queues);
        if self.workers.is_empty() {
            out("no worker runs on this machine under `flotilla up`; others are not known here");
            return;
        }
        let mut workers = table(&["worker", "ready", "busy", "slots", "address", "says"]);
        workers.add_rows(self.workers.iter().map(Worker::row));
        out(workers);
    }
}

/// Names and URLs of the queues, and of their dead-letter queues after the last queue of each: one
/// that several have in common is there once.
fn listed(queues: &[(&str, &str, &str)]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (place, (name, url, dead)) in queues.iter().enumerate() {
        all.push(((*name).to_owned(), (*url).to_owned()));
        let of: Vec<_> = queues.iter().filter(|it| it.2 == *dead).map(|it| it.0).collect();
        if !queues.iter().skip(place + 1).any(|it| it.2 == *dead) {
            all.push((format!("{} (dead letters)", of.join(", ")), (*dead).to_owned()));
        }
    }
    all
}

impl Queue {
    fn row(&self) -> [String; 4] {
        let Depth { visible, in_flight, delayed } = self.depth;
        let [visible, in_flight, delayed] =
            [visible, in_flight, delayed].map(|count| count.to_string());
        [self.name.clone(), visible, in_flight, delayed]
    }
}

impl Worker {
    fn row(&self) -> [String; 6] {
        let number = |value: Option<u64>| value.map_or("?".to_owned(), |it| it.to_string());
        let ready = if self.ready { "yes" } else { "no" };
        let says = self.says.clone().unwrap_or_default();
        let (busy, slots) = (number(self.busy), number(self.slots));
        [self.id.clone(), ready.to_owned(), busy, slots, self.address.clone(), says]
    }

    async fn ask(note: &WorkerNote) -> Self {
        let page = |name: &str| format!("http://{}/{name}", note.address);
        let [ready, health, metrics] = ["readyz", "healthz", "metrics"].map(page);
        let (ready, health, metrics) = tokio::join!(
            http::get(&ready, PATIENCE),
            http::get(&health, PATIENCE),
            http::get(&metrics, PATIENCE)
        );
        let well = |page: &Option<(u16, String)>| matches!(page, Some((200, _)));
        let trouble = [&health, &ready].into_iter().find(|page| !well(page));
        let metrics = metrics.map(|(_, text)| text).unwrap_or_default();
        let slots = gauge(&metrics, "flotilla_slots");
        Worker {
            id: note.id.clone(),
            address: note.address.clone(),
            ready: well(&ready),
            healthy: well(&health),
            says: trouble.map(|page| words(page.as_ref())),
            // A worker that has had no job since its start has no such gauge yet.
            busy: gauge(&metrics, "flotilla_jobs_in_flight").or(slots.map(|_| 0)),
            slots,
        }
    }
}

fn words(page: Option<&(u16, String)>) -> String {
    page.map_or("it does not answer".to_owned(), |(_, text)| text.trim().to_owned())
}

/// The value of a gauge in Prometheus's text, summed over its labels.
fn gauge(metrics: &str, name: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let own = rest.starts_with(' ') || rest.starts_with('{');
        let value: f64 = rest.rsplit(' ').next()?.parse().ok()?;
        own.then_some(value.max(0.0) as u64)
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_listed_and_a_shared_dead_letter_queue_once() {
        let listed = listed(&[("a", "qa", "da"), ("b", "qb", "db"), ("b-more", "qm", "db")]);
        let listed: Vec<_> =
            listed.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
        let dead = [("a (dead letters)", "da"), ("b, b-more (dead letters)", "db")];
        assert_eq!(listed, [("a", "qa"), dead[0], ("b", "qb"), ("b-more", "qm"), dead[1]]);
    }

    #[test]
    fn a_gauge_is_read_by_its_whole_name() {
        let text =
            "# TYPE a gauge\nslots 4\nslots_more 9\nbusy{job=\"x y\"} 2\nbusy{job=\"z\"} 1\n";
        assert_eq!(gauge(text, "slots"), Some(4));
        assert_eq!(gauge(text, "busy"), Some(3));
        assert_eq!(gauge(text, "absent"), None);
    }
}
