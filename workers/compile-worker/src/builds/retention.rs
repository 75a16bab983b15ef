//! How a row is used, and forgotten.

use flotilla_runtime::{Failure, failure::chain};

use super::{Builds, FORGOTTEN, OF, Request, Row, State, now, number, pointer, row_key};

impl Builds {
    /// Notes that somebody got what a request is built to.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn downloaded(&self, request: &Request) -> Result<(), Failure> {
        let call = self.update(&request.package(), &request.key);
        let call = call
            .update_expression("SET downloaded_at = :now REMOVE marked_at")
            .condition_expression("attribute_exists(epoch)")
            .expression_attribute_values(":now", number(now()));
        self.conditional(call, &request.name).await.map(drop)
    }

    /// Marks a row that nobody downloaded since `row` was read.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn mark(&self, row: &Row) -> Result<bool, Failure> {
        let call =
            self.update(&row.package, &row.request).update_expression("SET marked_at = :now");
        let call = call.expression_attribute_values(":now", number(now()));
        let same = "epoch = :epoch AND attribute_not_exists(marked_at)";
        let call = call.expression_attribute_values(":epoch", number(row.epoch));
        let call = match row.downloaded_at {
            None => {
                call.condition_expression(format!("{same} AND attribute_not_exists(downloaded_at)"))
            }
            Some(at) => call
                .condition_expression(format!("{same} AND downloaded_at = :at"))
                .expression_attribute_values(":at", number(at)),
        };
        self.conditional(call, &row.package).await
    }

    /// Deletes a row that is marked since then, and what says whose its keys are; false where
    /// somebody downloaded it, or asked for it anew, meanwhile.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn forget(&self, row: &Row) -> Result<bool, Failure> {
        // Builds happen once per epoch: a later row must begin behind this one.
        let call = self.update(&pointer(&row.request), OF);
        let call = call
            .update_expression(format!("SET {FORGOTTEN} = :epoch"))
            .expression_attribute_values(":epoch", number(row.epoch));
        call.send().await.map_err(|e| self.failed("UpdateItem", &row.package, chain(&e)))?;
        let call = self.client.delete_item().table_name(&self.table);
        let call = call
            .set_key(Some(row_key(&row.package, &row.request)))
            .condition_expression("marked_at = :at")
            .expression_attribute_values(":at", number(row.marked_at.unwrap_or_default()));
        match call.send().await {
            Ok(_) => {}
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(self.failed("DeleteItem", &row.package, chain(&e))),
        }
        if let State::Done(artifact) = &row.state {
            let call = self.client.delete_item().table_name(&self.table);
            let call = call.set_key(Some(row_key(&pointer(&artifact.artifact), OF)));
            call.send().await.map_err(|e| self.failed("DeleteItem", &row.package, chain(&e)))?;
        }
        Ok(true)
    }
}
