//! PyPI: source distributions to wheels.

use flotilla_runtime::Failure;
use flotilla_sandbox::BuildLimits;

use crate::{
    builder::{BuilderInfo, Workshop},
    check::check,
    ecosystem::{Ecosystem, Made, Product, Versions},
    error::Stopped,
    keys::{self, ArtifactParts, RECIPE},
    message::BuildOrder,
    names::sdist_version,
    options::Options,
    recipe,
    resolve::{Resolved, resolve},
    sdist::Source,
    upstream::{Answer, File, Upstream},
};

/// A source distribution has at most this many bytes.
const SDIST_LIMIT: usize = 256 << 20;

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
        let Answer::Project(project) = self.upstream.project(name, None).await? else {
            return Err(Stopped::theirs(format!("the index has no project {name}")));
        };
        let found = project.files.into_iter().find(|file| {
            sdist_version(name, &file.filename) == Some(version) && file.sha256.is_some()
        });
        // An upload is not everywhere at once: not to be remembered as a failure.
        found.ok_or_else(|| {
            let what = format!("the index has no source of {name} {version} (yet)");
            Stopped::Ours(Failure::transient("no_source", what))
        })
    }

    async fn build(&self, order: &BuildOrder, log: &mut Vec<u8>) -> Result<Product, Stopped> {
        let (builder, info) = self.workshop.get().await?;
        let options: Options =
            order.options.parse().map_err(|why| Stopped::theirs(format!("options: {why}")))?;
        let file = self.source_file(order).await?;
        let archive = self.upstream.file(&file, SDIST_LIMIT).await?;
        let source = Source::read(&archive)?;
        let resolved = resolve(&self.upstream, info, &source.requires).await?;
        let built =
            recipe::compile(builder, &self.limits, &archive, &source, &resolved, &options).await?;
        let (said, compiled) = built;
        *log = said;
        let compiled = compiled.map_err(Stopped::Theirs)?;
        check(&order.name, &order.version, &compiled.filename, &compiled.bytes, info)
            .map_err(Stopped::Theirs)?;
        let source = file.sha256.unwrap_or_default();
        let key = artifact_key(order, info, &resolved, &source)?;
        Ok(Product {
            key,
            filename: compiled.filename,
            bytes: compiled.bytes,
            source,
            build_requires: resolved.lock,
        })
    }
}

impl Ecosystem for Pypi {
    async fn make(&self, order: &BuildOrder) -> Result<Made, Stopped> {
        let mut log = Vec::new();
        match self.build(order, &mut log).await {
            Ok(product) => Ok(Made { log, artifact: Ok(product) }),
            Err(Stopped::Theirs(why)) => Ok(Made { log, artifact: Err(why) }),
            Err(ours) => Err(ours),
        }
    }

    async fn versions(&self, name: &str, etag: Option<&str>) -> Result<Option<Versions>, Failure> {
        match self.upstream.project(name, etag).await? {
            Answer::Unchanged | Answer::Absent => Ok(None),
            Answer::Project(project) => {
                let all = versions(name, &project.files);
                Ok(Some(Versions { all, etag: project.etag }))
            }
        }
    }
}

/// The versions that have a source with a hash.
pub fn versions(name: &str, files: &[File]) -> std::collections::BTreeSet<String> {
    let sources = files.iter().filter(|file| file.sha256.is_some());
    let versions = sources.filter_map(|file| sdist_version(name, &file.filename));
    versions.map(str::to_owned).collect()
}

fn artifact_key(
    order: &BuildOrder,
    info: &BuilderInfo,
    resolved: &Resolved,
    source: &str,
) -> Result<String, Failure> {
    let parts = ArtifactParts {
        abi: &info.abi,
        build_requires: &resolved.lock,
        builder: &info.image,
        glibc: &info.glibc,
        options: &order.options,
        recipe: RECIPE,
        source,
        version: &order.version,
    };
    keys::key(&parts).map_err(|e| Failure::permanent("key", e.to_string()))
}
