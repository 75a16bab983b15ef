//! What upstream has, and who wants it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use compile_worker::{
    builds::{Request, Row, State, package_key},
    crates::Release,
    ecosystem::About,
    pypi::{self, PYPI},
    sdist::Glance,
    upstream::{Answer, File, Project, Upstream},
    versions::canonical,
};
use flotilla_runtime::Failure;

use super::{NOTED, Packages};
use crate::packages::{answer::Refusal, metadata};

/// How long it is remembered that upstream has no such project.
const ABSENT: Duration = Duration::from_secs(2);
/// Upstream may take so long to say what is new of what is known.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many sources of a project are looked into for the tags of its wheels, and how long a page
/// waits for that.
const LOOKED_INTO: usize = 4;
const GLIMPSE: Duration = Duration::from_secs(2);
/// How long it is remembered what was seen in a source.
const FOR_GOOD: Duration = Duration::from_secs(24 * 3600);

impl Packages {
    /// A project of upstream. Where upstream does not answer, as it was when it did: what is built
    /// does not depend on it.
    pub(in crate::packages) async fn project(&self, name: &str) -> Result<Arc<Project>, Refusal> {
        let (upstream, asked) = (self.upstream.clone(), name.to_owned());
        let look_up = move |old: Option<Option<Arc<Project>>>| async move {
            let Some(old) = old.flatten() else {
                return Ok(match upstream.project(&asked, None).await? {
                    Answer::Project(project) => Some(Arc::new(project)),
                    Answer::Unchanged | Answer::Absent => None,
                });
            };
            let news = upstream.project(&asked, old.validator.as_deref());
            Ok(match or_late(news).await {
                Ok(Answer::Project(project)) => Some(Arc::new(project)),
                Ok(Answer::Absent) => None,
                Ok(Answer::Unchanged) => Some(old),
                Err(why) => {
                    tracing::warn!(%why, project = asked, "upstream's old page stands");
                    Some(old)
                }
            })
        };
        let age = |found: &Option<Arc<Project>>| match found {
            Some(_) => self.config.index_age,
            None => self.config.index_age.min(ABSENT),
        };
        let project = self.projects.get_apart(name, age, look_up).await?;
        project.ok_or_else(|| Refusal::Absent(format!("upstream has no project {name}")))
    }

    /// The releases of a crate, as [`project`](Self::project); none where there is no such crate.
    pub(in crate::packages) async fn releases(
        &self,
        name: &str,
    ) -> Result<Arc<Vec<Release>>, Refusal> {
        let (registry, asked) = (self.registry.clone(), name.to_owned());
        let look_up = move |old: Option<Arc<Vec<Release>>>| async move {
            match (or_late(registry.releases(&asked)).await, old) {
                (Ok(releases), _) => Ok(Arc::new(releases)),
                (Err(why), Some(old)) if !old.is_empty() => {
                    tracing::warn!(%why, name = asked, "the registry's old page stands");
                    Ok(old)
                }
                (Err(why), _) => Err(why.into()),
            }
        };
        self.crates.get_apart(name, |_| self.config.index_age, look_up).await
    }

    /// The versions of a package that has a source upstream; none where there is no package.
    pub(in crate::packages) async fn versions(
        &self,
        ecosystem: &str,
        name: &str,
    ) -> Result<BTreeSet<String>, Refusal> {
        if ecosystem == PYPI {
            return Ok(pypi::versions(name, &self.project(name).await?.files));
        }
        let releases = self.releases(name).await?;
        Ok(releases.iter().map(|release| release.version.clone()).collect())
    }

    /// Notes that somebody gets a package with these options: its new versions are then built.
    /// Nobody waits for that, and what cannot be noted is noted with the next download. A row that is
    /// marked is about to be forgotten: its download is noted whenever the last one was.
    pub(in crate::packages) fn note_download(self: &Arc<Self>, request: &Request, row: &Row) {
        let key = format!("{} {}", request.key, row.epoch);
        if row.marked_at.is_some() {
            self.noted.forget(&key);
        }
        if self.noted.has(&key) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.noting).try_acquire_owned() else {
            tracing::warn!(request.name, "a download is not noted: too many wait to be");
            return;
        };
        let (packages, request) = (Arc::clone(self), request.clone());
        tokio::spawn(async move {
            let _one_of_few = permit;
            let note = async |_| packages.note(&request).await;
            if let Err(why) = packages.noted.get(&key, note).await {
                tracing::warn!(why = why.why(), request.name, "a download is not noted");
            }
            // Its mark is gone.
            packages.rows.forget(&request.key);
        });
    }

    async fn note(&self, request: &Request) -> Result<(), Refusal> {
        let (package, options) = (request.package(), request.options.to_string());
        let seen = self.versions(&request.ecosystem, &request.name).await.ok();
        let row = self.builds.downloaded(request);
        let wanted = self.table.downloaded(&package, &options, seen);
        Ok(futures::future::try_join(row, wanted).await.map(drop)?)
    }

    /// What is known of the metadata of a version that is not built.
    pub(in crate::packages) async fn told(
        self: &Arc<Self>,
        name: &str,
        version: &str,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let key = format!("{name} {version}");
        let (packages, name, version) = (Arc::clone(self), name.to_owned(), version.to_owned());
        let look_up = move |_| async move { metadata::unbuilt(&packages, &name, &version).await };
        self.metadata.get_apart(&key, |_| NOTED, look_up).await
    }

    /// Where packages come from.
    pub(in crate::packages) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What a source tells who looks into it: its bytes never change, so it is looked into once.
    pub(in crate::packages) async fn glance(&self, source: &File) -> Result<Arc<Glance>, Refusal> {
        let key = source.sha256.clone().unwrap_or_else(|| source.url.clone());
        let (upstream, source) = (self.upstream.clone(), source.clone());
        let turns = Arc::clone(&self.unpacking);
        let look = move |_| async move {
            let _one_of_few = turns.acquire_owned().await;
            Ok(Arc::new(metadata::glanced(upstream, source).await?))
        };
        self.glances.get_apart(&key, |_| FOR_GOOD, look).await
    }

    /// Whether the newest sources that upstream has no wheels of have anything to compile, by version.
    /// What takes long to find out is not told; whoever asks later is.
    pub(in crate::packages) async fn natives(
        &self,
        name: &str,
        project: &Project,
    ) -> HashMap<String, bool> {
        let looks = pypi::alone(name, &project.files, LOOKED_INTO).into_iter();
        let looks = looks.map(|(version, source)| async move {
            let look = tokio::time::timeout(GLIMPSE, self.glance(source)).await;
            Some((version.to_owned(), look.ok()?.ok()?.native))
        });
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// The versions of a package of PyPI that were seen upstream or built, none where nothing is known,
    /// with what upstream said of them; and its rows. Where it is not known what upstream said, nobody
    /// is offered more than what is built.
    pub(in crate::packages) async fn remembered(
        &self,
        name: &str,
    ) -> Result<(BTreeMap<String, About>, Vec<Row>), Refusal> {
        let known = self.known(&package_key(PYPI, name)).await?;
        let rows = self.rows(name).await?;
        let mut versions = BTreeMap::new();
        if let Some(mut about) = known.about {
            // A set of DynamoDB is never empty.
            let all = known.versions.into_iter().filter(|it| !it.is_empty());
            versions.extend(all.map(|it| (it.clone(), about.remove(&it).unwrap_or_default())));
        }
        let seen: BTreeSet<String> = versions.keys().map(|it| canonical(it)).collect();
        let done = rows.iter().filter(|row| matches!(row.state, State::Done(_)));
        let unseen = done.filter(|row| !seen.contains(&canonical(&row.version)));
        versions.extend(unseen.map(|row| (row.version.clone(), About::default())));
        Ok((versions, rows))
    }
}

async fn or_late<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || {
        let what = format!("upstream does not answer within {} s", PATIENCE.as_secs());
        Failure::transient("upstream", what)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}
