//! Build requirements, resolved to wheels without running anything: pinned, and recorded.

mod choice;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
    str::FromStr,
    sync::Arc,
};

use pep440_rs::{Version, VersionSpecifiers};

pub use self::wants::is_pin;
use self::{choice::Choice, wants::Wanted};
use crate::{
    builder::BuilderInfo,
    builds::{Lock, Locked},
    error::Stopped,
    metadata,
    names::{WheelName, normalize},
    requirement::{Requirement, requirement},
    upstream::{File, Project, Upstream},
};

/// Rounds until the choice must stand still. Each goes one requirement deeper, or takes one back.
const ROUNDS: usize = 100;
/// A build requirement has at most this many bytes.
const WHEEL_LIMIT: usize = 128 << 20;
const METADATA_LIMIT: u64 = 4 << 20;

/// What a build is given.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Wheels of the builder image, by file name.
    pub vendored: Vec<String>,
    /// Wheels of upstream, with their bytes.
    pub wheels: Vec<(File, Arc<[u8]>)>,
    /// The choice, to be made again without choosing.
    pub lock: Lock,
}

/// The wheel that was chosen for a package.
struct Pick {
    version: Version,
    filename: String,
    sha256: String,
    /// Nothing for a wheel of the builder image.
    fetched: Option<(File, Arc<[u8]>)>,
    requires: Vec<Requirement>,
}

/// Chooses the newest wheels that satisfy `requires` and each other. Where what one of them requires
/// leaves no wheel of another, an older one is taken in its place.
///
/// # Errors
/// Theirs, naming the requirement for which there is no wheel; ours when upstream does not answer.
pub async fn resolve(
    upstream: &Upstream,
    builder: &BuilderInfo,
    requires: &[String],
) -> Result<Resolved, Stopped> {
    let roots: Vec<Requirement> =
        requires.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    let mut choice = Choice::new(upstream, builder, &roots);
    for _ in 0..ROUNDS {
        if choice.is_whole().await? {
            return Ok(resolved(requires, choice.picks));
        }
    }
    Err(Stopped::theirs(format!("the build requirements {requires:?} contradict each other")))
}

/// What was chosen before, fetched again.
///
/// # Errors
/// Ours when upstream does not answer, or has something else now.
pub async fn fetch(upstream: &Upstream, lock: &Lock) -> Result<Resolved, Stopped> {
    let mut resolved = Resolved { lock: lock.clone(), ..Resolved::default() };
    for wheel in &lock.wheels {
        let Some(url) = &wheel.url else {
            resolved.vendored.push(wheel.filename.clone());
            continue;
        };
        let file = File {
            filename: wheel.filename.clone(),
            url: url.clone(),
            sha256: Some(wheel.sha256.clone()),
            ..File::default()
        };
        let bytes = upstream.wheel(&file, WHEEL_LIMIT).await?;
        resolved.wheels.push((file, bytes));
    }
    Ok(resolved)
}

/// What the metadata of a source requires for some of its extras, beside what it requires anyway.
///
/// # Errors
/// Theirs, for an extra that the source does not have.
pub fn of_extras<'e>(
    builder: &BuilderInfo,
    pkg_info: &str,
    extras: impl Iterator<Item = &'e str>,
) -> Result<Vec<String>, Stopped> {
    let known: BTreeSet<String> =
        metadata::values(pkg_info, "Provides-Extra").filter_map(|it| normalize(it).ok()).collect();
    let mut wanted = Vec::new();
    for extra in extras {
        if !known.contains(extra) {
            let has: Vec<_> = known.iter().map(String::as_str).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            let what = format!("the source has no extra {extra:?}; it says that it has {has}");
            return Err(Stopped::theirs(what));
        }
        let (named, none) = (BTreeSet::from([extra.to_owned()]), BTreeSet::new());
        let lines = metadata::values(pkg_info, "Requires-Dist");
        let all = lines.filter_map(|it| requirement(it).ok());
        let own = all.filter(|it| it.applies(builder, &named) && !it.applies(builder, &none));
        wanted.extend(own.map(|it| it.text));
    }
    Ok(wanted)
}

fn parse(text: &str) -> Result<Requirement, Stopped> {
    requirement(text).map_err(|why| Stopped::theirs(format!("the build requirement {why}")))
}

/// The newest wheel that will do, of upstream or else of the builder image; `None` where there is none.
async fn pick(
    upstream: &Upstream,
    builder: &BuilderInfo,
    name: &str,
    wanted: &Wanted,
) -> Result<Option<Pick>, Stopped> {
    let project = upstream.kept(name).await?;
    let Some((version, file)) = newest(&project, builder, wanted) else {
        return Ok(vendored(builder, name, wanted));
    };
    let bytes = upstream.wheel(file, WHEEL_LIMIT).await?;
    let requires = requirements(&bytes).map_err(|why| {
        Stopped::theirs(format!("the build requirement {}: {why}", file.filename))
    })?;
    let (filename, sha256) = (file.filename.clone(), file.sha256.clone().unwrap_or_default());
    Ok(Some(Pick { version, filename, sha256, fetched: Some((file.clone(), bytes)), requires }))
}

/// The newest wheel that fits; a pre-release only where there is nothing else, and one that was
/// withdrawn where its version is named (PEP 592).
fn newest<'p>(
    project: &'p Project,
    builder: &BuilderInfo,
    wanted: &Wanted,
) -> Option<(Version, &'p File)> {
    let candidate = |file: &'p File| {
        let wheel = WheelName::parse(&file.filename)?;
        let version: Version = wheel.version.replace('_', "-").parse().ok()?;
        let good = (file.yanked.is_none() || wanted.is_pinned())
            && file.sha256.is_some()
            && wheel.fits(&builder.abi, &builder.platform, &builder.glibc)
            && runs_on(file.requires_python.as_deref(), &builder.python)
            && wanted.takes(&version);
        good.then_some((version, file))
    };
    let candidates = project.files.iter().filter_map(candidate);
    candidates.max_by_key(|(version, file)| {
        (file.yanked.is_none(), !version.any_prerelease(), version.clone())
    })
}

/// Whether a Python of this version may have what wants these.
pub fn runs_on(requires_python: Option<&str>, python: &str) -> bool {
    let Some(text) = requires_python.filter(|text| !text.is_empty()) else {
        return true;
    };
    match (VersionSpecifiers::from_str(text), Version::from_str(python)) {
        (Ok(specifiers), Ok(version)) => specifiers.contains(&version),
        _ => true,
    }
}

fn vendored(builder: &BuilderInfo, name: &str, wanted: &Wanted) -> Option<Pick> {
    let (version, wheel) = builder.wheels.iter().find_map(|wheel| {
        let parsed = WheelName::parse(&wheel.filename)?;
        let version: Version = parsed.version.parse().ok()?;
        (parsed.name == name && wanted.takes(&version)).then_some((version, wheel))
    })?;
    let (filename, sha256) = (wheel.filename.clone(), wheel.sha256.clone());
    Some(Pick { version, filename, sha256, fetched: None, requires: Vec::new() })
}

/// The requirements in a wheel's METADATA; what does not parse is for other installers.
fn requirements(wheel: &[u8]) -> Result<Vec<Requirement>, String> {
    let mut zip = zip::ZipArchive::new(Cursor::new(wheel)).map_err(|e| e.to_string())?;
    let name = zip.file_names().find(|name| name.ends_with(".dist-info/METADATA"));
    let name = name.ok_or("it has no METADATA")?.to_owned();
    let file = zip.by_name(&name).map_err(|e| e.to_string())?;
    let mut text = String::new();
    file.take(METADATA_LIMIT).read_to_string(&mut text).map_err(|e| e.to_string())?;
    let lines = metadata::values(&text, "Requires-Dist");
    Ok(lines.filter_map(|line| requirement(line).ok()).collect())
}

fn resolved(requires: &[String], picks: BTreeMap<String, Pick>) -> Resolved {
    let mut resolved = Resolved::default();
    resolved.lock.requires = requires.to_vec();
    for pick in picks.into_values() {
        resolved.lock.wheels.push(Locked {
            filename: pick.filename.clone(),
            sha256: pick.sha256,
            url: pick.fetched.as_ref().map(|(file, _)| file.url.clone()),
        });
        match pick.fetched {
            Some(fetched) => resolved.wheels.push(fetched),
            None => resolved.vendored.push(pick.filename),
        }
    }
    resolved
}

#[cfg(test)]
mod tests;
