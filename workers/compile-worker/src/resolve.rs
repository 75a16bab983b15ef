//! Build requirements, resolved to wheels without running anything: pinned, and recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
    str::FromStr,
    sync::Arc,
};

use futures::future::try_join_all;
use pep440_rs::{Version, VersionSpecifiers};

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
/// A build is given at most so many packages.
const PACKAGES: usize = 500;
/// How many are looked up at once.
const AT_ONCE: usize = 8;
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

/// All that is wanted of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    specifiers: Vec<VersionSpecifiers>,
    extras: BTreeSet<String>,
}

type Wants = BTreeMap<String, Wanted>;

/// The wheel that was chosen for a package.
struct Pick {
    version: Version,
    filename: String,
    sha256: String,
    /// Nothing for a wheel of the builder image.
    fetched: Option<(File, Arc<[u8]>)>,
    requires: Vec<Requirement>,
}

/// Chooses the newest wheels that satisfy `requires` and each other.
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
    let mut picks: BTreeMap<String, Pick> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let wants = wants(&roots, &picks, builder)?;
        picks.retain(|name, _| wants.contains_key(name));
        let stale: Vec<_> = wants
            .iter()
            .filter(|(name, wanted)| {
                picks.get(*name).is_none_or(|pick| !wanted.takes(&pick.version))
            })
            .collect();
        if stale.is_empty() {
            return Ok(resolved(requires, picks));
        }
        for some in stale.chunks(AT_ONCE) {
            let looked = some.iter().map(|(name, wanted)| pick(upstream, builder, name, wanted));
            let found = try_join_all(looked).await?;
            picks.extend(some.iter().map(|(name, _)| (*name).clone()).zip(found));
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

impl Wanted {
    fn takes(&self, version: &Version) -> bool {
        self.specifiers.iter().all(|it| it.contains(version))
    }
}

fn parse(text: &str) -> Result<Requirement, Stopped> {
    requirement(text).map_err(|why| Stopped::theirs(format!("the build requirement {why}")))
}

/// What the roots and the present choice want together.
fn wants(
    roots: &[Requirement],
    picks: &BTreeMap<String, Pick>,
    builder: &BuilderInfo,
) -> Result<Wants, Stopped> {
    let mut wants = Wants::new();
    for requirement in roots {
        add(&mut wants, requirement, builder, &BTreeSet::new())?;
    }
    // Only what is reached from the roots counts; a cycle ends by the growth of `done`.
    let mut done = BTreeSet::new();
    while let Some(name) = wants.keys().find(|name| !done.contains(*name)).cloned() {
        let extras = wants[&name].extras.clone();
        for requirement in picks.get(&name).map(|pick| &pick.requires).into_iter().flatten() {
            add(&mut wants, requirement, builder, &extras)?;
        }
        done.insert(name);
    }
    Ok(wants)
}

fn add(
    wants: &mut Wants,
    requirement: &Requirement,
    builder: &BuilderInfo,
    extras: &BTreeSet<String>,
) -> Result<(), Stopped> {
    if !requirement.applies(builder, extras) {
        return Ok(());
    }
    let name = &requirement.name;
    if requirement.names_url {
        return Err(Stopped::theirs(format!(
            "the build requirement {name} names a URL; only packages of the index are used"
        )));
    }
    let wanted = wants.entry(name.clone()).or_default();
    wanted.extras.extend(requirement.extras.iter().cloned());
    wanted.specifiers.push(requirement.specifiers.clone());
    match wants.len() > PACKAGES {
        true => Err(Stopped::theirs(format!("the build requires over {PACKAGES} packages"))),
        false => Ok(()),
    }
}

async fn pick(
    upstream: &Upstream,
    builder: &BuilderInfo,
    name: &str,
    wanted: &Wanted,
) -> Result<Pick, Stopped> {
    let project = upstream.kept(name).await?;
    let Some((version, file)) = newest(&project, builder, wanted) else {
        return vendored(builder, name, wanted);
    };
    let bytes = upstream.wheel(file, WHEEL_LIMIT).await?;
    let requires = requirements(&bytes).map_err(|why| {
        Stopped::theirs(format!("the build requirement {}: {why}", file.filename))
    })?;
    let (filename, sha256) = (file.filename.clone(), file.sha256.clone().unwrap_or_default());
    Ok(Pick { version, filename, sha256, fetched: Some((file.clone(), bytes)), requires })
}

/// The newest wheel that fits; a pre-release only where there is nothing else.
fn newest<'p>(
    project: &'p Project,
    builder: &BuilderInfo,
    wanted: &Wanted,
) -> Option<(Version, &'p File)> {
    let candidate = |file: &'p File| {
        let wheel = WheelName::parse(&file.filename)?;
        let version: Version = wheel.version.replace('_', "-").parse().ok()?;
        let good = file.yanked.is_none()
            && file.sha256.is_some()
            && wheel.fits(&builder.abi, &builder.platform, &builder.glibc)
            && runs_on(file.requires_python.as_deref(), &builder.python)
            && wanted.takes(&version);
        good.then_some((version, file))
    };
    let candidates = project.files.iter().filter_map(candidate);
    candidates.max_by_key(|(version, _)| (!version.any_prerelease(), version.clone()))
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

fn vendored(builder: &BuilderInfo, name: &str, wanted: &Wanted) -> Result<Pick, Stopped> {
    let found = builder.wheels.iter().find_map(|wheel| {
        let parsed = WheelName::parse(&wheel.filename)?;
        let version: Version = parsed.version.parse().ok()?;
        (parsed.name == name && wanted.takes(&version)).then_some((version, wheel))
    });
    let (version, wheel) = found.ok_or_else(|| {
        let specifiers = wanted.specifiers.iter().filter(|it| !it.is_empty());
        let specifiers: Vec<_> = specifiers.map(ToString::to_string).collect();
        let what = format!("{name} {}", specifiers.join(", "));
        Stopped::theirs(format!("no wheel satisfies the build requirement {}", what.trim()))
    })?;
    let (filename, sha256) = (wheel.filename.clone(), wheel.sha256.clone());
    Ok(Pick { version, filename, sha256, fetched: None, requires: Vec::new() })
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
