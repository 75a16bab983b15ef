//! What every request for a package shares: tables, bucket, queue, upstream.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_config::SdkConfig;
use aws_sdk_s3::presigning::PresigningConfig;
use compile_worker::{
    builder::BuilderInfo,
    builds::{Again, Artifact, Builds, Ordered, Request, Row, State, package_key},
    crates::Registry,
    groups::Groups,
    message::{CompileMessage, TwiceOrder, Wish},
    names::normalize,
    options::Options,
    packages::{Known, Packages as Table},
    pypi::{self, PYPI},
    upstream::{Answer, Project, Upstream},
    wish::ecosystem,
};
use flotilla_runtime::{
    Failure, aws,
    failure::chain,
    store::{self, Missing},
    trace,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    PackagesConfig,
    accept::Form,
    answer::Refusal,
    fresh::Fresh,
    index::{self, Page},
    signing::Signer,
};

/// How old a row, the builder, or the knowledge that a blob is there may be.
const GLANCE: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_secs(1);
/// How long it is remembered that upstream has no such project.
const ABSENT: Duration = Duration::from_secs(2);
/// A search finds at most so many packages.
const FOUND: usize = 100;
/// How many pages, and pieces of metadata, are kept in memory.
const PAGES: usize = 500;
/// How many sources are held in memory at once, to look into them.
const UNPACKING: usize = 4;
/// How often a download of the same is noted.
const NOTED: Duration = Duration::from_secs(600);
/// How long a URL of the bucket is good for.
const URL_LIFE: Duration = Duration::from_secs(3600);

/// What every request for a package shares.
#[derive(Debug)]
pub struct Packages {
    config: PackagesConfig,
    builds: Builds,
    table: Table,
    upstream: Upstream,
    registry: Registry,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    projects: Fresh<Option<Arc<Project>>>,
    crates: Fresh<Arc<BTreeSet<String>>>,
    pages: Fresh<Arc<Page>>,
    rows: Fresh<Option<Row>>,
    builders: Fresh<Arc<BuilderInfo>>,
    blobs: Fresh<bool>,
    urls: Fresh<String>,
    metadata: Fresh<Option<Arc<str>>>,
    noted: Fresh<()>,
    unpacking: Semaphore,
    groups: Groups,
    signer: Option<Signer>,
}

impl Packages {
    /// On the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust, or the signing key cannot be read.
    pub fn new(config: PackagesConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let dynamo = aws_sdk_dynamodb::Client::new(sdk);
        let signer = config.signing_key.as_deref().map(Signer::read).transpose()?;
        let groups = Groups::new(
            Builds::new(dynamo.clone(), &config.builds_table),
            dynamo.clone(),
            aws_sdk_sns::Client::new(sdk),
            config.groups_topic.clone(),
        );
        Ok(Self {
            groups,
            signer,
            builds: Builds::new(dynamo.clone(), &config.builds_table),
            table: Table::new(dynamo, &config.packages_table),
            upstream: Upstream::new(&config.index)?,
            registry: Registry::new(&config.crates_index, None)?,
            s3: aws::s3_client(sdk),
            sqs: aws_sdk_sqs::Client::new(sdk),
            projects: Fresh::new(config.index_age),
            crates: Fresh::bounded(config.index_age, PAGES),
            pages: Fresh::bounded(MOMENT, PAGES),
            rows: Fresh::new(GLANCE),
            builders: Fresh::new(MOMENT),
            blobs: Fresh::new(MOMENT),
            urls: Fresh::new(MOMENT),
            metadata: Fresh::bounded(NOTED, PAGES),
            noted: Fresh::new(NOTED),
            unpacking: Semaphore::new(UNPACKING),
            config,
        })
    }

    /// The names of all packages of PyPI that are known here.
    pub(super) async fn names(&self) -> Result<BTreeSet<String>, Refusal> {
        Ok(self.table.names(PYPI).await?)
    }

    /// The packages of an ecosystem with this text in their names.
    pub(super) async fn search(
        &self,
        ecosystem: &str,
        text: &str,
    ) -> Result<Vec<(String, Known)>, Refusal> {
        Ok(self.table.search(ecosystem, text, FOUND).await?)
    }

    /// What is known of a package, by its key.
    pub(super) async fn known(&self, package: &str) -> Result<Known, Refusal> {
        Ok(self.table.known(package).await?)
    }

    /// A project of upstream.
    pub(super) async fn project(&self, name: &str) -> Result<Arc<Project>, Refusal> {
        let look_up = async |old: Option<Option<Arc<Project>>>| {
            let old = old.flatten();
            let etag = old.as_ref().and_then(|old| old.etag.as_deref());
            Ok::<_, Failure>(match self.upstream.project(name, etag).await? {
                Answer::Project(project) => Some(Arc::new(project)),
                Answer::Unchanged => old,
                Answer::Absent => None,
            })
        };
        let age = |found: &Option<Arc<Project>>| match found {
            Some(_) => self.config.index_age,
            None => self.config.index_age.min(ABSENT),
        };
        let project = self.projects.get_aged(name, age, look_up).await?;
        project.ok_or_else(|| Refusal::Absent(format!("upstream has no project {name}")))
    }

    /// How long the page of a project without versions is held.
    pub(super) fn hold(&self) -> Duration {
        self.config.hold
    }

    /// What builds of PyPI are made in.
    pub(super) async fn builder(&self) -> Result<Arc<BuilderInfo>, Refusal> {
        self.builder_of(PYPI).await
    }

    async fn builder_of(&self, ecosystem: &str) -> Result<Arc<BuilderInfo>, Refusal> {
        let none = || {
            let what = format!("no compile worker that builds of {ecosystem} has started yet");
            Refusal::Later(what, 5)
        };
        let look_up =
            async |_| Ok(Arc::new(self.table.builder(ecosystem).await?.ok_or_else(none)?));
        self.builders.get(ecosystem, look_up).await
    }

    /// The option set of an index, as its builder understands it.
    pub(super) async fn options(&self, optset: &str) -> Result<Options, Refusal> {
        let options = pypi::options(optset)?;
        // Only one that names a Python needs to know which there is.
        match options.get("python") {
            None => Ok(options),
            Some(_) => Ok(pypi::settled(options, &*self.builder().await?)?),
        }
    }

    /// The versions of a package that has a source upstream; none where there is no package.
    pub(super) async fn versions(
        &self,
        ecosystem: &str,
        name: &str,
    ) -> Result<BTreeSet<String>, Refusal> {
        if ecosystem == PYPI {
            return Ok(pypi::versions(name, &self.project(name).await?.files));
        }
        let look_up = async |_| {
            let found = self.registry.versions(name, None).await?;
            Ok::<_, Failure>(Arc::new(found.map(|found| found.all).unwrap_or_default()))
        };
        Ok((*self.crates.get(name, look_up).await?).clone())
    }

    /// The page of a project, a second old at most.
    pub(super) async fn page(
        &self,
        optset: &str,
        name: &str,
        form: Form,
    ) -> Result<Arc<Page>, Refusal> {
        let key = format!("{}\n{optset}\n{name}", form.kind());
        self.pages.get(&key, async |_| index::page(self, optset, name, form).await).await
    }

    /// All rows of a package.
    pub(super) async fn rows(&self, name: &str) -> Result<Vec<Row>, Refusal> {
        Ok(self.builds.of_package(&package_key(PYPI, name)).await?)
    }

    /// The row of a request for a package (`pypi/markupsafe`).
    pub(super) async fn row(&self, package: &str, request: &str) -> Result<Option<Row>, Refusal> {
        let age = |row: &Option<Row>| match row {
            Some(Row { state: State::Done(_), .. }) => MOMENT,
            _ => GLANCE,
        };
        let look_up = async |_| self.builds.get(package, request).await;
        Ok(self.rows.get_aged(request, age, look_up).await?)
    }

    /// The row of a request key or an artifact key.
    pub(super) async fn by_key(&self, key: &str) -> Result<Option<Row>, Refusal> {
        Ok(self.builds.by_key(key).await?)
    }

    /// The request for a package by the words of its user.
    pub(super) async fn request(
        &self,
        name: &str,
        version: &str,
        options: Options,
    ) -> Result<Request, Refusal> {
        let name = normalize(name).map_err(Refusal::Absent)?;
        Ok(Request::new(PYPI, &name, version, options, &*self.builder().await?)?)
    }

    /// The request for what somebody wants.
    pub(super) async fn wished(&self, wish: &Wish) -> Result<Request, Refusal> {
        let grammar = ecosystem(&wish.ecosystem, &self.config.categories);
        let grammar = grammar.map_err(Refusal::Impossible)?;
        // What is wrong with it is said also where nobody builds yet.
        wish.options.options(&grammar.options)?;
        (grammar.package)(&wish.package).map_err(Refusal::Impossible)?;
        let builder = self.builder_of(grammar.name).await?;
        wish.request(grammar, &builder).map_err(Refusal::Impossible)
    }

    /// The row of a request, whose build is started if need be.
    pub(super) async fn ordered(&self, request: &Request) -> Result<Row, Refusal> {
        let again = match self.row(&request.package(), &request.key).await? {
            Some(row) => match &row.state {
                State::Done(artifact) if self.is_there(artifact).await? => return Ok(row),
                State::Done(_) => Again::Lost,
                _ => Again::Expired,
            },
            None => {
                self.check_version(request).await?;
                Again::Expired
            }
        };
        self.open(request, again).await
    }

    /// The row of a request that is built again although it has ended.
    pub(super) async fn retried(&self, request: &Request) -> Result<Row, Refusal> {
        self.open(request, Again::Retry).await
    }

    async fn open(&self, request: &Request, again: Again) -> Result<Row, Refusal> {
        let (package, key) = (request.package(), &request.key);
        match self.builds.order(request, again).await? {
            Ordered::Stands(row) => return Ok(*row),
            Ordered::Send(order) => self.send(&CompileMessage::Build(order)).await?,
        }
        self.rows.forget(key);
        let row = self.row(&package, key).await?;
        row.ok_or_else(|| Refusal::Later(format!("the row of {package} is gone; ask again"), 1))
    }

    /// Has a worker build an artifact a second time.
    pub(super) async fn twice(&self, request: &Request, epoch: u64) -> Result<(), Refusal> {
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let asked_at = u64::try_from(asked_at.as_millis()).unwrap_or_default();
        let twice = TwiceOrder { order: request.order(epoch), asked_at };
        self.send(&CompileMessage::Twice(twice)).await
    }

    /// The key that statements are signed with.
    pub(super) fn signer(&self) -> Result<&Signer, Refusal> {
        let none = "this gateway signs nothing: FLOTILLA_SIGNING_KEY is not set";
        self.signer.as_ref().ok_or_else(|| Refusal::Absent(none.to_owned()))
    }

    /// The groups.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The table of builds.
    pub(super) fn builds(&self) -> &Builds {
        &self.builds
    }

    async fn check_version(&self, request: &Request) -> Result<(), Refusal> {
        let Request { ecosystem, name, version, .. } = request;
        match self.versions(ecosystem, name).await?.contains(version) {
            true => Ok(()),
            false => Err(Refusal::Absent(format!("upstream has no source of {name} {version}"))),
        }
    }

    /// Waits until a build has ended, at most until then.
    pub(super) async fn ended(&self, request: &Request, until: Instant) -> Result<Row, Refusal> {
        let mut row = self.ordered(request).await?;
        while row.state == State::Ordered && Instant::now() < until {
            tokio::time::sleep(GLANCE / 2).await;
            if let Some(now) = self.row(&request.package(), &request.key).await? {
                row = now;
            }
        }
        Ok(row)
    }

    /// Puts a message on the workers' queue.
    pub(super) async fn send(&self, message: &CompileMessage) -> Result<(), Refusal> {
        let body = message.body().map_err(|e| Failure::permanent("message", e.to_string()))?;
        let call = self.sqs.send_message().queue_url(&self.config.queue_url).message_body(body);
        let call = call.set_message_attributes(trace::attributes());
        let failed = |why| Failure::transient("sqs", format!("SendMessage: {why}"));
        call.send().await.map_err(|e| failed(chain(&e)))?;
        Ok(())
    }

    /// Notes that somebody got a package with these options: its new versions are then built.
    pub(super) async fn note_download(&self, request: &Request) -> Result<(), Refusal> {
        let (package, options) = (request.package(), request.options.to_string());
        let note = async |_| {
            let seen = self.versions(&request.ecosystem, &request.name).await?;
            let row = self.builds.downloaded(request);
            let wanted = self.table.downloaded(&package, &options, seen);
            Ok::<_, Refusal>(futures::future::try_join(row, wanted).await.map(drop)?)
        };
        self.noted.get(&request.key, note).await
    }

    /// Whether the blob of an artifact is in the bucket.
    pub(super) async fn is_there(&self, artifact: &Artifact) -> Result<bool, Refusal> {
        let look_up = async |_| {
            let head = self.s3.head_object().bucket(&self.config.artifacts_bucket);
            match head.key(&artifact.blob).send().await {
                Ok(_) => Ok(true),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(false),
                Err(e) => Err(Failure::transient("s3", format!("HeadObject: {}", chain(&e)))),
            }
        };
        let there = self.blobs.get(&artifact.blob, look_up).await?;
        if !there {
            // It is about to be built again.
            self.blobs.forget(&artifact.blob);
        }
        Ok(there)
    }

    /// An object of the bucket.
    pub(super) async fn object(&self, key: &str, limit: u64) -> Result<Vec<u8>, Refusal> {
        let fetched = store::fetch(&self.s3, &self.config.artifacts_bucket, key, None, limit).await;
        fetched.map(|object| object.bytes).map_err(|missing| match missing {
            Missing::Absent => Refusal::Absent(format!("{key} is not stored any more")),
            Missing::TooLarge(size) => Refusal::Impossible(format!("{key} has {size} bytes")),
            Missing::Unavailable(failure) => failure.into(),
        })
    }

    /// What is known of the metadata of a version that is not built.
    pub(super) async fn told(
        &self,
        name: &str,
        version: &str,
        look_up: impl AsyncFnOnce() -> Result<Option<Arc<str>>, Refusal>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        self.metadata.get(&format!("{name} {version}"), async |_| look_up().await).await
    }

    /// Where packages come from.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Leave to hold a source in memory.
    pub(super) async fn unpacking(&self) -> Option<SemaphorePermit<'_>> {
        self.unpacking.acquire().await.ok()
    }

    /// A URL under which an object of the bucket can be fetched for an hour.
    pub(super) async fn url(&self, key: &str) -> Result<String, Refusal> {
        Ok(self.urls.get(key, async |_| self.signed(key).await).await?)
    }

    async fn signed(&self, key: &str) -> Result<String, Failure> {
        let call = self.s3.get_object().bucket(&self.config.artifacts_bucket).key(key);
        let failed = |why: String| Failure::permanent("presign", format!("{key}: {why}"));
        let life = PresigningConfig::expires_in(URL_LIFE).map_err(|e| failed(e.to_string()))?;
        let signed = call.presigned(life).await.map_err(|e| failed(chain(&e)))?;
        Ok(signed.uri().to_owned())
    }
}
