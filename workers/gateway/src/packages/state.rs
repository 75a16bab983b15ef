//! What every request for a package shares: tables, bucket, queue, upstream.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use aws_sdk_s3::presigning::PresigningConfig;
use compile_worker::{
    builder::BuilderInfo,
    builds::{Artifact, Builds, Ordered, Request, Row, State},
    message::CompileMessage,
    names::normalize,
    options::Options,
    packages::Packages as Table,
    pypi::versions,
    upstream::{Answer, Project, Upstream},
};
use flotilla_runtime::{Failure, aws, failure::chain};

use super::{PackagesConfig, answer::Refusal, fresh::Fresh};

/// How old a row, the builder, or the knowledge that a blob is there may be.
const GLANCE: Duration = Duration::from_millis(200);
const MOMENT: Duration = Duration::from_secs(1);
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
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    projects: Fresh<Option<Arc<Project>>>,
    rows: Fresh<Option<Row>>,
    built: Fresh<Arc<Vec<Row>>>,
    builders: Fresh<BuilderInfo>,
    blobs: Fresh<bool>,
    noted: Fresh<()>,
}

impl Packages {
    /// On the SDK's endpoint.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(config: PackagesConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let dynamo = aws_sdk_dynamodb::Client::new(sdk);
        Ok(Self {
            builds: Builds::new(dynamo.clone(), &config.builds_table),
            table: Table::new(dynamo, &config.packages_table),
            upstream: Upstream::new(&config.index)?,
            s3: aws::s3_client(sdk),
            sqs: aws_sdk_sqs::Client::new(sdk),
            projects: Fresh::new(config.index_age),
            rows: Fresh::new(GLANCE),
            built: Fresh::new(MOMENT),
            builders: Fresh::new(MOMENT),
            blobs: Fresh::new(MOMENT),
            noted: Fresh::new(NOTED),
            config,
        })
    }

    /// The names of all packages that are known here.
    pub(super) async fn names(&self) -> Result<BTreeSet<String>, Refusal> {
        Ok(self.table.names().await?)
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
        let project = self.projects.get(name, look_up).await?;
        project.ok_or_else(|| Refusal::Absent(format!("upstream has no project {name}")))
    }

    /// What builds are made in.
    pub(super) async fn builder(&self) -> Result<BuilderInfo, Refusal> {
        let none = || Refusal::Later("no compile worker has started yet".to_owned(), 5);
        let look_up = async |_| self.table.builder().await?.ok_or_else(none);
        self.builders.get("", look_up).await
    }

    /// All rows of a package.
    pub(super) async fn rows(&self, name: &str) -> Result<Arc<Vec<Row>>, Refusal> {
        let look_up = async |_| Ok::<_, Failure>(Arc::new(self.builds.of_package(name).await?));
        Ok(self.built.get(name, look_up).await?)
    }

    /// The row of a request.
    pub(super) async fn row(&self, name: &str, request: &str) -> Result<Option<Row>, Refusal> {
        let look_up = async |_| self.builds.get(name, request).await;
        Ok(self.rows.get(&format!("{name}/{request}"), look_up).await?)
    }

    /// The request for a package by the words of its user.
    pub(super) async fn request(
        &self,
        name: &str,
        version: &str,
        options: Options,
    ) -> Result<Request, Refusal> {
        let name = normalize(name).map_err(Refusal::Absent)?;
        Ok(Request::new(&name, version, options, &self.builder().await?)?)
    }

    /// The row of a request, whose build is started if need be.
    pub(super) async fn ordered(&self, request: &Request) -> Result<Row, Refusal> {
        let lost = match self.row(&request.name, &request.key).await? {
            Some(Row { state: State::Done(artifact), .. }) => !self.is_there(&artifact).await?,
            Some(_) => false,
            None => {
                self.check_version(request).await?;
                false
            }
        };
        loop {
            match self.builds.order(request, lost).await? {
                Ordered::Stands(row) => return Ok(row),
                Ordered::Send(order) => self.send(&CompileMessage::Build(order)).await?,
            }
            self.rows.forget(&format!("{}/{}", request.name, request.key));
            if let Some(row) = self.row(&request.name, &request.key).await? {
                return Ok(row);
            }
        }
    }

    async fn check_version(&self, request: &Request) -> Result<(), Refusal> {
        let Request { name, version, .. } = request;
        match versions(name, &self.project(name).await?.files).contains(version) {
            true => Ok(()),
            false => Err(Refusal::Absent(format!("upstream has no source of {name} {version}"))),
        }
    }

    /// Waits until a build has ended, at most until then.
    pub(super) async fn ended(&self, request: &Request, until: Instant) -> Result<Row, Refusal> {
        let mut row = self.ordered(request).await?;
        while row.state == State::Ordered && Instant::now() < until {
            tokio::time::sleep(GLANCE / 2).await;
            if let Some(now) = self.row(&request.name, &request.key).await? {
                row = now;
            }
        }
        Ok(row)
    }

    /// Puts a message on the workers' queue.
    pub(super) async fn send(&self, message: &CompileMessage) -> Result<(), Refusal> {
        let body = message.body().map_err(|e| Failure::permanent("message", e.to_string()))?;
        let call = self.sqs.send_message().queue_url(&self.config.queue_url).message_body(body);
        let failed = |why| Failure::transient("sqs", format!("SendMessage: {why}"));
        call.send().await.map_err(|e| failed(chain(&e)))?;
        Ok(())
    }

    /// Notes that somebody got a package with these options: its new versions are then built.
    pub(super) async fn note_download(&self, request: &Request) -> Result<(), Refusal> {
        let (name, options) = (&request.name, request.options.to_string());
        let note = async |_| {
            let seen = versions(name, &self.project(name).await?.files);
            Ok::<_, Refusal>(self.table.downloaded(name, &options, seen).await?)
        };
        self.noted.get(&format!("{name}/{options}"), note).await
    }

    async fn is_there(&self, artifact: &Artifact) -> Result<bool, Refusal> {
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

    /// A URL under which an object of the bucket can be fetched for an hour.
    pub(super) async fn url(&self, key: &str) -> Result<String, Refusal> {
        let call = self.s3.get_object().bucket(&self.config.artifacts_bucket).key(key);
        let failed = |why: String| Failure::permanent("presign", format!("{key}: {why}"));
        let life = PresigningConfig::expires_in(URL_LIFE).map_err(|e| failed(e.to_string()))?;
        let signed = call.presigned(life).await.map_err(|e| failed(chain(&e)))?;
        Ok(signed.uri().to_owned())
    }
}
