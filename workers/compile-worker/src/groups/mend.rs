//! Groups that were cut off while they were opened: nobody tells them of what they wait for.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::{Failure, failure::chain};

use super::{GROUP, Groups, Member, failed};
use crate::builds::{now, set};

/// Who opened a group younger than this, in seconds, may still be at it.
const OPENING: u64 = 60;

impl Groups {
    /// Has each group that is not complete wait for what it has to wait for, and tells of those that
    /// wait for nothing. It reads the whole table.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn mend(&self) -> Result<(), Failure> {
        for item in self.open_ones().await? {
            let Some(group) = name(&item) else { continue };
            let pending = set(&item, "pending");
            for member in members(&item).iter().filter(|it| pending.contains(&it.key)) {
                self.wait_for(group, (&member.package, &member.key)).await?;
            }
            self.look_at(group).await?;
        }
        Ok(())
    }

    async fn open_ones(&self) -> Result<Vec<HashMap<String, Attr>>, Failure> {
        let opened = now().saturating_sub(OPENING).to_string();
        let call = self.client.scan().table_name(self.builds.table()).consistent_read(true);
        let call = call
            .filter_expression(
                "#request = :group AND attribute_not_exists(completed_at) AND created_at < :opened",
            )
            // A word of the language.
            .expression_attribute_names("#request", "request")
            .expression_attribute_values(":group", Attr::S(GROUP.to_owned()))
            .expression_attribute_values(":opened", Attr::N(opened));
        let mut pages = call.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.map_err(|e| failed("Scan", "all", chain(&e)))?);
        }
        Ok(items)
    }
}

fn name(item: &HashMap<String, Attr>) -> Option<&str> {
    item.get("package")?.as_s().ok()?.strip_prefix("group:")
}

/// The members in the row of a group.
pub(super) fn members(item: &HashMap<String, Attr>) -> Vec<Member> {
    let text = item.get("members").and_then(|it| it.as_s().ok());
    text.and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default()
}
