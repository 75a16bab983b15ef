//! Metadata of a wheel (PEP 658), where possible without building it.

use std::sync::Arc;

use compile_worker::{
    builds::{Request, State},
    error::TOO_LARGE,
    metadata::{is_static, value},
    names::{WheelName, normalize},
    pypi::source,
    sdist::{Glance, glance},
    upstream::{File, Project, Upstream},
    versions::same,
};
use flotilla_runtime::Failure;

use super::{Packages, answer::Refusal};

/// Metadata has at most this many bytes.
const LIMIT: u64 = 4 << 20;
/// A source that is fetched for its metadata has at most this many bytes.
const SOURCE_LIMIT: usize = 64 << 20;

/// The metadata of what is asked for: of the wheel itself once it is built, else of its source,
/// where that says for sure what every wheel requires, else of upstream's own wheel for the same
/// Python and platform, be it out of the wheel itself. Nothing where only a build can tell.
pub(super) async fn of(
    packages: &Arc<Packages>,
    request: &Request,
) -> Result<Option<Arc<str>>, Refusal> {
    let row = packages.row(&request.package(), &request.key).await?;
    if let Some(State::Done(artifact)) = row.as_ref().map(|row| &row.state)
        && let Some(key) = &artifact.metadata
    {
        match packages.object(key, LIMIT).await {
            Ok(text) => return Ok(Some(String::from_utf8_lossy(&text).into())),
            // Gone with its wheel, which is built again; else the source or upstream may tell.
            Err(Refusal::Absent(_)) if !packages.is_there(artifact).await? => return Ok(None),
            Err(Refusal::Absent(_)) => {}
            Err(why) => return Err(why),
        }
    }
    packages.told(&request.name, &request.version).await
}

/// What the source says, or upstream's own wheel.
pub(super) async fn unbuilt(
    packages: &Packages,
    name: &str,
    version: &str,
) -> Result<Option<Arc<str>>, Refusal> {
    let project = packages.project(name).await?;
    let source = source(name, &project.files, version);
    let what = || format!("upstream has no source of {name} {version}");
    let source = source.ok_or_else(|| Refusal::Absent(what()))?;
    if let Some(text) = of_source(packages, source).await?
        && is_static(&text)
    {
        return Ok(Some(text.into()));
    }
    let Some(wheel) = fitting(packages, &project, version).await? else { return Ok(None) };
    let told = match packages.upstream().metadata(wheel).await? {
        Some(text) => Some(text),
        None => packages.upstream().peeked(wheel).await?,
    };
    Ok(told.filter(|text| is_of(text, name, version)).map(Into::into))
}

/// Whether metadata is of this package and version: what it says is believed of no other.
fn is_of(text: &str, name: &str, version: &str) -> bool {
    normalize(value(text, "Name")).is_ok_and(|it| it == name)
        && same(value(text, "Version"), version)
}

async fn of_source(packages: &Packages, source: &File) -> Result<Option<String>, Refusal> {
    match packages.upstream().metadata(source).await? {
        Some(text) => Ok(Some(text)),
        None => Ok(packages.glance(source).await?.pkg_info.clone()),
    }
}

/// What a source tells who looks into it. One that is too large to be fetched here, or broken, tells
/// nothing: a build has to.
pub(super) async fn glanced(upstream: Upstream, source: File) -> Result<Glance, Refusal> {
    let unknown = Glance { native: true, pkg_info: None };
    let archive = match upstream.file(&source, SOURCE_LIMIT).await {
        Err(why) if why.kind() == TOO_LARGE => return Ok(unknown),
        fetched => fetched?,
    };
    let looked = tokio::task::spawn_blocking(move || glance(&archive)).await;
    let looked =
        looked.map_err(|e| Failure::transient("metadata", format!("{}: {e}", source.filename)))?;
    Ok(looked.unwrap_or(unknown))
}

/// Upstream's wheel of this version for the Python that builds here; first one whose metadata is
/// served apart.
async fn fitting<'p>(
    packages: &Packages,
    project: &'p Project,
    version: &str,
) -> Result<Option<&'p File>, Refusal> {
    let builder = packages.builder().await?;
    let fits = |wheel: WheelName| {
        wheel.fits(&builder.abi, &builder.platform, &builder.glibc) && same(&wheel.version, version)
    };
    let fitting =
        project.files.iter().filter(|file| WheelName::parse(&file.filename).is_some_and(fits));
    Ok(fitting.min_by_key(|file| file.core_metadata.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_believed_of_no_other_package_or_version() {
        let told = |text: &str| is_of(text, "a-b", "1.0");
        assert!(told("Name: A_b\nVersion: 1.0.0\n"));
        for other in ["Name: a\nVersion: 1.0\n", "Name: a-b\nVersion: 1.1\n", "Version: 1.0\n", ""]
        {
            assert!(!told(other), "{other}");
        }
    }
}
