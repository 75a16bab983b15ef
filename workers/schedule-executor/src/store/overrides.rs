//! The overrides that hold, of contexts, tags and resources; and the zone on whose clock they are.

use flotilla_runtime::Failure;
use jiff::Timestamp;

use super::{Store, unavailable};
use crate::{
    arn::Home,
    rows::{Held, ResourceRow, from_item},
    schedule::{DEFAULT_ZONE, Override},
};

/// An override, and what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// `context/web`, `tag/env`, or the key of a resource, `ec2:instance/eu-west-1/i-1`.
    pub scope: String,
    /// What it says.
    pub over: Override,
}

impl Store {
    /// All overrides that are not over at an instant, by their scopes.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn overrides(&self, now: Timestamp) -> Result<Vec<Overridden>, Failure> {
        let (contexts, tags) = (self.contexts().await?.0, self.tags().await?.0);
        let of = |scope: String, over: Option<Override>| Some(Overridden { scope, over: over? });
        let contexts =
            contexts.into_iter().map(|it| of(format!("context/{}", it.id), it.scheduling.over));
        let tags = tags.into_iter().map(|it| of(format!("tag/{}", it.key), it.scheduling.over));
        let held = self.all_held_back().await?.into_iter().map(|it| of(it.resource, it.over));
        let all = contexts.chain(tags).chain(held).flatten();
        let mut all: Vec<Overridden> = all.filter(|it| it.over.is_left(now)).collect();
        all.sort_by(|left, right| left.scope.cmp(&right.scope));
        Ok(all)
    }

    /// The override of a scope, if it has one that is not over at an instant.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn override_of(
        &self,
        scope: &str,
        now: Timestamp,
    ) -> Result<Option<Override>, Failure> {
        let over = match scope.split_once('/') {
            Some(("context", id)) => self.context(id).await?.and_then(|it| it.scheduling.over),
            Some(("tag", key)) => self.tag(key).await?.and_then(|it| it.scheduling.over),
            _ => {
                let mut held = self.held(&[scope.to_owned()]).await?;
                held.remove(scope).and_then(|it| it.over)
            }
        };
        Ok(over.filter(|over| over.is_left(now)))
    }

    /// What is known of the resources that have an override of their own.
    async fn all_held_back(&self) -> Result<Vec<Held>, Failure> {
        let table = &self.names.states;
        let call = self.dynamo.scan().table_name(table).consistent_read(true);
        let call = call.filter_expression("attribute_exists(#o)");
        let call = call.expression_attribute_names("#o", "override");
        let items = call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        let items = items.map_err(|e| unavailable("Scan", table, &e))?;
        Ok(items.iter().filter_map(from_item).collect())
    }

    /// The zone of a resource of this key: that of the first context that has it, which is the one
    /// that it goes by; the default where none does.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn zone_of(&self, home: &Home, key: &str) -> Result<String, Failure> {
        let rows = self.all_resources().await?;
        let has = |row: &serde_json::Value| {
            let context = row.get("contextID")?.as_str()?;
            let lists = ResourceRow::from_json(context, row)?.lists;
            let mut ids =
                lists.iter().flat_map(|(kind, list)| list.id.iter().map(|it| (*kind, it)));
            ids.any(|(kind, id)| home.target(kind, id).is_ok_and(|it| it.key() == key))
                .then(|| context.to_owned())
        };
        let context = match rows.iter().filter_map(has).min() {
            Some(id) => self.context(&id).await?,
            None => None,
        };
        Ok(context.map_or_else(|| DEFAULT_ZONE.to_owned(), |context| context.scheduling.zone))
    }
}
