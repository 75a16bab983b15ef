//! The compile job: builds what was ordered, and looks for new versions.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use flotilla_runtime::{
    Completion, Delivery, Effect, Failure, Job, Lease, aws, failure::shortened,
};
use tokio::sync::{OnceCell, mpsc};

use crate::{
    builder::Workshop,
    builds::{Again, Artifact, Builds, Failed, Lock, Ordered, Request, State, Verdict, now},
    config::{CompileConfig, Retention},
    ecosystem::{Ecosystem, Made},
    error::{Stopped, sandbox_failure},
    groups::Groups,
    keys::sha256,
    live,
    message::{BuildOrder, CompileMessage, Reconcile, RefreshOrder, TwiceOrder, Wish},
    metrics,
    options::Options,
    packages::Packages,
    progress::Progress,
    publish::Artifacts,
    pypi::Pypi,
    retention,
    steps::Step,
    upstream::Upstream,
    wish::Categories,
};

/// How long a failure of ours is shown before it may be tried again.
const OURS_SECONDS: u64 = 30;

/// Builds packages.
#[derive(Debug)]
pub struct Compile<E = Pypi> {
    ecosystem: E,
    workshop: Workshop,
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
    pause_at: Option<Step>,
    announced: Arc<OnceCell<()>>,
}

impl Compile {
    /// The job, on the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(config: CompileConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        metrics::describe();
        let dynamo = aws::dynamo_client(sdk);
        let workshop = Workshop::new(&config.image, &config.worker_id);
        let upstream = Upstream::new(&config.index)?;
        Ok(Self {
            ecosystem: Pypi { upstream, workshop: workshop.clone(), limits: config.limits },
            workshop,
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
            pause_at: config.pause_at,
            announced: Arc::default(),
        })
    }
}

impl<E: Ecosystem> Compile<E> {
    async fn build(&self, order: &BuildOrder, lease: &Lease) -> Result<(), Failure> {
        let start = Instant::now();
        Step::Claimed.reached(self.pause_at).await;
        let row = self.builds.get(&order.package(), &order.request).await?;
        if row.as_ref().is_none_or(|row| row.epoch != order.epoch) {
            // Asked for anew meanwhile, or no more: another message is for that.
            return lease.complete(Vec::new()).await.map(drop);
        }
        let state = match self.attempt(order, lease, row.and_then(|row| row.lock)).await {
            Ok(made) => self.store(order, lease, made, start).await?,
            Err(Stopped::Theirs(why)) => self.failed(why, false, None),
            Err(Stopped::Superseded(why)) => self.failed(why, true, None),
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
    /// the key of another image it would be a lie.
    async fn attempt(
        &self,
        order: &BuildOrder,
        lease: &Lease,
        lock: Option<Lock>,
    ) -> Result<Made, Stopped> {
        let (_, info) = self.workshop.get().await?;
        let options = order.options.parse().unwrap_or_default();
        let own = Request::new(&order.name, &order.version, options, info)?;
        if own.key != order.request {
            return Err(Stopped::Superseded("the builder has changed; ask again".to_owned()));
        }
        let (live, said) = mpsc::unbounded_channel();
        let (builds, pause_at) = (&self.builds, self.pause_at);
        let progress = Progress { lock, live, lease, builds, order, pause_at };
        let making = self.ecosystem.make(order, &progress);
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
        let log = self.artifacts.store_log(order, lease.generation(), made.log).await?;
        Step::Logged.reached(self.pause_at).await;
        let product = match made.artifact {
            Ok(product) => product,
            Err(why) => return Ok(self.failed(why, false, Some(log))),
        };
        let size = product.bytes.len() as u64;
        let (blob, sha256) = self.artifacts.store(&product.filename, product.bytes).await?;
        let metadata = match &product.metadata {
            Some(text) => Some(self.artifacts.store_metadata(&blob, text).await?),
            None => None,
        };
        Step::Stored.reached(self.pause_at).await;
        Ok(State::Done(Artifact {
            artifact: product.key,
            parts: product.parts,
            filename: product.filename,
            blob,
            sha256,
            size,
            log,
            metadata,
            requires: product.requires,
            build_ms: start.elapsed().as_millis() as u64,
        }))
    }

    fn failed(&self, reason: String, ours: bool, log: Option<String>) -> State {
        let seconds = if ours { OURS_SECONDS } else { self.failure_seconds };
        let reason = shortened(&reason);
        State::Failed(Failed { reason, ours, log, retry_at: now() + seconds })
    }

    /// Builds an artifact a second time, with what it was built with, and records whether it is
    /// the same.
    async fn twice(&self, order: &BuildOrder, lease: &Lease) -> Result<(), Failure> {
        let row = self.builds.get(&order.package(), &order.request).await?;
        let row = row.filter(|row| row.epoch == order.epoch);
        let Some((State::Done(artifact), lock)) = row.map(|row| (row.state, row.lock)) else {
            return lease.complete(Vec::new()).await.map(drop);
        };
        let made = match self.attempt(order, lease, lock).await {
            Ok(made) => made.artifact,
            Err(Stopped::Theirs(why) | Stopped::Superseded(why)) => Err(why),
            Err(Stopped::Ours(failure)) => return Err(failure),
        };
        let sha256 = made.as_ref().ok().map(|product| sha256(&product.bytes));
        let reproducible = sha256.as_ref() == Some(&artifact.sha256);
        let verdict = Verdict { reproducible, sha256, reason: made.err(), at: now() };
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
        let Some(row) = self.builds.get(&order.package(), &order.request).await? else {
            return Ok(());
        };
        for group in &row.groups {
            self.groups.ended(group, &row).await?;
        }
        Ok(())
    }

    /// Turns what somebody wants into an order, as the gateway does.
    async fn wish(&self, wish: &Wish, lease: &Lease) -> Result<(), Failure> {
        let (_, info) = self.workshop.get().await?;
        let request = wish.request(&self.categories, info);
        let request = request.map_err(|why| Failure::permanent("wish", why))?;
        match self.builds.order(&request, Again::Expired).await? {
            Ordered::Send(order) => send(lease, &CompileMessage::Build(order)).await,
            Ordered::Stands(_) => Ok(()),
        }
    }

    async fn refresh(&self, order: RefreshOrder, lease: &Lease) -> Result<(), Failure> {
        if let Some(name) = &order.name {
            return self.refresh_one(name, &order, lease).await;
        }
        match &self.changelog {
            Some(url) => self.follow(url, lease).await?,
            None => self.look_at_all(false, lease).await?,
        }
        let (_, reconciled) = self.packages.cursor().await?;
        let due = now().saturating_sub(reconciled) >= self.reconcile.as_secs();
        match due && self.packages.reconciling(reconciled).await? {
            true => send(lease, &CompileMessage::Reconcile(Reconcile::default())).await,
            false => Ok(()),
        }
    }

    /// Has a look at each package of upstream that changed since the last time, spread over a while.
    async fn follow(&self, url: &str, lease: &Lease) -> Result<(), Failure> {
        let (Some(since), _) = self.packages.cursor().await? else {
            // What changed before is not news; what is in use is looked at.
            let serial = self.ecosystem.last_serial(url).await?;
            self.look_at_all(false, lease).await?;
            return self.packages.move_cursor(serial).await;
        };
        let changes = self.ecosystem.changes(url, since).await?;
        tracing::info!(
            since,
            serial = changes.serial,
            packages = changes.packages.len(),
            "changes"
        );
        for (name, serial) in changes.packages {
            let (name, serial) = (Some(name), Some(serial));
            self.look(RefreshOrder { name, serial, whole: false }, lease).await?;
        }
        // Only now: cut off before, the same is looked at again, which changes nothing.
        self.packages.move_cursor(changes.serial).await
    }

    async fn look_at_all(&self, whole: bool, lease: &Lease) -> Result<(), Failure> {
        let names = self.packages.wanted().await?;
        for name in names.union(&self.refreshed) {
            let order = RefreshOrder { name: Some(name.clone()), serial: None, whole };
            self.look(order, lease).await?;
        }
        Ok(())
    }

    async fn look(&self, order: RefreshOrder, lease: &Lease) -> Result<(), Failure> {
        let jitter = self.jitter.mul_f64(rand::random::<f64>());
        let body = CompileMessage::Refresh(order).body();
        let body = body.map_err(|e| Failure::permanent("message", e.to_string()))?;
        lease.send_after(&body, jitter).await
    }

    /// Orders the new versions of a package for the option sets in use, and then moves on: cut
    /// off in between, the same is ordered again, which changes nothing.
    async fn refresh_one(
        &self,
        name: &str,
        order: &RefreshOrder,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let known = self.packages.known(name).await?;
        let etag = known.etag.as_deref().filter(|_| !order.whole);
        let Some(found) = self.ecosystem.versions(name, etag).await? else {
            return Ok(());
        };
        if found.serial.is_some_and(|serial| Some(serial) < order.serial.max(known.serial)) {
            let what = format!("the page of {name} is older than what was seen of it");
            return Err(Failure::transient("stale_page", what));
        }
        if known.digest.as_ref() == Some(&found.digest) && !order.whole {
            return Ok(());
        }
        let first = known.versions.is_empty();
        for version in found.all.difference(&known.versions).filter(|_| !first) {
            tracing::info!(name, version, wanted = known.wanted.len(), "a new version");
            for options in &known.wanted {
                self.order(name, version, options, lease).await?;
            }
        }
        self.packages.seen(name, found).await
    }

    /// Looks at everything in use, sends again what was ordered and has not ended, and forgets what
    /// nobody wants any more.
    async fn reconcile(&self, lease: &Lease) -> Result<(), Failure> {
        self.look_at_all(true, lease).await?;
        let rows = self.builds.all().await?;
        for row in rows.iter().filter(|row| row.state == State::Ordered) {
            let Some(request) = row.request() else { continue };
            if let Ordered::Send(order) = self.builds.order(&request, Again::Expired).await? {
                tracing::info!(row.package, row.version, "ordered again");
                send(lease, &CompileMessage::Build(order)).await?;
            }
        }
        retention::sweep(self.retention, &self.builds, &self.artifacts, &rows).await
    }

    async fn order(
        &self,
        name: &str,
        version: &str,
        options: &str,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let (_, info) = self.workshop.get().await?;
        let options: Options = options
            .parse()
            .map_err(|e| Failure::permanent("options", format!("{name} {options}: {e}")))?;
        let request = Request::new(name, version, options, info)?;
        match self.builds.order(&request, Again::Expired).await? {
            Ordered::Send(order) => send(lease, &CompileMessage::Build(order)).await,
            Ordered::Stands(_) => Ok(()),
        }
    }
}

async fn send(lease: &Lease, message: &CompileMessage) -> Result<(), Failure> {
    let body = message.body().map_err(|e| Failure::permanent("message", e.to_string()))?;
    lease.send(&body).await
}

impl<E: Ecosystem> Job for Compile<E> {
    const NAME: &'static str = "compile";
    type Message = CompileMessage;
    type Work = CompileMessage;

    async fn ready(&self) -> Result<(), Failure> {
        let (builder, info) = self.workshop.get().await?;
        // Who asks for builds must know what they are made in.
        self.announced.get_or_try_init(|| self.packages.announce(info)).await?;
        builder.check().await.map_err(sandbox_failure)
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
        match message {
            CompileMessage::Build(order) => self.build(&order, lease).await,
            CompileMessage::Refresh(order) => self.refresh(order, lease).await,
            CompileMessage::Reconcile(_) => self.reconcile(lease).await,
            CompileMessage::Wish(wish) => self.wish(&wish, lease).await,
            CompileMessage::Twice(twice) => self.twice(&twice.order, lease).await,
        }
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
        let state = self.failed(format!("not built: {reason}"), true, None);
        lease.record(self.builds.end(&order, &state)?).await?;
        self.tell_groups(&order).await
    }
}
