//! The compile job: builds what was ordered, and looks for new versions.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use aws_config::SdkConfig;
use flotilla_runtime::{
    Completion, Delivery, Effect, Failure, Job, Lease, aws, failure::shortened,
};
use tokio::sync::OnceCell;

use crate::{
    builder::Workshop,
    builds::{Artifact, Builds, Failed, Ordered, Request, State, now},
    config::CompileConfig,
    ecosystem::{Ecosystem, Made},
    error::{Stopped, sandbox_failure},
    message::{BuildOrder, CompileMessage, RefreshOrder},
    metrics,
    options::Options,
    packages::Packages,
    publish::Artifacts,
    pypi::Pypi,
    upstream::Upstream,
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
    failure_seconds: u64,
    announced: Arc<OnceCell<()>>,
}

impl Compile {
    /// The job, on the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(config: CompileConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        metrics::describe();
        let dynamo = aws_sdk_dynamodb::Client::new(sdk);
        let workshop = Workshop::new(&config.image, &config.worker_id);
        let upstream = Upstream::new(&config.index)?;
        Ok(Self {
            ecosystem: Pypi { upstream, workshop: workshop.clone(), limits: config.limits },
            workshop,
            builds: Builds::new(dynamo.clone(), &config.builds_table),
            packages: Packages::new(dynamo, &config.packages_table),
            artifacts: Artifacts::new(aws::s3_client(sdk), &config.artifacts_bucket),
            refreshed: config.refresh_packages,
            failure_seconds: config.failure_seconds,
            announced: Arc::default(),
        })
    }
}

impl<E: Ecosystem> Compile<E> {
    async fn build(&self, order: &BuildOrder, lease: &Lease) -> Result<(), Failure> {
        let start = Instant::now();
        let state = match self.attempt(order).await {
            Ok(made) => self.store(order, lease, made, start).await?,
            Err(Stopped::Theirs(why)) => self.failed(why, false, None),
            Err(Stopped::Superseded(why)) => self.failed(why, true, None),
            Err(Stopped::Ours(failure)) if lease.is_last_attempt() => {
                return self.give_up(order, lease, failure).await;
            }
            Err(Stopped::Ours(failure)) => return Err(failure),
        };
        let (name, version, options) = (&order.name, &order.version, &order.options);
        if lease.complete(vec![self.builds.end(order, &state)?]).await? == Completion::Refused {
            // Another try of the same request began meanwhile; its row is the one that counts.
            lease.complete(Vec::new()).await?;
        }
        tracing::info!(name, version, options, outcome = state.name(), "built");
        ::metrics::counter!(metrics::BUILDS, "outcome" => state.name()).increment(1);
        ::metrics::histogram!(metrics::BUILD_SECONDS).record(start.elapsed());
        Ok(())
    }

    /// Makes the artifact, if the builder that it was ordered of is the one that is here: under
    /// the key of another image it would be a lie.
    async fn attempt(&self, order: &BuildOrder) -> Result<Made, Stopped> {
        let (_, info) = self.workshop.get().await?;
        let options = order.options.parse().unwrap_or_default();
        let own = Request::new(&order.name, &order.version, options, info)?;
        match own.key == order.request {
            true => self.ecosystem.make(order).await,
            false => Err(Stopped::Superseded("the builder has changed; ask again".to_owned())),
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
        let product = match made.artifact {
            Ok(product) => product,
            Err(why) => return Ok(self.failed(why, false, Some(log))),
        };
        let size = product.bytes.len() as u64;
        let (blob, sha256) = self.artifacts.store(&product.filename, product.bytes).await?;
        Ok(State::Done(Artifact {
            artifact: product.key,
            filename: product.filename,
            blob,
            sha256,
            size,
            log,
            source: product.source,
            build_requires: product.build_requires,
            build_ms: start.elapsed().as_millis() as u64,
        }))
    }

    fn failed(&self, reason: String, ours: bool, log: Option<String>) -> State {
        let seconds = if ours { OURS_SECONDS } else { self.failure_seconds };
        let reason = shortened(&reason);
        State::Failed(Failed { reason, ours, log, retry_at: now() + seconds })
    }

    /// After the last attempt those who wait are told; the message goes to the dead-letter queue.
    async fn give_up(
        &self,
        order: &BuildOrder,
        lease: &Lease,
        why: Failure,
    ) -> Result<(), Failure> {
        let reason = format!("not built, tried {} times: {why}", lease.attempt());
        let state = self.failed(reason.clone(), true, None);
        lease.record(vec![self.builds.end(order, &state)?]).await?;
        Err(Failure::permanent(why.kind(), reason))
    }

    async fn refresh(&self, order: RefreshOrder, lease: &Lease) -> Result<(), Failure> {
        let Some(name) = order.name else {
            let names = self.packages.names().await?;
            for name in names.union(&self.refreshed) {
                let order = RefreshOrder { name: Some(name.clone()) };
                send(lease, &CompileMessage::Refresh(order)).await?;
            }
            return Ok(());
        };
        self.refresh_one(&name, lease).await
    }

    /// Orders the new versions of a package for the option sets in use, and then moves on: cut
    /// off in between, the same is ordered again, which changes nothing.
    async fn refresh_one(&self, name: &str, lease: &Lease) -> Result<(), Failure> {
        let known = self.packages.known(name).await?;
        let Some(found) = self.ecosystem.versions(name, known.etag.as_deref()).await? else {
            return Ok(());
        };
        let first = known.versions.is_empty();
        for version in found.all.difference(&known.versions).filter(|_| !first) {
            tracing::info!(name, version, wanted = known.wanted.len(), "a new version");
            for options in &known.wanted {
                self.order(name, version, options, lease).await?;
            }
        }
        self.packages.seen(name, found.all, found.etag).await
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
        match self.builds.order(&request, false).await? {
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
            CompileMessage::Refresh(_) => Effect::Idempotent,
        };
        Ok((effect, message))
    }

    async fn run(&self, message: CompileMessage, lease: &Lease) -> Result<(), Failure> {
        match message {
            CompileMessage::Build(order) => self.build(&order, lease).await,
            CompileMessage::Refresh(order) => self.refresh(order, lease).await,
        }
    }
}
