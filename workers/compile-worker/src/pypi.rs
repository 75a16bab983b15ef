//! PyPI: source distributions to wheels.

pub(crate) mod options;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_runtime::Failure;
use flotilla_sandbox::BuildLimits;
use pep440_rs::Version;
use serde_json::Value;

use crate::{
    builder::{BuilderInfo, Workshop},
    builds::Lock,
    check::{Checked, check},
    container::{Waiting, counted},
    ecosystem::{About, Ecosystem, Grammar, Made, Product, Versions},
    error::{Stopped, aside},
    keys::{ArtifactParts, RECIPE, artifact_key, sha256},
    message::BuildOrder,
    names::{WheelName, normalize, sdist_version, wheel_of},
    options::Options,
    progress::Progress,
    recipe::{self, Compiled, Job, Wheel},
    resolve::{self, Resolved},
    sdist::{self, Source},
    steps::Step,
    upstream::{Answer, File, Project, Upstream},
    versions::{canonical, same},
};
pub use options::{options, settled};

/// Its name.
pub const PYPI: &str = "pypi";

/// How packages of PyPI are named.
pub static GRAMMAR: Grammar = Grammar {
    name: PYPI,
    purl: "pypi",
    package: normalize,
    version: canonical,
    given: wheel_of,
    options: options::RULES,
    settled,
};

/// A source distribution has at most this many bytes.
const SDIST_LIMIT: usize = 256 << 20;
/// How archives begin that are compressed with bzip2 or xz.
const OTHERS: [&[u8]; 2] = [b"BZh", b"\xfd7zXZ\0"];
/// How often a build backend may want more than it was given.
const ROUNDS: usize = 4;

/// The ecosystem of PyPI.
#[derive(Debug, Clone)]
pub struct Pypi {
    /// Where sources and build requirements come from.
    pub upstream: Upstream,
    /// Where builds are made.
    pub workshop: Workshop,
    /// What a build may use.
    pub limits: BuildLimits,
}

impl Pypi {
    async fn source_file(&self, order: &BuildOrder) -> Result<File, Stopped> {
        let BuildOrder { name, version, .. } = order;
        let project = self.upstream.kept(name).await?;
        let found = source(name, &project.files, version);
        // An upload is not everywhere at once: not to be remembered as a failure.
        found.cloned().ok_or_else(|| {
            let what = format!("the index has no source of {name} {version} (yet)");
            Stopped::Ours(Failure::transient("no_source", what))
        })
    }

    async fn build(
        &self,
        order: &BuildOrder,
        progress: &Progress<'_>,
        log: &mut Vec<u8>,
    ) -> Result<Product, Stopped> {
        let (builder, info) = self.workshop.get().await?;
        let options = options::options(&order.options)
            .map_err(|why| Stopped::theirs(format!("options: {why}")))?;
        let given = async {
            let file = self.source_file(order).await?;
            let published = self.upstream.wheel(&file, SDIST_LIMIT).await?;
            let archive = self.gzipped(&published, progress, log).await?;
            let known = file.sha256.clone();
            let read = aside(move || read(&published, archive, known));
            let (archive, source, hash) = read.await??;
            progress.reached(Step::Fetched).await;
            let resolved = self.first_choice(&source, &options, progress, info).await?;
            Ok::<_, Stopped>((hash, archive, source, resolved))
        };
        let (container, given) =
            tokio::join!(Waiting::start(builder, &self.limits), Box::pin(given));
        let (hash, archive, source, resolved) = given?;
        let job = Job { archive: &archive, source: &source, options: &options };
        let compiled = self.compile(container?, job, resolved, progress, log);
        let (wheel, lock) = Box::pin(compiled).await?;
        progress.reached(Step::Built).await;
        let (name, version, info) = (order.name.clone(), order.version.clone(), info.clone());
        let looked = aside(move || {
            let checked = check(&name, &version, &wheel, &info)?;
            Ok::<_, String>((wheel, checked, info))
        });
        let (wheel, Checked { metadata, bundled }, info) =
            looked.await?.map_err(Stopped::theirs)?;
        progress.reached(Step::Checked).await;
        let (key, parts) = key(order, &info, &lock, &hash)?;
        Ok(Product {
            key,
            parts,
            filename: wheel.filename,
            bytes: wheel.bytes,
            metadata: Some(metadata),
            requires: lock.requires,
            bundled,
        })
    }

    /// An archive that is not compressed with bzip2 or xz. Who compressed it may mean harm, so it is
    /// unpacked in a container.
    async fn gzipped(
        &self,
        archive: &Arc<[u8]>,
        progress: &Progress<'_>,
        log: &mut Vec<u8>,
    ) -> Result<Arc<[u8]>, Stopped> {
        if !OTHERS.iter().any(|it| archive.starts_with(it)) {
            return Ok(Arc::clone(archive));
        }
        let (builder, _) = self.workshop.get().await?;
        let container = Waiting::start_to(builder, &self.limits, &["gzip"]).await?;
        let input = counted(archive);
        let (said, answer) = container.run::<Value>(input, progress.live.clone()).await?;
        log.extend_from_slice(&said);
        Ok(answer.map_err(Stopped::Theirs)?.bytes.into())
    }

    /// Builds with what the source says that it needs, and again with what its backend says that
    /// it needs beside that.
    async fn compile(
        &self,
        mut container: Waiting,
        job: Job<'_>,
        mut resolved: Resolved,
        progress: &Progress<'_>,
        log: &mut Vec<u8>,
    ) -> Result<(Wheel, Lock), Stopped> {
        let (builder, info) = self.workshop.get().await?;
        for _ in 0..ROUNDS {
            progress.reached(Step::Resolved).await;
            if progress.lock.as_ref() != Some(&resolved.lock) {
                progress.locked(&resolved.lock).await?;
            }
            progress.reached(Step::Locked).await;
            let live = progress.live.clone();
            let built = recipe::compile(container, job, &resolved, live).await?;
            log.extend_from_slice(&built.0);
            let more = match built.1.map_err(Stopped::Theirs)? {
                Compiled::Wheel(wheel) => return Ok((wheel, resolved.lock)),
                Compiled::Requires(more) => more,
            };
            let mut requires = resolved.lock.requires;
            requires.extend(more);
            let choice = resolve::resolve(&self.upstream, info, &requires);
            let (fresh, choice) = tokio::join!(Waiting::start(builder, &self.limits), choice);
            (container, resolved) = (fresh?, choice?);
        }
        Err(Stopped::theirs(format!("the build backend wanted more requirements {ROUNDS} times")))
    }

    async fn first_choice(
        &self,
        source: &Source,
        options: &Options,
        progress: &Progress<'_>,
        info: &BuilderInfo,
    ) -> Result<Resolved, Stopped> {
        if let Some(lock) = &progress.lock {
            return resolve::fetch(&self.upstream, lock).await;
        }
        let mut requires = source.requires.clone();
        let pkg_info = source.pkg_info.as_deref().unwrap_or_default();
        requires.extend(resolve::of_extras(info, pkg_info, options.extras())?);
        resolve::resolve(&self.upstream, info, &requires).await
    }
}

impl Ecosystem for Pypi {
    fn grammar(&self) -> &'static Grammar {
        &GRAMMAR
    }

    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    async fn make(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Made, Stopped> {
        let mut log = Vec::new();
        let built = self.build(order, progress, &mut log).await;
        Made::of(log, built)
    }

    async fn versions(
        &self,
        name: &str,
        validator: Option<&str>,
    ) -> Result<Option<Versions>, Failure> {
        match self.upstream.project(name, validator).await? {
            Answer::Unchanged | Answer::Absent => Ok(None),
            Answer::Project(project) => {
                let (all, about) = (versions(name, &project.files), about(name, &project.files));
                let Project { validator, serial, digest, .. } = project;
                Ok(Some(Versions { all, about, validator, serial, digest }))
            }
        }
    }
}

/// An archive as a tar, what it says of itself, and the SHA-256 of what was published, which the index may
/// not have said.
fn read(
    published: &[u8],
    archive: Arc<[u8]>,
    hash: Option<String>,
) -> Result<(Arc<[u8]>, Source, String), Stopped> {
    let hash = hash.unwrap_or_else(|| sha256(published));
    let archive = sdist::as_tar(archive)?;
    let source = Source::read(&archive)?;
    Ok((archive, source, hash))
}

/// The versions that have a source with a hash.
pub fn versions(name: &str, files: &[File]) -> BTreeSet<String> {
    sources(name, files).into_keys().map(str::to_owned).collect()
}

/// What upstream says of the sources of versions, where it says something.
fn about(name: &str, files: &[File]) -> BTreeMap<String, About> {
    let about = sources(name, files).into_iter().map(|(version, file)| {
        let (requires_python, yanked) = (file.requires_python.clone(), file.yanked.clone());
        (version.to_owned(), About { requires_python, yanked })
    });
    about.filter(|(_, about)| *about != About::default()).collect()
}

/// The source of each version as upstream writes it, with its hash; of two, in whatever spelling, the
/// `.tar.gz`.
pub fn sources<'f>(name: &str, files: &'f [File]) -> BTreeMap<&'f str, &'f File> {
    let mut sources: BTreeMap<String, (&str, &File)> = BTreeMap::new();
    for file in files.iter().filter(|file| file.hash().is_some()) {
        let Some(version) = sdist_version(name, &file.filename) else { continue };
        let known = sources.entry(canonical(version)).or_insert((version, file));
        if !known.1.filename.ends_with(".tar.gz") && file.filename.ends_with(".tar.gz") {
            *known = (version, file);
        }
    }
    sources.into_values().collect()
}

/// Whether there is a source of a version, of which no hash is said that it can be checked against.
pub fn is_unchecked(name: &str, files: &[File], version: &str) -> bool {
    let unchecked = files.iter().filter(|file| file.hash().is_none());
    unchecked.filter_map(|file| sdist_version(name, &file.filename)).any(|it| same(it, version))
}

/// The source of a version, in whatever spelling.
pub fn source<'f>(name: &str, files: &'f [File], version: &str) -> Option<&'f File> {
    let mut sources = sources(name, files).into_iter();
    sources.find(|(it, _)| same(it, version)).map(|(_, file)| file)
}

/// The sources of the newest versions, at most so many, that upstream has no wheel of: only they
/// themselves tell what their wheels will be for.
pub fn alone<'f>(name: &str, files: &'f [File], most: usize) -> Vec<(&'f str, &'f File)> {
    let wheels = files.iter().filter_map(|file| WheelName::parse(&file.filename));
    let wheels: BTreeSet<String> = wheels.map(|wheel| canonical(&wheel.version)).collect();
    let mut alone: Vec<_> = sources(name, files).into_iter().collect();
    alone.retain(|(version, _)| !wheels.contains(&canonical(version)));
    alone.sort_by_cached_key(|(version, _)| Reverse(version.parse::<Version>().ok()));
    alone.truncate(most);
    alone
}

fn key(
    order: &BuildOrder,
    info: &BuilderInfo,
    lock: &Lock,
    source: &str,
) -> Result<(String, BTreeMap<String, Value>), Failure> {
    artifact_key(&ArtifactParts {
        abi: &info.abi,
        build_requires: &lock.hashes(),
        builder: &info.image,
        glibc: &info.glibc,
        options: &order.options,
        recipe: RECIPE,
        source,
        version: &canonical(&order.version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builds::Locked;

    #[test]
    fn a_source_without_a_hash_that_is_good_enough_is_no_source_and_known_to_be_there() {
        let file = |filename: &str, sha512: Option<&str>| File {
            filename: filename.to_owned(),
            sha512: sha512.map(str::to_owned),
            ..File::default()
        };
        let files = [file("a-1.0.tar.gz", None), file("a-2.0.zip", Some("00"))];
        assert_eq!(versions("a", &files), BTreeSet::from(["2.0".to_owned()]));
        let unchecked = ["1", "v1.0.0", "2.0", "3.0"].map(|it| is_unchecked("a", &files, it));
        assert_eq!(unchecked, [true, true, false, false]);
    }

    #[test]
    fn an_artifact_key_is_of_all_that_the_artifact_is_made_of() {
        let order = |version: &str, options: &str| BuildOrder {
            ecosystem: PYPI.into(),
            name: "a".into(),
            version: version.into(),
            options: options.into(),
            request: "r".into(),
            epoch: 1,
        };
        let info = |image: &str| BuilderInfo {
            image: image.into(),
            abi: "cp311".into(),
            glibc: "2.36".into(),
            ..BuilderInfo::default()
        };
        let wheel = |sha256: &str| Lock {
            requires: Vec::new(),
            wheels: vec![Locked { filename: "w".into(), sha256: sha256.into(), url: None }],
        };
        let key = |order: &BuildOrder, image: &str, lock: &Lock, source: &str| {
            key(order, &info(image), lock, source).unwrap().0
        };
        let (own, lock) = (order("1.0", "default"), wheel("aa"));
        let keys = [
            key(&own, "i", &lock, "ss"),
            key(&order("1.1", "default"), "i", &lock, "ss"),
            key(&order("1.0", "opt=3"), "i", &lock, "ss"),
            key(&own, "j", &lock, "ss"),
            key(&own, "i", &wheel("bb"), "ss"),
            key(&own, "i", &lock, "tt"),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        let spelled = BuildOrder { epoch: 2, request: "s".into(), ..order("v1.0.0", "default") };
        assert_eq!(key(&spelled, "i", &lock, "ss"), keys[0]);
    }

    #[test]
    fn of_two_sources_of_a_version_the_tar_gz_is_taken_whatever_their_order() {
        let file = |filename: &str| File {
            filename: filename.to_owned(),
            sha256: Some("00".to_owned()),
            ..File::default()
        };
        let files = ["a-1.0.zip", "a-1.0.tar.gz", "a-2.0.tar.gz", "a-2.0.0.zip", "a-2.tar.gz"];
        let files = files.map(file);
        let taken = ["1.0", "2.0"].map(|it| source("a", &files, it).unwrap().filename.as_str());
        assert_eq!(taken, ["a-1.0.tar.gz", "a-2.0.tar.gz"]);
    }
}
