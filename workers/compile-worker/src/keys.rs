//! The names of builds: what is asked for, and what came of it.

use std::collections::BTreeMap;

use flotilla_runtime::{Failure, payload::hex};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

/// Raised when the steps of a build change what comes out.
pub const RECIPE: u32 = 3;

/// What is asked for, before anything was looked up: equal requests are one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestParts<'a> {
    /// The ABI of what is built.
    pub abi: &'a str,
    /// The digest of the builder image.
    pub builder: &'a str,
    /// The package manager's world.
    pub ecosystem: &'a str,
    /// The package, normalised.
    pub name: &'a str,
    /// The canonical option set.
    pub options: &'a str,
    /// The version.
    pub version: &'a str,
}

/// Everything that an artifact is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactParts<'a> {
    /// The ABI of what is built.
    pub abi: &'a str,
    /// SHA-256 of each build requirement by file name.
    pub build_requires: &'a BTreeMap<String, String>,
    /// The digest of the builder image.
    pub builder: &'a str,
    /// The C library.
    pub glibc: &'a str,
    /// The canonical option set.
    pub options: &'a str,
    /// The version of the steps, [`RECIPE`].
    pub recipe: u32,
    /// SHA-256 of the source.
    pub source: &'a str,
    /// The version.
    pub version: &'a str,
}

/// The artifact key, and its components by name.
///
/// # Errors
/// Never for parts of this type.
pub fn artifact_key(
    parts: &ArtifactParts<'_>,
) -> Result<(String, BTreeMap<String, Value>), Failure> {
    let bad = |e: serde_json::Error| Failure::permanent("key", e.to_string());
    let named = serde_json::to_value(parts).and_then(serde_json::from_value).map_err(bad)?;
    Ok((key(parts).map_err(bad)?, named))
}

/// SHA-256, in hexadecimal, of the canonical JSON (sorted, without white space) of some parts.
///
/// # Errors
/// Never for parts of this module.
pub fn key(parts: &impl Serialize) -> Result<String, serde_json::Error> {
    // A `Value` keeps its fields sorted, whatever the order in the struct.
    let canonical = serde_json::to_value(parts)?.to_string();
    Ok(sha256(canonical.as_bytes()))
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-512 in hexadecimal.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(change: impl Fn(&mut ArtifactParts<'_>)) -> String {
        let requires = BTreeMap::from([("setuptools.whl".to_owned(), "aa".to_owned())]);
        let mut parts = ArtifactParts {
            abi: "cp311",
            build_requires: &requires,
            builder: "sha256:1",
            glibc: "2.36",
            options: "default",
            recipe: RECIPE,
            source: "bb",
            version: "1.0",
        };
        change(&mut parts);
        key(&parts).unwrap()
    }

    #[test]
    fn every_component_is_part_of_the_artifact_key() {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let keys = [
            artifact(|_| {}),
            artifact(|parts| parts.abi = "cp312"),
            artifact(|parts| parts.build_requires = &NONE),
            artifact(|parts| parts.builder = "sha256:2"),
            artifact(|parts| parts.glibc = "2.37"),
            artifact(|parts| parts.options = "opt=3"),
            artifact(|parts| parts.recipe += 1),
            artifact(|parts| parts.source = "cc"),
            artifact(|parts| parts.version = "1.1"),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
