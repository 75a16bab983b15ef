//! What every request for a package shares: tables, bucket, queue, upstream.

mod orders;
mod sources;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_s3::presigning::PresigningConfig;
use compile_worker::{
    builder::BuilderInfo,
    builds::{Artifact, Builds, Keyed, Request, Row, State, package_key},
    crates::{Registry, Release},
    groups::Groups,
    options::Options,
    packages::{Known, Packages as Table},
    pypi::{self, PYPI},
    sdist::Glance,
    upstream::{Project, Upstream},
};
use flotilla_runtime::{
    Failure, aws,
    failure::chain,
    store::{self, Missing},
};
use tokio::sync::Semaphore;

use self::orders::Queue;
use super::{
    PackagesConfig,
    accept::Form,
    answer::Refusal,
    fresh::Fresh,
    index::{self, Page},
    signing::Signer,
};

pub(super) use self::orders::AGAIN;

/// How old a row, the builder, or the knowledge that a blob is there may be.
const GLANCE: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_secs(1);
/// A search finds at most so many packages.
const FOUND: usize = 100;
/// Projects of upstream, and their pages here, may take so many bytes of memory, metadata so many.
const PAGES: usize = 96 << 20;
const METADATA: usize = 32 << 20;
/// How many rows are kept in memory.
const ROWS: usize = 2000;
/// How many downloads are noted at once.
const NOTING: usize = 64;
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
    queue: Queue,
    refreshes: Queue,
    idle: Fresh<bool>,
    projects: Fresh<Option<Arc<Project>>>,
    crates: Fresh<Arc<Vec<Release>>>,
    pages: Fresh<Arc<Page>>,
    rows: Fresh<Option<Arc<Row>>>,
    requests: Fresh<Arc<Request>>,
    builders: Fresh<Arc<BuilderInfo>>,
    blobs: Fresh<bool>,
    urls: Fresh<String>,
    metadata: Fresh<Option<Arc<str>>>,
    noted: Fresh<()>,
    glances: Fresh<Arc<Glance>>,
    unpacking: Arc<Semaphore>,
    noting: Arc<Semaphore>,
    groups: Groups,
    signer: Option<Signer>,
}

impl Packages {
    /// On the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust, or the signing key cannot be read.
    pub fn new(config: PackagesConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let dynamo = aws::dynamo_client(sdk);
        let signer = config.signing_key.as_deref().map(Signer::read).transpose()?;
        let sqs = aws::sqs_client(sdk);
        let queue = |url: &str| Queue { client: sqs.clone(), url: url.to_owned() };
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
            queue: queue(&config.queue_url),
            refreshes: queue(&config.refresh_queue_url),
            idle: Fresh::new(MOMENT),
            projects: Fresh::weighed(config.index_age, PAGES, |it| {
                it.as_ref().map_or(0, |project| project.weight())
            }),
            crates: Fresh::weighed(config.index_age, PAGES, |it| it.len() * Release::WEIGHT),
            pages: Fresh::weighed(MOMENT, PAGES, |page| page.size()),
            rows: Fresh::weighed(GLANCE, ROWS, |_| 0),
            requests: Fresh::new(MOMENT),
            builders: Fresh::new(MOMENT),
            blobs: Fresh::new(MOMENT),
            urls: Fresh::new(MOMENT),
            metadata: Fresh::weighed(NOTED, METADATA, |it| it.as_ref().map_or(0, |it| it.len())),
            noted: Fresh::new(NOTED),
            glances: Fresh::weighed(NOTED, METADATA, |it| {
                it.pkg_info.as_ref().map_or(0, String::len)
            }),
            unpacking: Arc::new(Semaphore::new(UNPACKING)),
            noting: Arc::new(Semaphore::new(NOTING)),
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

    /// Whether any version of a project of PyPI was seen before.
    pub(super) async fn knew(&self, name: &str) -> Result<bool, Refusal> {
        let known = self.known(&package_key(PYPI, name)).await?;
        // A set of DynamoDB is never empty.
        Ok(known.versions.iter().any(|it| !it.is_empty()))
    }

    /// How long the page of a project without versions is held.
    pub(super) fn hold(&self) -> Duration {
        self.config.hold
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

    /// The page of a project (normalised name), a second old at most.
    pub(super) async fn page(
        &self,
        optset: &str,
        name: &str,
        form: Form,
    ) -> Result<Arc<Page>, Refusal> {
        // By what was asked for, as it was spelled: to read it takes longer than to find the page.
        let key = format!("{}\n{optset}\n{name}", form.kind());
        let make = async |_| index::page(self, &self.options(optset).await?, name, form).await;
        self.pages.get(&key, make).await
    }

    /// All rows of a package.
    pub(super) async fn rows(&self, name: &str) -> Result<Vec<Row>, Refusal> {
        Ok(self.builds.of_package(&package_key(PYPI, name)).await?)
    }

    /// The row of a request for a package (`pypi/markupsafe`).
    pub(super) async fn row(
        &self,
        package: &str,
        request: &str,
    ) -> Result<Option<Arc<Row>>, Refusal> {
        let age = |row: &Option<Arc<Row>>| match row.as_deref() {
            Some(Row { state: State::Done(_), .. }) => MOMENT,
            _ => GLANCE,
        };
        let look_up = async |_| Ok(self.builds.get(package, request).await?.map(Arc::new));
        self.rows.get_aged(request, age, look_up).await
    }

    /// What a request key or an artifact key is of.
    pub(super) async fn by_key(&self, key: &str) -> Result<Option<Keyed>, Refusal> {
        Ok(self.builds.by_key(key).await?)
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

    /// Whether the blob of an artifact is in the bucket.
    pub(super) async fn is_there(&self, artifact: &Artifact) -> Result<bool, Refusal> {
        let look_up = async |_| {
            let head = self.s3.head_object().bucket(&self.config.artifacts_bucket);
            match head.key(&artifact.blob).send().await {
                Ok(_) => Ok(true),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(false),
                Err(e) => {
                    Err(Failure::transient("s3", format!("HeadObject: {}", chain(&e))).into())
                }
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

    /// A URL under which an object of the bucket can be fetched for an hour.
    pub(super) async fn url(&self, key: &str) -> Result<String, Refusal> {
        self.urls.get(key, async |_| Ok(self.signed(key).await?)).await
    }

    async fn signed(&self, key: &str) -> Result<String, Failure> {
        let call = self.s3.get_object().bucket(&self.config.artifacts_bucket).key(key);
        let failed = |why: String| Failure::permanent("presign", format!("{key}: {why}"));
        let life = PresigningConfig::expires_in(URL_LIFE).map_err(|e| failed(e.to_string()))?;
        let signed = call.presigned(life).await.map_err(|e| failed(chain(&e)))?;
        Ok(signed.uri().to_owned())
    }
}
