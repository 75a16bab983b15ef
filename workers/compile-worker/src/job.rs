//! The compile job: builds what was ordered, and looks for new versions.

mod ready;
mod refresh;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use flotilla_runtime::{
    Completion, Delivery, Effect, Failure, Job, Lease, aws, failure::shortened,
};
use tokio::sync::mpsc;

use crate::{
    builder::{BuilderInfo, Workshop},
    builds::{Again, Artifact, Builds, Failed, Ordered, Request, Row, State, Verdict, now},
    config::{CompileConfig, Retention},
    crates::{Crates, Registry},
    ecosystem::{self, Grammar, Made, Product},
    ecosystems::Ecosystems,
    error::{Fault, Stopped},
    groups::Groups,
    keys::sha256,
    live,
    message::{BuildOrder, CompileMessage, TwiceOrder, Wish},
    metrics,
    options::Options,
    packages::Packages,
    progress::Progress,
    publish::{Artifacts, blob_key},
    pypi::{PYPI, Pypi},
    steps::Step,
    upstream::Upstream,
    wish::{self, Categories},
};

/// After so many seconds a failure of ours may be tried again: long enough for those who wait to be told.
const OURS_SECONDS: u64 = 2;

/// How long an order for another builder is left to it.
const LEFT: Duration = Duration::from_secs(10);

/// Builds packages.
#[derive(Debug)]
pub struct Compile {
    ecosystems: Ecosystems,
    builds: Builds,
    packages: Packages,
    artifacts: Artifacts,
    refreshed: BTreeSet<String>,
    categories: Categories,
    groups: Groups,
    changelog: Option<String>,
    jitter: Duration,
    reconcile: Duration,
    retention: Retention,
    failure_seconds: u64,
    overtime_seconds: u64,
    pause_at: Option<Step>,
    /// When, by ecosystem, and whether it could be said then.
    announced: Mutex<BTreeMap<&'static str, (Instant, bool)>>,
}

impl Compile {
    /// The job, on the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(config: CompileConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let dynamo = aws::dynamo_client(sdk);
        let workshop = |image: &str| Workshop::new(image, &config.worker_id);
        let pypi = Pypi {
            upstream: Upstream::new(&config.index)?,
            workshop: workshop(&config.image),
            limits: config.limits.clone(),
        };
        let crates = Crates {
            registry: Registry::new(&config.crates_index, config.crates_download.as_deref())?,
            workshop: workshop(&config.rust_image),
            limits: config.limits,
        };
        Ok(Self {
            ecosystems: Ecosystems { pypi, crates },
            builds: Builds::new(dynamo.clone(), &config.builds_table),
            groups: Groups::new(
                Builds::new(dynamo.clone(), &config.builds_table),
                dynamo.clone(),
                aws_sdk_sns::Client::new(sdk),
                config.groups_topic,
            ),
            packages: Packages::new(dynamo, &config.packages_table),
            artifacts: Artifacts::new(aws::s3_client(sdk), &config.artifacts_bucket),
            refreshed: config.refresh_packages,
            changelog: config.changelog,
            jitter: config.jitter,
            reconcile: config.reconcile,
            retention: config.retention,
            categories: config.categories,
            failure_seconds: config.failure_seconds,
            overtime_seconds: config.overtime_seconds,
            pause_at: config.pause_at,
            announced: Mutex::default(),
        })
    }

    async fn build(&self, order: &BuildOrder, lease: &Lease) -> Result<(), Failure> {
        let start = Instant::now();
        Step::Claimed.reached(self.pause_at).await;
        let row = self.builds.get(&order.package(), &order.request).await?;
        let Some(row) = row.filter(|row| row.epoch == order.epoch) else {
            // Asked for anew meanwhile, or no more: another message is for that.
            return lease.complete(Vec::new()).await.map(drop);
        };
        let state = match self.attempt(order, lease, row).await {
            Ok(made) => self.store(order, lease, made, start).await?,
            Err(Stopped::Theirs(fault)) => self.failed(order, fault, None),
            Err(Stopped::Superseded(why)) => ours(&why),
            Err(Stopped::Ours(failure)) => return Err(failure),
        };
        let (name, version, options) = (&order.name, &order.version, &order.options);
        if lease.complete(self.builds.end(order, &state)?).await? == Completion::Refused {
            // Another try of the same request began meanwhile; its row is the one that counts.
            lease.complete(Vec::new()).await?;
        }
        Step::Committed.reached(self.pause_at).await;
        tracing::info!(name, version, options, outcome = state.name(), "built");
        ::metrics::counter!(metrics::BUILDS, "outcome" => state.name()).increment(1);
        ::metrics::histogram!(metrics::BUILD_SECONDS).record(start.elapsed());
        self.tell_groups(order).await
    }

    /// Makes the artifact, if the builder that it was ordered of is the one that is here: under
    /// the key of another image it would be a lie. Where that one is elsewhere, it is left to it.
    async fn attempt(&self, order: &BuildOrder, lease: &Lease, row: Row) -> Result<Made, Stopped> {
        let (grammar, info) = self.builder(&order.ecosystem).await?;
        let options = Options::parse(&order.options, &grammar.options).unwrap_or_default();
        let own = Request::new(grammar.name, &order.name, &order.version, options, info)?;
        if own.key != order.request {
            let image = row.parts["builder"].as_str().unwrap_or_default();
            if image != info.image && self.packages.is_alive(grammar.name, image).await? {
                let what = format!("{} is of the builder {image}, which is elsewhere", order.name);
                return Err(Failure::retry_after("other_builder", what, LEFT).into());
            }
            return Err(Stopped::Superseded("the builder has changed; ask again".to_owned()));
        }
        let lock = row.lock;
        let (live, said) = mpsc::unbounded_channel();
        let (builds, pause_at) = (&self.builds, self.pause_at);
        let progress = Progress { lock, live, lease, builds, order, pause_at };
        let making = self.ecosystems.make(order, &progress);
        let live = live::publish(said, (builds, &self.artifacts), order, lease.generation());
        tokio::pin!(making, live);
        tokio::select! {
            biased;
            made = &mut making => made,
            () = &mut live => making.await,
        }
    }

    /// Stores log and artifact; what the row will say.
    async fn store(
        &self,
        order: &BuildOrder,
        lease: &Lease,
        made: Made,
        start: Instant,
    ) -> Result<State, Failure> {
        let log = async {
            let log = self.artifacts.store_log(order, lease.generation(), made.log).await?;
            Step::Logged.reached(self.pause_at).await;
            Ok::<_, Failure>(log)
        };
        let product = match made.artifact {
            Ok(product) => product,
            Err(fault) => return Ok(self.failed(order, fault, Some(log.await?))),
        };
        let Product { key, parts, filename, bytes, metadata: text, requires, bundled } = product;
        let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
        let blob = blob_key(&sha256, &filename);
        let metadata = async {
            let Some(text) = &text else { return Ok(None) };
            self.artifacts.store_metadata(&blob, text).await.map(Some)
        };
        let stored = self.artifacts.store(&blob, &sha256, bytes);
        let (log, (), metadata) = futures::try_join!(log, stored, metadata)?;
        Step::Stored.reached(self.pause_at).await;
        Ok(State::Done(Artifact {
            artifact: key,
            parts,
            filename,
            blob,
            sha256,
            size,
            log,
            metadata,
            requires,
            bundled,
            build_ms: start.elapsed().as_millis() as u64,
        }))
    }

    /// What builds of an ecosystem are made in. Where its image is not, others may have it.
    async fn builder(&self, ecosystem: &str) -> Result<(&'static Grammar, &BuilderInfo), Failure> {
        let found = self.ecosystems.builder(ecosystem).await;
        found.map_err(|why| match ecosystem::named(ecosystem) {
            Some(_) => Failure::retry_after("no_builder", why.to_string(), LEFT),
            None => why,
        })
    }

    /// The end of a build that the package itself is to blame for. What took too long may be quicker on
    /// another day: it is remembered for less time.
    fn failed(&self, order: &BuildOrder, fault: Fault, log: Option<String>) -> State {
        let Fault { reason, overtime } = fault;
        let (seconds, advice) = match overtime {
            false => (self.failure_seconds, String::new()),
            true => (self.overtime_seconds, tried_again(self.overtime_seconds, &order.request)),
        };
        let reason = shortened(&format!("{reason}{advice}"));
        State::Failed(Failed { reason, ours: false, log, retry_at: now() + seconds })
    }

    /// Builds an artifact a second time, with what it was built with, and records whether it is
    /// the same.
    async fn twice(&self, order: &BuildOrder, lease: &Lease) -> Result<(), Failure> {
        let row = self.builds.get(&order.package(), &order.request).await?;
        let row = row.filter(|row| row.epoch == order.epoch);
        let done = row.and_then(|row| match &row.state {
            State::Done(artifact) => Some((artifact.clone(), row)),
            _ => None,
        });
        let Some((artifact, row)) = done else {
            return lease.complete(Vec::new()).await.map(drop);
        };
        let made = match self.attempt(order, lease, row).await {
            Ok(made) => made.artifact,
            Err(Stopped::Theirs(fault)) => Err(fault),
            // Nothing was compared, so nothing is said of it.
            Err(Stopped::Superseded(_)) => return lease.complete(Vec::new()).await.map(drop),
            Err(Stopped::Ours(failure)) => return Err(failure),
        };
        let sha256 = made.as_ref().ok().map(|product| sha256(&product.bytes));
        let reproducible = sha256.as_ref() == Some(&artifact.sha256);
        let verdict =
            Verdict { reproducible, sha256, reason: made.err().map(|it| it.reason), at: now() };
        let (name, version) = (&order.name, &order.version);
        tracing::info!(name, version, reproducible, "built twice");
        if lease.complete(vec![self.builds.verdict(order, &verdict)?]).await? == Completion::Refused
        {
            lease.complete(Vec::new()).await?;
        }
        Ok(())
    }

    /// Tells the groups that wait for a build which has ended.
    async fn tell_groups(&self, order: &BuildOrder) -> Result<(), Failure> {
        let row = self.builds.get(&order.package(), &order.request).await?;
        // Asked for anew meanwhile: the end of that is what they wait for.
        let Some(row) = row.filter(|row| row.state != State::Ordered) else {
            return Ok(());
        };
        for group in &row.groups {
            self.groups.ended(group, &row).await?;
        }
        Ok(())
    }

    /// Turns what somebody wants into an order, as the gateway does.
    async fn wish(&self, wish: &Wish, lease: &Lease) -> Result<(), Failure> {
        let bad = |why: String| Failure::permanent("wish", why);
        let grammar = wish::ecosystem(&wish.ecosystem, &self.categories).map_err(bad)?;
        let (_, info) = self.builder(grammar.name).await?;
        let request = wish.request(grammar, info).map_err(bad)?;
        self.order_build(request, Again::Expired, lease).await.map(drop)
    }

    /// Has a request built; whether a message was sent for it. One that is not known to be on the queue is:
    /// who opened the row may have failed to send it, or have died before, as this worker itself at an
    /// attempt before.
    async fn order_build(
        &self,
        request: Request,
        again: Again,
        lease: &Lease,
    ) -> Result<bool, Failure> {
        let order = match self.builds.order(&request, again).await? {
            Ordered::Send(order) => order,
            Ordered::Stands(row) if row.state == State::Ordered && !row.sent => {
                let (epoch, version) = (row.epoch, row.version);
                Request { version, ..request }.order(epoch)
            }
            Ordered::Stands(_) => return Ok(false),
        };
        self.send_build(order, lease).await.map(|()| true)
    }

    /// Sends an order to where builds wait, so that no look for new versions waits behind it.
    async fn send_build(&self, order: BuildOrder, lease: &Lease) -> Result<(), Failure> {
        lease.send_to_first(&body(&CompileMessage::Build(order.clone()))?).await?;
        self.builds.sent(&order).await
    }
}

/// The end of a build that we are to blame for.
fn ours(why: &str) -> State {
    let retry_at = now() + OURS_SECONDS;
    State::Failed(Failed { reason: shortened(why), ours: true, log: None, retry_at })
}

/// How to have a build tried again that took too long.
fn tried_again(seconds: u64, key: &str) -> String {
    format!(
        "; whoever asks after {seconds} s has it tried again, and POST /v1/builds/{key}/retry at once"
    )
}

fn body(message: &CompileMessage) -> Result<String, Failure> {
    message.body().map_err(|e| Failure::permanent("message", e.to_string()))
}

impl Job for Compile {
    const NAME: &'static str = "compile";
    type Message = CompileMessage;
    type Work = CompileMessage;

    fn describe_metrics(&self) {
        metrics::describe();
    }

    fn image(&self, message: Option<&CompileMessage>) -> Option<String> {
        let ecosystem = match message {
            Some(CompileMessage::Build(order)) => order.ecosystem.as_str(),
            _ => PYPI,
        };
        self.ecosystems.image(ecosystem)
    }

    async fn ready(&self) -> Result<(), Failure> {
        let (own, ()) = tokio::join!(self.ready_for_pypi(), self.ready_for_crates());
        own
    }

    async fn prepare(
        &self,
        message: CompileMessage,
        _: &Delivery,
    ) -> Result<(Effect, CompileMessage), Failure> {
        let effect = match &message {
            CompileMessage::Build(order) => {
                Effect::Once(format!("{}/{}/{}", order.name, order.request, order.epoch))
            }
            CompileMessage::Twice(TwiceOrder { order, asked_at }) => {
                Effect::Once(format!("{}/{}/twice-{asked_at}", order.name, order.request))
            }
            CompileMessage::Refresh(_) | CompileMessage::Reconcile(_) | CompileMessage::Wish(_) => {
                Effect::Idempotent
            }
        };
        Ok((effect, message))
    }

    async fn run(&self, message: CompileMessage, lease: &Lease) -> Result<(), Failure> {
        let done = match message {
            CompileMessage::Build(order) => Box::pin(self.build(&order, lease)).await,
            CompileMessage::Refresh(order) => self.refresh(order, lease).await,
            CompileMessage::Reconcile(_) => Box::pin(self.reconcile(lease)).await,
            CompileMessage::Wish(wish) => self.wish(&wish, lease).await,
            CompileMessage::Twice(twice) => Box::pin(self.twice(&twice.order, lease)).await,
        };
        // Nobody waits for this but the slot: who asked for the build has it.
        self.ecosystems.removed().await;
        done
    }

    /// The row says how the build ended; the groups may not have heard.
    async fn repair(&self, message: CompileMessage) -> Result<(), Failure> {
        match message {
            CompileMessage::Build(order) => self.tell_groups(&order).await,
            _ => Ok(()),
        }
    }

    /// Those who wait are told; the message goes to the dead-letter queue, and may be redriven.
    async fn give_up(
        &self,
        message: CompileMessage,
        lease: &Lease,
        reason: &str,
    ) -> Result<(), Failure> {
        let CompileMessage::Build(order) = message else { return Ok(()) };
        let state = ours(&format!("not built: {reason}"));
        lease.record(self.builds.end(&order, &state)?).await?;
        self.tell_groups(&order).await
    }
}
