//! A fleet on this machine: endpoint, stack and workers, brought up and taken down in order.

use std::time::{Duration, Instant};

use futures::future::{join_all, select_all};
use schedule_executor::store::Store;

use crate::{
    aws::Clients,
    console::note,
    error::Error,
    kind::{self, Kind},
    ministack, names,
    places::{Held, Note, WorkerNote},
    process::{End, Process},
    signing::{self, Key},
    stack::{Stack, Template},
    stop::Stop,
    ticker::{self, Ticker},
    worker::Worker,
};

/// How long the endpoint may take to end.
const ENDPOINT_GRACE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that lived this long was well: its next death starts from the first pause.
const WELL: Duration = Duration::from_secs(60);
/// How often the compile worker looks for new versions; in AWS a schedule sees to it.
const REFRESH: Duration = Duration::from_secs(120);

/// What kind of fleet is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The stack's name.
    pub(crate) stack: String,
    /// The port of the endpoint that is started where `AWS_ENDPOINT_URL` is not set; 0 for any.
    pub(crate) port: u16,
    /// How many grading workers.
    pub(crate) workers: usize,
    /// The port of the gateway; 0 for any.
    pub(crate) gateway_port: u16,
    /// How often the scheduler is ticked; without it nothing is sent by the clock.
    pub(crate) tick: Option<Duration>,
    /// Whether to print the workers' log.
    pub(crate) echo: bool,
    /// How long a stop waits for running jobs.
    pub(crate) grace: Duration,
}

/// A fleet that is up, or as much of it as was brought up.
#[derive(Debug)]
pub(crate) struct Fleet {
    options: Options,
    stop: Stop,
    endpoint: Option<Process>,
    clients: Clients,
    stack: Option<Stack>,
    workers: Vec<Worker>,
    tickers: Vec<Ticker>,
    note: Option<Held>,
    key: Option<Key>,
}

impl Fleet {
    /// Brings everything up; what is up already when something fails is taken down again.
    pub(crate) async fn up(options: Options, stop: Stop) -> Result<Self, Error> {
        names::stack(&options.stack)?;
        if let Some(note) = Note::read(&options.stack) {
            return Err(Error::Fleet(format!(
                "a fleet on stack {} is up already (process {}): stop that one, or choose another \
                 name with --stack",
                note.stack, note.pid
            )));
        }
        let (endpoint, clients) = endpoint(&options, &stop).await?;
        let mut fleet = Fleet {
            options,
            stop,
            endpoint,
            clients,
            stack: None,
            workers: Vec::new(),
            tickers: Vec::new(),
            note: None,
            key: None,
        };
        match fleet.bring_up().await {
            Ok(()) => Ok(fleet),
            Err(error) => {
                fleet.down_after_failure().await;
                Err(error)
            }
        }
    }

    async fn bring_up(&mut self) -> Result<(), Error> {
        say(&format!("creating stack {} on {}", self.options.stack, self.clients.endpoint));
        // Never abandoned half way: a stack that is being created can only be deleted later.
        // This process sends what the stack's clocks would.
        let template = Template::data()?.with("Clock", "DISABLED");
        let stack = Stack::create(&self.clients, &self.options.stack, &template).await?;
        self.stack = Some(stack);
        if self.stop.is_asked() {
            return Err(Error::Interrupted);
        }
        for number in 1..=self.options.workers {
            self.start(Kind::Grading, number, 0)?;
        }
        self.start(Kind::Compile, 1, 0)?;
        self.start(Kind::Schedule, 1, 0)?;
        self.start(Kind::Anomaly, 1, 0)?;
        self.key = Key::make(&self.options.stack)?;
        self.start(Kind::Gateway, 1, self.options.gateway_port)?;
        self.write_note()?;
        for worker in &mut self.workers {
            say(&format!("waiting until {} is ready", worker.id));
            worker.ready(&self.stop).await?;
        }
        if let Some(period) = self.options.tick {
            self.start_clocks(period)?;
        }
        Ok(())
    }

    /// What EventBridge Scheduler sends in AWS.
    fn start_clocks(&mut self, period: Duration) -> Result<(), Error> {
        let outputs = self.stack()?.outputs();
        let store = Store::new(self.clients.dynamo.clone(), kind::tables(outputs));
        let (schedule, refresh) =
            (outputs.schedule_queue_url.clone(), outputs.compile_refresh_queue_url.clone());
        let sqs = || self.clients.sqs.clone();
        self.tickers = vec![
            Ticker::of_scheduler(sqs(), schedule, store, period),
            Ticker::start(sqs(), refresh, REFRESH, ticker::refresh),
            Ticker::of_counts(self.clients.dynamo.clone(), outputs.fleet_table_name.clone()),
        ];
        Ok(())
    }

    fn start(&mut self, kind: Kind, number: usize, port: u16) -> Result<(), Error> {
        let id = format!("{}-{}-{number}", self.options.stack, kind.name());
        let mut environment = self.clients.environment();
        if kind == Kind::Gateway {
            environment.extend(self.key.as_ref().map(Key::setting).or_else(signing::named));
        }
        let outputs = self.stack()?.outputs();
        let worker = Worker::start(kind, id, port, outputs, environment, &self.options)?;
        self.workers.push(worker);
        Ok(())
    }

    fn write_note(&mut self) -> Result<(), Error> {
        let workers = self.workers.iter().filter(|it| it.kind != Kind::Gateway);
        let workers = workers
            .map(|it| WorkerNote { id: it.id.clone(), address: it.address.clone() })
            .collect();
        let note = Note {
            pid: std::process::id(),
            endpoint: self.clients.url.clone(),
            stack: self.options.stack.clone(),
            workers,
        };
        self.note = Some(note.write()?);
        Ok(())
    }

    /// The clients of this fleet's endpoint.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The stack.
    pub(crate) fn stack(&self) -> Result<&Stack, Error> {
        self.stack.as_ref().ok_or_else(|| Error::NoStack(self.options.stack.clone()))
    }

    /// The gateway's address, `127.0.0.1:PORT`.
    pub(crate) fn gateway(&self) -> Option<&str> {
        let mut gateways = self.workers.iter().filter(|it| it.kind == Kind::Gateway);
        gateways.next().map(|it| it.address.as_str())
    }

    /// Id and address of each worker.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (&str, &str)> {
        let workers = self.workers.iter().filter(|it| it.kind != Kind::Gateway);
        workers.map(|it| (it.id.as_str(), it.address.as_str()))
    }

    /// Starts workers again that end by themselves, until this process is asked to stop; an
    /// endpoint that ends is an error.
    pub(crate) async fn watch(&mut self) -> Result<(), Error> {
        let mut pauses = vec![FIRST_PAUSE; self.workers.len()];
        loop {
            let (index, end) = tokio::select! {
                () = self.stop.asked() => return Ok(()),
                how = ended(&mut self.endpoint) => {
                    return Err(Error::Fleet(format!("the endpoint ended by itself: {how}")));
                }
                dead = first_dead(&mut self.workers) => dead,
            };
            if end.orderly {
                let worker = self.workers.remove(index);
                pauses.remove(index);
                note(format!("{} was drained: it is not started again", worker.id));
                continue;
            }
            let Some(worker) = self.workers.get_mut(index) else {
                continue;
            };
            let pause = next_pause(&mut pauses[index], worker.started);
            let seconds = pause.as_secs();
            note(format!(
                "{} ended by itself ({}): starting it again in {seconds} s",
                worker.id, end.how
            ));
            tokio::select! {
                () = self.stop.asked() => return Ok(()),
                () = tokio::time::sleep(pause) => worker.restart()?,
            }
        }
    }

    /// Drains the workers, deletes the stack, stops the endpoint. All is tried, whatever fails;
    /// the first failure is returned.
    pub(crate) async fn down(mut self) -> Result<(), Error> {
        let patience = self.options.grace;
        self.tickers.clear();
        let workers = std::mem::take(&mut self.workers);
        let drained = join_all(workers.into_iter().map(|it| it.stop(patience, &self.stop))).await;
        let mut results: Vec<Result<(), Error>> = drained;
        if let Some(stack) = self.stack.take() {
            say(&format!("deleting stack {}", self.options.stack));
            results.push(stack.delete().await);
        }
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.stop(ENDPOINT_GRACE, &self.stop).await;
        }
        drop(self.note.take());
        drop(self.key.take());
        first_failure(results)
    }

    /// The same after a failure, which is the one to return: what fails now is only told.
    pub(crate) async fn down_after_failure(self) {
        if let Err(error) = self.down().await {
            note(format!("flotilla: {}", crate::chain(&error)));
        }
    }
}

/// The others are told at once, so that none is lost.
fn first_failure(results: Vec<Result<(), Error>>) -> Result<(), Error> {
    let mut failures = results.into_iter().filter_map(Result::err);
    let Some(first) = failures.next() else { return Ok(()) };
    failures.for_each(|other| note(format!("flotilla: {}", crate::chain(&other))));
    Err(first)
}

/// Refuses ports that are taken, before anything is started. Both are held for a moment, so that
/// one port for both is refused, too.
fn ports(options: &Options, own_endpoint: bool) -> Result<(), Error> {
    let endpoint = || ministack::usable(options.port, ministack::OTHERWISE);
    let _held = own_endpoint.then(endpoint).transpose()?;
    let otherwise = "say another port for the gateway with --gateway-port";
    ministack::usable(options.gateway_port, otherwise).map(drop)
}

async fn endpoint(options: &Options, stop: &Stop) -> Result<(Option<Process>, Clients), Error> {
    let clients = Clients::from_env().await;
    ports(options, clients.url.is_none())?;
    if clients.url.is_some() {
        return Ok((None, clients));
    }
    say("starting the local endpoint (MiniStack)");
    let (process, url) = match options.port {
        0 => ministack::start(ministack::free_port()?, stop).await?,
        port => ministack::start(port, stop).await?,
    };
    Ok((Some(process), Clients::for_endpoint(&url).await))
}

async fn ended(endpoint: &mut Option<Process>) -> String {
    match endpoint {
        Some(process) => process.ended().await.how,
        None => std::future::pending().await,
    }
}

async fn first_dead(workers: &mut [Worker]) -> (usize, End) {
    if workers.is_empty() {
        return std::future::pending().await;
    }
    let waits = workers.iter_mut().map(|worker| Box::pin(worker.ended()));
    let (end, index, _) = select_all(waits).await;
    (index, end)
}

/// Doubles from death to death, up to a limit.
fn next_pause(pause: &mut Duration, started: Instant) -> Duration {
    if started.elapsed() > WELL {
        *pause = FIRST_PAUSE;
    }
    let now = *pause;
    *pause = (now * 2).min(LONGEST_PAUSE);
    now
}

fn say(what: &str) {
    note(format!("{what} …"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_refused_with_its_option_before_anything_is_started() {
        let held = ministack::usable(0, "").unwrap();
        let taken = held.local_addr().unwrap().port();
        let tried = |port, gateway_port, own_endpoint| {
            let (stack, grace) = (String::new(), Duration::ZERO);
            let (workers, tick, echo) = (1, None, false);
            let options = Options { stack, port, workers, gateway_port, tick, echo, grace };
            ports(&options, own_endpoint).err().map(|why| why.to_string()).unwrap_or_default()
        };
        let where_it_is = format!("127.0.0.1:{taken} cannot be used");
        for (said, option) in
            [(tried(0, taken, true), "--gateway-port"), (tried(taken, 0, true), "--port")]
        {
            assert!(said.starts_with(&where_it_is) && said.contains(option), "{said}");
        }
        assert_eq!(tried(taken, 0, false), "", "an endpoint that is not started needs no port");
    }
}
