//! Which groups wait for the end of a request.

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::{Failure, failure::chain};

use super::{Builds, Row};

impl Builds {
    /// Has a group wait for the end of a request of a package, and gives its row; nothing where there is
    /// none any more.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn join(
        &self,
        (package, request): (&str, &str),
        group: &str,
    ) -> Result<Option<Row>, Failure> {
        let call = self.update(package, request).update_expression("ADD #g :group");
        let call = call
            .condition_expression("attribute_exists(epoch)")
            .expression_attribute_names("#g", "groups")
            .expression_attribute_values(":group", Attr::Ss(vec![group.to_owned()]));
        match self.conditional(call, package).await? {
            // Read after it was written: who ends it later sees the group.
            true => self.get(package, request).await,
            false => Ok(None),
        }
    }

    /// A group that waits no more.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn leave(&self, row: &Row, group: &str) -> Result<(), Failure> {
        let call = self.update(&row.package, &row.request).update_expression("DELETE #g :group");
        let call = call
            .expression_attribute_names("#g", "groups")
            .expression_attribute_values(":group", Attr::Ss(vec![group.to_owned()]));
        call.send().await.map(drop).map_err(|e| self.failed("UpdateItem", &row.package, chain(&e)))
    }
}
