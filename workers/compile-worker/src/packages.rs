//! The table of packages: which versions were seen, which option sets are in use; and what builds
//! are made in.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::{Client, types::AttributeValue as Attr};
use flotilla_runtime::{Failure, failure::chain};

use crate::{
    builder::BuilderInfo,
    builds::{PYPI, now, package_key},
};

/// The row of the builder; no package has this key.
const BUILDER: &str = "builder/pypi";

/// The table of packages. Clones share the client.
#[derive(Debug, Clone)]
pub struct Packages {
    client: Client,
    table: String,
}

/// What is known of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Versions that were seen upstream.
    pub versions: BTreeSet<String>,
    /// Canonical option sets that somebody downloaded.
    pub wanted: BTreeSet<String>,
    /// The ETag of the page that the versions are from.
    pub etag: Option<String>,
}

impl Packages {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// What is known of a package (normalised name).
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn known(&self, name: &str) -> Result<Known, Failure> {
        let item = self.item(&package_key(PYPI, name)).await?.unwrap_or_default();
        let set = |attribute: &str| {
            let set = item.get(attribute).and_then(|it| it.as_ss().ok());
            set.into_iter().flatten().cloned().collect()
        };
        let etag = item.get("etag").and_then(|it| it.as_s().ok().cloned());
        Ok(Known { versions: set("versions"), wanted: set("wanted"), etag })
    }

    /// Notes that somebody got a package with these options, and the versions that upstream has,
    /// where none were noted before: later ones are new.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn downloaded(
        &self,
        name: &str,
        options: &str,
        versions: BTreeSet<String>,
    ) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("package", Attr::S(package_key(PYPI, name)));
        let call = call.update_expression(
            "SET versions = if_not_exists(versions, :versions), downloaded_at = :now \
             ADD wanted :wanted",
        );
        let call = call
            .expression_attribute_values(":versions", strings(versions))
            .expression_attribute_values(":now", Attr::N(now().to_string()))
            .expression_attribute_values(":wanted", Attr::Ss(vec![options.to_owned()]));
        let sent = call.send().await;
        sent.map(drop).map_err(|e| self.failed("UpdateItem", name, chain(&e)))
    }

    /// Moves the cursor: these versions are seen, builds of the new ones are ordered.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn seen(
        &self,
        name: &str,
        versions: BTreeSet<String>,
        etag: Option<String>,
    ) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("package", Attr::S(package_key(PYPI, name)));
        let call = match etag {
            Some(etag) => call
                .update_expression("SET versions = :versions, checked_at = :now, etag = :etag")
                .expression_attribute_values(":etag", Attr::S(etag)),
            None => {
                call.update_expression("SET versions = :versions, checked_at = :now REMOVE etag")
            }
        };
        let call = call
            .expression_attribute_values(":versions", strings(versions))
            .expression_attribute_values(":now", Attr::N(now().to_string()));
        let sent = call.send().await;
        sent.map(drop).map_err(|e| self.failed("UpdateItem", name, chain(&e)))
    }

    /// The names of all packages in the table.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn names(&self) -> Result<BTreeSet<String>, Failure> {
        let call = self.client.scan().table_name(&self.table).projection_expression("package");
        let mut items = call.into_paginator().items().send();
        let mut names = BTreeSet::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|e| self.failed("Scan", PYPI, chain(&e)))?;
            let key = item.get("package").and_then(|it| it.as_s().ok());
            let name = key.and_then(|key| key.strip_prefix(PYPI)?.strip_prefix('/'));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// What builds are made in now, as the worker said that started last.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn builder(&self) -> Result<Option<BuilderInfo>, Failure> {
        let item = self.item(BUILDER).await?;
        let detail = item.as_ref().and_then(|item| item.get("detail")?.as_s().ok());
        Ok(detail.and_then(|detail| serde_json::from_str(detail).ok()))
    }

    /// Says what builds are made in.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn announce(&self, builder: &BuilderInfo) -> Result<(), Failure> {
        let detail = serde_json::to_string(builder);
        let detail = detail.map_err(|e| Failure::permanent("builder", e.to_string()))?;
        let call = self.client.put_item().table_name(&self.table);
        let call = call.item("package", Attr::S(BUILDER.into())).item("detail", Attr::S(detail));
        let sent = call.send().await;
        sent.map(drop).map_err(|e| self.failed("PutItem", BUILDER, chain(&e)))
    }

    async fn item(&self, key: &str) -> Result<Option<HashMap<String, Attr>>, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("package", Attr::S(key.to_owned())).send().await;
        Ok(answer.map_err(|e| self.failed("GetItem", key, chain(&e)))?.item)
    }

    fn failed(&self, what: &str, name: &str, why: String) -> Failure {
        let table = &self.table;
        Failure::transient("dynamodb", format!("{what} of {name} in table {table}: {why}"))
    }
}

/// A set of strings, which DynamoDB does not take empty.
fn strings(set: BTreeSet<String>) -> Attr {
    let mut strings: Vec<String> = set.into_iter().collect();
    if strings.is_empty() {
        strings.push(String::new());
    }
    Attr::Ss(strings)
}
