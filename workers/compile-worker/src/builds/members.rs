//! Which groups wait for the end of a request.

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::{Failure, failure::chain};

use super::{Builds, Request, Row};

impl Builds {
    /// Has a group wait for the end of a request, whose row stands.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn join(&self, request: &Request, group: &str) -> Result<(), Failure> {
        let call = self.update(&request.package(), &request.key).update_expression("ADD #g :group");
        let call = call
            .expression_attribute_names("#g", "groups")
            .expression_attribute_values(":group", Attr::Ss(vec![group.to_owned()]));
        call.send().await.map(drop).map_err(|e| self.failed("UpdateItem", &request.name, chain(&e)))
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
