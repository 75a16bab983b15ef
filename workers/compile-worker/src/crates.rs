//! crates.io: crates to the binaries in them.
//!
//! What `cargo fetch --locked` would fetch is fetched here, without cargo: it reads configuration
//! beside the crate, which may name programs that it then runs. The crate's own `Cargo.lock` names
//! every dependency with its hash; the build in the container has them as a directory of sources,
//! and `cargo build --offline --locked` may neither choose nor fetch anything. For a crate without a
//! lock everything that cargo could choose is chosen here, from the index (`choose`), recorded and
//! fetched the same way; cargo chooses among it, in the container.

mod choose;
mod entry;
mod lock;
mod options;
mod pack;
mod registry;

use std::{collections::BTreeMap, sync::Arc};

use flotilla_runtime::Failure;
use flotilla_sandbox::BuildLimits;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

pub use self::registry::{Registry, Release};
use self::{entry::Entry, lock::Source, pack::Binary, registry::Crate};
use crate::{
    builder::{BuilderInfo, Workshop},
    builds::{Lock, Locked},
    container::{Answer, Waiting, packed},
    ecosystem::{Ecosystem, Grammar, Made, Product, Versions},
    error::{Stopped, aside},
    keys::{ArtifactParts, RECIPE, artifact_key},
    message::BuildOrder,
    options::Options,
    progress::Progress,
    steps::Step,
};

/// How crates are named.
pub static GRAMMAR: Grammar = Grammar {
    name: "crates",
    purl: "cargo",
    package: registry::spelling,
    version: str::to_owned,
    given,
    options: options::RULES,
    settled: |options, _| Ok(options),
};

/// How many dependencies are fetched at once.
const AT_ONCE: usize = 8;
/// All dependencies together have at most this many bytes, packed.
const VENDORED_LIMIT: usize = 384 << 20;

/// The ecosystem of crates.io.
#[derive(Debug, Clone)]
pub struct Crates {
    /// Where crates come from.
    pub registry: Registry,
    /// Where builds are made.
    pub workshop: Workshop,
    /// What a build may use.
    pub limits: BuildLimits,
}

#[derive(Serialize)]
struct Plan<'a> {
    crate_name: &'a str,
    arguments: Vec<String>,
    /// Whether the crate says itself what it is built with.
    locked: bool,
    env: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Outcome {
    binaries: Vec<Binary>,
}

impl Crates {
    async fn build(
        &self,
        order: &BuildOrder,
        progress: &Progress<'_>,
        log: &mut Vec<u8>,
    ) -> Result<Product, Stopped> {
        let (builder, info) = self.workshop.get().await?;
        let options = Options::parse(&order.options, &GRAMMAR.options)
            .map_err(|why| Stopped::theirs(format!("options: {why}")))?;
        let (container, given) = tokio::join!(
            Waiting::start(builder, &self.limits),
            Box::pin(self.given(order, &options, progress))
        );
        let (source, input, lock) = given?;
        let (said, answer) = container?.run(input, progress.live.clone()).await?;
        log.extend_from_slice(&said);
        let Answer::<Outcome> { head, bytes } = answer.map_err(Stopped::Theirs)?;
        progress.reached(Step::Built).await;
        let newest = source.newest;
        let packed = aside(move || pack::packed(head.binaries, &bytes, newest)).await?;
        let bytes = packed.map_err(Stopped::theirs)?;
        progress.reached(Step::Checked).await;
        let (key, parts) = key(order, info, &lock, &source)?;
        let filename = format!("{}-{}-{}.tar.zst", order.name, order.version, info.abi);
        let (requires, bundled) = (Vec::new(), BTreeMap::new());
        Ok(Product { key, parts, filename, bytes, metadata: None, requires, bundled })
    }

    /// All that the container is given, and what that is recorded as.
    async fn given(
        &self,
        order: &BuildOrder,
        options: &Options,
        progress: &Progress<'_>,
    ) -> Result<(Source, Vec<u8>, Lock), Stopped> {
        let releases = self.registry.releases(&order.name).await?;
        let release = releases.iter().find(|it| it.version == order.version);
        // A release is not everywhere at once: not to be remembered as a failure.
        let release = release.ok_or_else(|| {
            let what = format!("the registry has no {} {} (yet)", order.name, order.version);
            Stopped::Ours(Failure::transient("no_source", what))
        })?;
        let archive = self.registry.archive(&release.into()).await?;
        let (bytes, known) = (Arc::clone(&archive), release.clone());
        let source = aside(move || Source::read(&bytes, &known)).await??;
        progress.reached(Step::Fetched).await;
        let (needed, locked) = match source.locked.clone() {
            Some(needed) => (needed, true),
            None => (self.chosen(release, progress).await?, false),
        };
        let crates = self.fetch(&needed).await?;
        progress.reached(Step::Resolved).await;
        let lock = recorded(&needed);
        if progress.lock.as_ref() != Some(&lock) {
            progress.locked(&lock).await?;
        }
        progress.reached(Step::Locked).await;
        let mut env = options::environment(options);
        env.insert("SOURCE_DATE_EPOCH".to_owned(), source.newest.to_string());
        let arguments = options::arguments(options);
        let plan = Plan { crate_name: &release.name, arguments, locked, env };
        let files = crates.iter().map(|(path, bytes)| (path.clone(), &**bytes));
        let files = [("source.crate".to_owned(), &*archive)].into_iter().chain(files);
        let input = packed(&plan, files)
            .map_err(|e| Stopped::theirs(format!("the crate cannot be handed in: {e}")))?;
        Ok((source, input, lock))
    }

    /// What a crate without a lock is built with: what was chosen before, else what the index has now.
    async fn chosen(
        &self,
        release: &Release,
        progress: &Progress<'_>,
    ) -> Result<Vec<Crate>, Stopped> {
        if let Some(lock) = &progress.lock {
            let again: Option<Vec<Crate>> = lock.wheels.iter().map(of_lock).collect();
            return again.ok_or_else(|| Stopped::theirs("what it was built with cannot be read"));
        }
        let (_, info) = self.workshop.get().await?;
        let page = self.registry.text(&release.name).await?;
        let mut entries = page.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let root = entries.find(|it| it.version == release.version);
        let root = root.ok_or_else(|| {
            let what = format!("the index does not say what {} needs", release.name);
            Stopped::Ours(Failure::transient("no_source", what))
        })?;
        let compiler = info.compiler.split(' ').nth(1).and_then(|it| it.parse().ok());
        let page = |name: String| {
            let registry = self.registry.clone();
            async move { registry.text(&name).await }
        };
        Box::pin(choose::candidates(&root, compiler.as_ref(), page)).await
    }

    async fn fetch(&self, needed: &[Crate]) -> Result<Vec<(String, Arc<[u8]>)>, Stopped> {
        let registry = self.registry.clone();
        let fetched = stream::iter(needed.to_vec()).map(move |it| {
            let registry = registry.clone();
            async move {
                // Its hash is in its name, where the container finds it without looking into a lock.
                let path = format!("vendor/{}-{}.{}.crate", it.name, it.version, it.sha256);
                Ok::<_, Failure>((path, registry.archive(&it).await?))
            }
        });
        let mut fetched = std::pin::pin!(fetched.buffered(AT_ONCE));
        let (mut crates, mut size) = (Vec::new(), 0);
        while let Some((path, bytes)) = fetched.try_next().await? {
            size += bytes.len();
            if size > VENDORED_LIMIT {
                let mib = VENDORED_LIMIT >> 20;
                return Err(Stopped::theirs(format!("its dependencies have over {mib} MiB")));
            }
            crates.push((path, bytes));
        }
        Ok(crates)
    }
}

impl Ecosystem for Crates {
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
        self.registry.versions(name, validator).await
    }
}

/// The dependencies, as the row and the artifact key have them.
fn recorded(needed: &[Crate]) -> Lock {
    let locked = needed.iter().map(|it| Locked {
        filename: format!("{}-{}.crate", it.name, it.version),
        sha256: it.sha256.clone(),
        url: None,
    });
    Lock { requires: Vec::new(), wheels: locked.collect() }
}

/// A crate out of what was recorded.
fn of_lock(it: &Locked) -> Option<Crate> {
    let (name, version) = given(&it.filename)?;
    Some(Crate { name, version, sha256: it.sha256.clone() })
}

/// Name and version of a crate's file; the name ends where a version begins.
fn given(file: &str) -> Option<(String, String)> {
    let stem = file.strip_suffix(".crate")?;
    let mut parts = stem.match_indices('-').map(|(at, _)| (&stem[..at], &stem[at + 1..]));
    let (name, version) = parts.find(|(_, it)| semver::Version::parse(it).is_ok())?;
    Some((name.to_owned(), version.to_owned()))
}

fn key(
    order: &BuildOrder,
    info: &BuilderInfo,
    lock: &Lock,
    source: &Source,
) -> Result<(String, BTreeMap<String, serde_json::Value>), Failure> {
    artifact_key(&ArtifactParts {
        abi: &info.abi,
        build_requires: &lock.hashes(),
        builder: &info.image,
        glibc: &info.glibc,
        options: &order.options,
        recipe: RECIPE,
        source: &source.sha256,
        version: &order.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_of_a_crate_is_read_again() {
        for (name, version) in [("a-b_c", "1.0.0"), ("x-2", "0.1.0-rc.1+build-7"), ("y", "10.0.0")]
        {
            let it = Crate { name: name.into(), version: version.into(), sha256: "00".into() };
            let lock = recorded(std::slice::from_ref(&it));
            assert_eq!(of_lock(&lock.wheels[0]), Some(it));
        }
    }
}
