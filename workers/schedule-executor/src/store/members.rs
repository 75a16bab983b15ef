//! Which resources carry a tag, as the scheduler found them last: who only reads the tables need not
//! ask every account and region.

use flotilla_runtime::Failure;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Store, states::KEY};
use crate::rows::from_item;

/// The most ARNs in a row, which has 400 KB at most.
const PART: usize = 1_000;

/// The resources that carry a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Since when these are they; empty where nobody has looked yet.
    #[serde(default)]
    pub since: String,
    /// What they are told from others by.
    #[serde(default)]
    pub digest: String,
    /// In how many rows they are.
    #[serde(default)]
    pub parts: usize,
    /// Their ARNs.
    #[serde(skip)]
    pub arns: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Part {
    arns: Vec<String>,
}

impl Store {
    /// The resources that carry a registered tag, as they were found last.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn members(&self, tag: &str) -> Result<Members, Failure> {
        let mut members = self.known_members(tag).await?;
        for number in 0..members.parts {
            let item = self.get(&self.names.states, KEY, &part(tag, number)).await?;
            let found = item.and_then(|item| from_item::<Part>(&item));
            members.arns.extend(found.into_iter().flat_map(|it| it.arns));
        }
        Ok(members)
    }

    /// Notes which resources carry a tag, where these are others than before. The parts come first:
    /// their head says that they are there.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn note_members(&self, tag: &str, members: &Members) -> Result<(), Failure> {
        if self.known_members(tag).await?.digest == members.digest {
            return Ok(());
        }
        for (number, arns) in members.arns.chunks(PART).enumerate() {
            self.hold(&part(tag, number), &json!({ "arns": arns })).await?;
        }
        let head = Members { parts: members.arns.len().div_ceil(PART), ..members.clone() };
        self.hold(&head_of(tag), &json!(head)).await
    }

    /// Forgets which resources carry a tag.
    pub(super) async fn forget_members(&self, tag: &str) -> Result<(), Failure> {
        self.delete(&self.names.states, KEY, &head_of(tag)).await.map(drop)
    }

    async fn known_members(&self, tag: &str) -> Result<Members, Failure> {
        let item = self.get(&self.names.states, KEY, &head_of(tag)).await?;
        Ok(item.and_then(|item| from_item(&item)).unwrap_or_default())
    }
}

/// No key of a resource is like these.
fn head_of(tag: &str) -> String {
    format!("tag/{tag}")
}

fn part(tag: &str, number: usize) -> String {
    format!("tag#{number}/{tag}")
}
