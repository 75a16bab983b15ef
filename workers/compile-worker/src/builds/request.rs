//! What is asked for, and the orders that it becomes.

use flotilla_runtime::Failure;
use serde_json::Value;

use crate::{
    builder::BuilderInfo,
    ecosystem,
    keys::{self, RequestParts},
    message::BuildOrder,
    options::Options,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The package manager's world.
    pub ecosystem: String,
    /// The package, normalised.
    pub name: String,
    /// The version, as upstream writes it; the key is the same for every spelling.
    pub version: String,
    /// How it is to be compiled.
    pub options: Options,
    /// The request key.
    pub key: String,
    /// What the key is the hash of.
    pub parts: Value,
}

impl Request {
    /// The request for a version of a package, with these options, from this builder.
    ///
    /// # Errors
    /// Never for a request of this type.
    pub fn new(
        ecosystem: &str,
        name: &str,
        version: &str,
        options: Options,
        builder: &BuilderInfo,
    ) -> Result<Self, Failure> {
        let text = options.to_string();
        let parts = RequestParts {
            abi: &builder.abi,
            builder: &builder.image,
            ecosystem,
            name,
            options: &text,
            version: &one_spelling(ecosystem, version),
        };
        let bad = |e: serde_json::Error| Failure::permanent("key", e.to_string());
        let (key, parts) = (keys::key(&parts).map_err(bad)?, serde_json::to_value(&parts));
        let (name, version) = (name.to_owned(), version.to_owned());
        Ok(Self {
            ecosystem: ecosystem.to_owned(),
            name,
            version,
            options,
            key,
            parts: parts.map_err(bad)?,
        })
    }

    /// The table's key of its package.
    pub fn package(&self) -> String {
        package_key(&self.ecosystem, &self.name)
    }

    /// The order of this try.
    pub fn order(&self, epoch: u64) -> BuildOrder {
        BuildOrder {
            ecosystem: self.ecosystem.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            options: self.options.to_string(),
            request: self.key.clone(),
            epoch,
        }
    }
}

/// The spelling that equal versions share in an ecosystem.
pub fn one_spelling(ecosystem: &str, version: &str) -> String {
    ecosystem::named(ecosystem).map_or_else(|| version.to_owned(), |it| (it.version)(version))
}

/// The table's key of a package.
pub fn package_key(ecosystem: &str, name: &str) -> String {
    format!("{ecosystem}/{name}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::pypi::options;

    #[test]
    fn every_component_is_part_of_the_request_key_and_a_spelling_is_none() {
        let builder = |image: &str, abi: &str| BuilderInfo {
            image: image.to_owned(),
            abi: abi.to_owned(),
            ..BuilderInfo::default()
        };
        let key =
            |ecosystem: &str, name: &str, version: &str, text: &str, builder: &BuilderInfo| {
                Request::new(ecosystem, name, version, options(text).unwrap(), builder).unwrap().key
            };
        let own = builder("i", "cp311");
        let keys = [
            key("pypi", "a", "1.0", "", &own),
            key("crates", "a", "1.0.0", "", &own),
            key("pypi", "b", "1.0", "", &own),
            key("pypi", "a", "1.1", "", &own),
            key("pypi", "a", "1.0", "opt=3", &own),
            key("pypi", "a", "1.0", "", &builder("j", "cp311")),
            key("pypi", "a", "1.0", "", &builder("i", "cp312")),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        assert_eq!(key("pypi", "a", "v1.0.0", "opt=2,-lto", &own), keys[0]);
    }
}
