//! The effect of a claim: written together with its completion, or under it.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        ConditionCheck, ReturnValuesOnConditionCheckFailure as OnRefusal, TransactWriteItem, Update,
    },
};

use super::{
    Claim, Ledger, ROW_LIFE, Written, now_ms, number,
    row::{cancelled, cancelled_by, fence, for_now, held_under},
    text,
};
use crate::{failure::Failure, retry::RetryPolicy};

/// Tries of a transaction that DynamoDB refuses for the moment: about half a minute. A job whose lease
/// ends before is dropped here.
const TRIES: u32 = 12;

impl Ledger {
    /// Commits `effect` and the completion of its claim in one transaction.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer; whether the transaction happened is then known
    /// at the next claim.
    pub async fn complete(
        &self,
        claim: &Claim,
        effect: Vec<TransactWriteItem>,
    ) -> Result<Written, Failure> {
        let done = self.done(claim)?;
        self.transact(claim, TransactWriteItem::builder().update(done).build(), effect).await
    }

    /// Writes `items` under the claim without completing it.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn write(
        &self,
        claim: &Claim,
        items: Vec<TransactWriteItem>,
    ) -> Result<Written, Failure> {
        let check = ConditionCheck::builder()
            .table_name(&*self.table)
            .key("effect", text(&claim.key))
            .condition_expression("#s = :claimed AND generation = :generation")
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":generation", number(claim.generation))
            .build()
            .map_err(request)?;
        let check = TransactWriteItem::builder().condition_check(check).build();
        self.transact(claim, check, items).await
    }

    /// Cancels the effect of a claim, which is then to be given up, and writes `items` with it.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub(crate) async fn cancel_under(
        &self,
        claim: &Claim,
        reason: &str,
        items: Vec<TransactWriteItem>,
    ) -> Result<Written, Failure> {
        let cancel = Update::builder()
            .table_name(&*self.table)
            .key("effect", text(&claim.key))
            .update_expression("SET cancelled = :why")
            .condition_expression("#s = :claimed AND generation = :generation")
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":why", text(reason))
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":generation", number(claim.generation))
            .build()
            .map_err(request)?;
        self.transact(claim, TransactWriteItem::builder().update(cancel).build(), items).await
    }

    async fn transact(
        &self,
        claim: &Claim,
        fence: TransactWriteItem,
        effect: Vec<TransactWriteItem>,
    ) -> Result<Written, Failure> {
        let items: Vec<_> = std::iter::once(fence).chain(effect).collect();
        let mut attempt = 0;
        loop {
            let call = self.client.transact_write_items();
            let error = match call.set_transact_items(Some(items.clone())).send().await {
                Ok(_) => return Ok(Written::Committed),
                Err(error) => error,
            };
            attempt += 1;
            match cancelled_by(&error) {
                Some(0) => return Ok(refused(claim, &error)),
                Some(_) => return Ok(Written::Refused),
                // Our own heartbeat may write the same row at this moment. The work of an hour is not
                // thrown away for it, nor for a throttle.
                None if for_now(&error) && attempt < TRIES => {
                    tokio::time::sleep(RetryPolicy::CALL.delay(attempt)).await;
                }
                None => return Err(self.unavailable("complete", &claim.key, &error)),
            }
        }
    }

    fn done(&self, claim: &Claim) -> Result<Update, Failure> {
        Update::builder()
            .table_name(&*self.table)
            .key("effect", text(&claim.key))
            .update_expression(
                "SET #s = :done, done_at = :now, expires_at = :ttl REMOVE lease_until",
            )
            .condition_expression(
                "#s = :claimed AND generation = :generation AND attribute_not_exists(cancelled)",
            )
            .return_values_on_condition_check_failure(OnRefusal::AllOld)
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":done", text("done"))
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":generation", number(claim.generation))
            .expression_attribute_values(":now", number(now_ms() / 1000))
            .expression_attribute_values(":ttl", number(now_ms() / 1000 + ROW_LIFE.as_secs()))
            .build()
            .map_err(request)
    }
}

/// Why the claim's own row refused a transaction.
fn refused<R>(claim: &Claim, error: &SdkError<TransactWriteItemsError, R>) -> Written {
    let row = fence(error).filter(|row| held_under(row, claim));
    row.and_then(cancelled).map_or(Written::Fenced, Written::Cancelled)
}

fn request(error: aws_sdk_dynamodb::error::BuildError) -> Failure {
    Failure::permanent("request", "a ledger request").caused_by(error)
}
