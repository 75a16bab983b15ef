//! A crate, looked into without running anything of it; what its `Cargo.lock` names.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::registry::{Crate, Release};
use crate::error::Stopped;

/// Unpacked, a crate has at most this many bytes and files.
const SIZE_LIMIT: u64 = 512 << 20;
const FILES_LIMIT: usize = 100_000;
const LOCK_LIMIT: u64 = 8 << 20;
/// A crate has at most this many dependencies.
const DEPENDENCIES: usize = 2000;
/// How a lock names crates.io.
const SOURCES: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];
/// Cargo gives files that have no time this one; nothing is older.
const EPOCH: u64 = 1;

/// What is to be known of a crate.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// SHA-256 of its file.
    pub(super) sha256: String,
    /// When its newest file was written, in Unix seconds.
    pub(super) newest: u64,
    /// All that its lock names, but itself; nothing where it has no lock.
    pub(super) locked: Option<Vec<Crate>>,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
    /// Hashes, in locks of before 2019.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl Source {
    pub(super) fn read(archive: &[u8], release: &Release) -> Result<Self, Stopped> {
        let Release { name, version, sha256, .. } = release;
        let broken = |e: std::io::Error| Stopped::theirs(format!("the crate is broken: {e}"));
        let lock_path = format!("{name}-{version}/Cargo.lock");
        let mut tar = tar::Archive::new(GzDecoder::new(archive).take(SIZE_LIMIT));
        let (mut lock, mut newest, mut size) = (None, EPOCH, 0_u64);
        for (count, entry) in tar.entries().map_err(broken)?.enumerate() {
            let mut entry = entry.map_err(broken)?;
            size = size.saturating_add(entry.size());
            if count > FILES_LIMIT || size > SIZE_LIMIT {
                return Err(Stopped::theirs("the crate is too large when it is unpacked"));
            }
            newest = newest.max(entry.header().mtime().unwrap_or(0));
            if *entry.path_bytes() == *lock_path.as_bytes() {
                let mut text = String::new();
                (&mut entry).take(LOCK_LIMIT).read_to_string(&mut text).map_err(broken)?;
                lock = Some(text);
            }
        }
        let locked =
            lock.map(|lock| locked(&lock, release)).transpose().map_err(Stopped::theirs)?;
        Ok(Self { sha256: sha256.clone(), newest, locked })
    }
}

/// The dependencies that a lock names, each with its hash.
fn locked(text: &str, root: &Release) -> Result<Vec<Crate>, String> {
    let lock: Lock = toml::from_str(text).map_err(|e| format!("Cargo.lock: {}", e.message()))?;
    if lock.package.len() > DEPENDENCIES {
        return Err(format!("Cargo.lock names {} packages", lock.package.len()));
    }
    let (mut locked, mut seen) = (Vec::new(), BTreeSet::new());
    for package in &lock.package {
        let Package { name, version, source, .. } = package;
        let Some(source) = source else {
            match name == &root.name {
                true => continue,
                false => return Err(format!("Cargo.lock names {name} {version} of no registry")),
            }
        };
        if !SOURCES.contains(&source.as_str()) {
            return Err(format!(
                "Cargo.lock names {name} {version} of {source}; only crates.io is used"
            ));
        }
        let it = of(package, &lock.metadata)?;
        if seen.insert((it.name.clone(), it.version.clone())) {
            locked.push(it);
        }
    }
    Ok(locked)
}

/// A package of a lock, with names that are nothing but names.
fn of(package: &Package, old: &BTreeMap<String, String>) -> Result<Crate, String> {
    let Package { name, version, source, checksum } = package;
    let source = source.as_deref().unwrap_or_default();
    let hash = checksum.as_ref().or(old.get(&format!("checksum {name} {version} ({source})")));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let hex = |hash: &&String| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let named = super::registry::spelling(name).is_ok() && version.chars().all(plain);
    match hash.filter(hex).filter(|_| named) {
        Some(hash) => {
            Ok(Crate { name: name.clone(), version: version.clone(), sha256: hash.to_lowercase() })
        }
        None => Err(format!("Cargo.lock names {name:?} {version:?} without a true SHA-256")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn read(lock: &str) -> Result<Vec<Crate>, String> {
        let (name, version, sha256) = ("app".into(), "1.0.0".into(), "00".into());
        let root = Release { name, version, sha256, yanked: false };
        locked(lock, &root)
    }

    fn package(name: &str, source: &str, more: &str) -> String {
        format!("[[package]]\nname = '{name}'\nversion = '1.0.0'\nsource = '{source}'\n{more}\n")
    }

    #[test]
    fn every_dependency_of_the_registry_is_locked_by_its_hash() {
        let (own, hash) = ("[[package]]\nname='app'\nversion='1.0.0'\n", "ab".repeat(32));
        let new = package("a", REGISTRY, &format!("checksum = '{hash}'"));
        let old = format!(
            "{}[metadata]\n'checksum b 1.0.0 ({REGISTRY})' = '{hash}'\n",
            package("b", REGISTRY, "")
        );
        let locked = read(&format!("version = 4\n{own}{new}{old}")).unwrap();
        assert_eq!(locked.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(locked.iter().all(|it| it.sha256 == hash));
    }

    #[test]
    fn what_is_not_of_the_registry_is_refused_by_name() {
        let hash = format!("checksum = '{}'", "ab".repeat(32));
        for (lock, word) in [
            (package("a", "git+https://x.test/a#00", ""), "git+https://x.test/a"),
            (package("a", "registry+https://x.test/index", &hash), "only crates.io"),
            ("[[package]]\nname='a'\nversion='1.0.0'\n".to_owned(), "no registry"),
            (package("a", REGISTRY, ""), "SHA-256"),
            (package("../a", REGISTRY, &hash), "../a"),
            ("package = 7".to_owned(), "Cargo.lock"),
        ] {
            let why = read(&lock).unwrap_err();
            assert!(why.contains(word), "{lock}: {why}");
        }
    }
}
