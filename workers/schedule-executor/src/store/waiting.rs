//! Since when a stage of a context waits for those before it.

use flotilla_runtime::Failure;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Store, states::KEY};
use crate::rows::from_item;

/// What a stage waits to do, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The action, and the order where it is one.
    pub what: String,
    /// The clock of the first tick or look that waited, in seconds since 1970.
    pub since: i64,
    /// The same of the last.
    #[serde(default)]
    pub seen: i64,
}

impl Store {
    /// Since when a stage waits, by the name of its row; none where it does not.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer; so for every method here.
    pub async fn waiting(&self, stage: &str) -> Result<Option<Waiting>, Failure> {
        let item = self.get(&self.names.states, KEY, stage).await?;
        Ok(item.and_then(|item| from_item(&item)))
    }

    /// Notes that a stage waits.
    pub async fn waits(&self, stage: &str, waiting: &Waiting) -> Result<(), Failure> {
        self.hold(stage, &json!(waiting)).await
    }

    /// Notes that a stage goes on: those before it are ready.
    pub async fn waits_no_more(&self, stage: &str) -> Result<(), Failure> {
        self.delete(&self.names.states, KEY, stage).await.map(drop)
    }
}
