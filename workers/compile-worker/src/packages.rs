//! The table of packages: which versions were seen, which option sets are in use; and what builds
//! are made in.

mod builders;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::{
    Client, error::SdkError, operation::update_item::UpdateItemError, types::AttributeValue as Attr,
};
use flotilla_runtime::{Failure, failure::chain};

use crate::{
    builds::{now, package_key},
    ecosystem::{About, Versions},
};

/// The row of the cursor of the changelog.
const CURSOR: &str = "cursor/pypi";

/// What is said of versions has at most this many bytes: a row has 400 KB.
const ABOUT_LIMIT: usize = 200 << 10;

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
    /// What is said of them, of those that something is said of; nothing where that was not noted.
    pub about: Option<BTreeMap<String, About>>,
    /// Canonical option sets that somebody downloaded.
    pub wanted: BTreeSet<String>,
    /// The validator of the page that the versions are from.
    pub validator: Option<String>,
    /// Its serial.
    pub serial: Option<u64>,
    /// Its SHA-256.
    pub digest: Option<String>,
}

impl Packages {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// What is known of a package, by its key (`pypi/markupsafe`).
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn known(&self, package: &str) -> Result<Known, Failure> {
        let item = self.item(package).await?.unwrap_or_default();
        let set = |attribute: &str| {
            let set = item.get(attribute).and_then(|it| it.as_ss().ok());
            set.into_iter().flatten().cloned().collect()
        };
        let text = |attribute: &str| item.get(attribute).and_then(|it| it.as_s().ok().cloned());
        Ok(Known {
            versions: set("versions"),
            about: text("about").and_then(|it| serde_json::from_str(&it).ok()),
            wanted: set("wanted"),
            validator: text("validator"),
            serial: count(&item, "page_serial"),
            digest: text("page_digest"),
        })
    }

    /// Notes that somebody got a package with these options, and the versions that upstream has,
    /// where none were noted before: later ones are new. Without versions the next look at upstream
    /// notes them.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn downloaded(
        &self,
        package: &str,
        options: &str,
        versions: Option<BTreeSet<String>>,
    ) -> Result<(), Failure> {
        let mut set = "SET downloaded_at = :now".to_owned();
        let call = self.client.update_item().table_name(&self.table);
        let mut call = call.key("package", Attr::S(package.to_owned()));
        if let Some(versions) = versions {
            set.push_str(", versions = if_not_exists(versions, :versions)");
            call = call.expression_attribute_values(":versions", strings(versions));
        }
        let call = call
            .update_expression(format!("{set} ADD wanted :wanted"))
            .expression_attribute_values(":now", Attr::N(now().to_string()))
            .expression_attribute_values(":wanted", Attr::Ss(vec![options.to_owned()]));
        let sent = call.send().await;
        sent.map(drop).map_err(|e| self.failed("UpdateItem", package, chain(&e)))
    }

    /// Nobody wants a package with these options any more.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn unwanted(&self, package: &str, options: &str) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call
            .key("package", Attr::S(package.to_owned()))
            .update_expression("DELETE wanted :options")
            .condition_expression("attribute_exists(wanted)")
            .expression_attribute_values(":options", Attr::Ss(vec![options.to_owned()]));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) if refused(&e) => Ok(()),
            Err(e) => Err(self.failed("UpdateItem", package, chain(&e))),
        }
    }

    /// Moves the cursor: these versions are seen, builds of the new ones are ordered.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn seen(&self, package: &str, found: Versions) -> Result<(), Failure> {
        let mut set = "versions = :versions, checked_at = :now, page_digest = :digest".to_owned();
        let mut remove = Vec::new();
        let call = self.client.update_item().table_name(&self.table);
        let mut call = call
            .key("package", Attr::S(package.to_owned()))
            .expression_attribute_values(":versions", strings(found.all))
            .expression_attribute_values(":digest", Attr::S(found.digest))
            .expression_attribute_values(":now", Attr::N(now().to_string()));
        match found.validator {
            Some(validator) => {
                set.push_str(", validator = :validator");
                call = call.expression_attribute_values(":validator", Attr::S(validator));
            }
            None => remove.push("validator"),
        }
        match about(&found.about) {
            Some(about) => {
                set.push_str(", about = :about");
                call = call.expression_attribute_values(":about", Attr::S(about));
            }
            None => remove.push("about"),
        }
        if let Some(serial) = found.serial {
            set.push_str(", page_serial = :serial");
            call = call.expression_attribute_values(":serial", Attr::N(serial.to_string()));
        }
        if !remove.is_empty() {
            set = format!("{set} REMOVE {}", remove.join(", "));
        }
        let sent = call.update_expression(format!("SET {set}")).send().await;
        sent.map(drop).map_err(|e| self.failed("UpdateItem", package, chain(&e)))
    }

    /// The serial up to which the changelog was followed, and when the reconciler ran last, in Unix
    /// seconds.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn cursor(&self) -> Result<(Option<u64>, u64), Failure> {
        let item = self.item(CURSOR).await?.unwrap_or_default();
        Ok((count(&item, "changes_serial"), count(&item, "reconciled_at").unwrap_or(0)))
    }

    /// Moves the cursor of the changelog: what changed up to there is on the queue. It never moves
    /// back.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn move_cursor(&self, serial: u64) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call
            .key("package", Attr::S(CURSOR.into()))
            .update_expression("SET changes_serial = :serial")
            .condition_expression(
                "attribute_not_exists(changes_serial) OR changes_serial < :serial",
            )
            .expression_attribute_values(":serial", Attr::N(serial.to_string()));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) if refused(&e) => Ok(()),
            Err(e) => Err(self.failed("UpdateItem", CURSOR, chain(&e))),
        }
    }

    /// Notes that the reconciler runs now; false where another has noted it since `before`.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn reconciling(&self, before: u64) -> Result<bool, Failure> {
        let condition = match before {
            0 => "attribute_not_exists(reconciled_at)",
            _ => "reconciled_at = :before",
        };
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("package", Attr::S(CURSOR.into()));
        let mut call = call
            .update_expression("SET reconciled_at = :now")
            .condition_expression(condition)
            .expression_attribute_values(":now", Attr::N(now().max(before + 1).to_string()));
        if before > 0 {
            call = call.expression_attribute_values(":before", Attr::N(before.to_string()));
        }
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if refused(&e) => Ok(false),
            Err(e) => Err(self.failed("UpdateItem", CURSOR, chain(&e))),
        }
    }

    /// The packages of an ecosystem with this text in their names, each with what is known of it; at
    /// most so many.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn search(
        &self,
        ecosystem: &str,
        text: &str,
        most: usize,
    ) -> Result<Vec<(String, Known)>, Failure> {
        let names = self.names(ecosystem).await?.into_iter().filter(|name| name.contains(text));
        let mut found = Vec::new();
        for name in names.take(most) {
            let known = self.known(&package_key(ecosystem, &name)).await?;
            found.push((name, known));
        }
        Ok(found)
    }

    /// The names of the packages of an ecosystem that somebody downloaded.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn wanted(&self, ecosystem: &str) -> Result<BTreeSet<String>, Failure> {
        self.scan(ecosystem, Some("attribute_exists(wanted)")).await
    }

    /// The names of all packages of an ecosystem in the table.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn names(&self, ecosystem: &str) -> Result<BTreeSet<String>, Failure> {
        self.scan(ecosystem, None).await
    }

    async fn scan(
        &self,
        ecosystem: &str,
        filter: Option<&str>,
    ) -> Result<BTreeSet<String>, Failure> {
        let call = self.client.scan().table_name(&self.table).projection_expression("package");
        let call = call.set_filter_expression(filter.map(str::to_owned));
        let mut items = call.into_paginator().items().send();
        let mut names = BTreeSet::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|e| self.failed("Scan", ecosystem, chain(&e)))?;
            let key = item.get("package").and_then(|it| it.as_s().ok());
            let name = key.and_then(|key| key.strip_prefix(ecosystem)?.strip_prefix('/'));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
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

/// What is said of versions, where that fits into a row beside the versions.
fn about(versions: &BTreeMap<String, About>) -> Option<String> {
    serde_json::to_string(versions).ok().filter(|text| text.len() <= ABOUT_LIMIT)
}

/// A set of strings, which DynamoDB does not take empty.
fn strings(set: BTreeSet<String>) -> Attr {
    let mut strings: Vec<String> = set.into_iter().collect();
    if strings.is_empty() {
        strings.push(String::new());
    }
    Attr::Ss(strings)
}

fn count(item: &HashMap<String, Attr>, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn refused<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}
