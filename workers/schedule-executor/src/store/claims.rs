//! Claims on resources: of two who want to switch one, the first to write does.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue as Attr, TransactWriteItem, Update},
};
use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::{Store, assignments, settled, states::KEY, unavailable};
use crate::rows::{Claim, Item};

/// The most claims that a transaction takes.
const CALL: usize = 100;
/// How many are tried at a time where they are tried one by one.
const AT_ONCE: usize = 8;

/// A claim to be made on a resource.
#[derive(Debug)]
pub struct Claiming<'a> {
    /// The key of the resource.
    pub key: &'a str,
    /// What its row said before it was looked at.
    pub before: Claim,
    /// What it is to say.
    pub claim: Claim,
    /// The size to be kept with it.
    pub size: Option<&'a str>,
}

/// A conditional write: its expression and condition, with the names and values that they use.
struct Write {
    expression: String,
    condition: &'static str,
    names: std::collections::HashMap<String, String>,
    values: Item,
}

impl Claiming<'_> {
    /// A repeated call whose first answer was lost finds its own claim, which counts.
    fn write(&self) -> Write {
        let mut fields = json!(self.claim);
        fields["claimedBulk"] = json!(self.claim.bulk);
        if let Some(size) = self.size {
            fields["size"] = json!(size);
        }
        let (expression, mut names, mut values) = assignments(&fields);
        names.insert("#by".to_owned(), "claimedBy".to_owned());
        names.insert("#until".to_owned(), "claimedUntil".to_owned());
        values.insert(":mine".to_owned(), Attr::S(self.claim.by.clone()));
        values.insert(":end".to_owned(), Attr::N(self.claim.until.to_string()));
        let condition = if self.before.by.is_empty() {
            "attribute_not_exists(#by) OR (#by = :mine AND #until = :end)"
        } else {
            values.insert(":by".to_owned(), Attr::S(self.before.by.clone()));
            values.insert(":until".to_owned(), Attr::N(self.before.until.to_string()));
            "(#by = :by AND #until = :until) OR (#by = :mine AND #until = :end)"
        };
        Write { expression, condition, names, values }
    }
}

impl Store {
    /// Claims resources, and says of each whether it took place: not where another claimed it since
    /// its row was read.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer; some of them may be claimed then.
    pub async fn claim(&self, claims: &[Claiming<'_>]) -> Result<Vec<bool>, Failure> {
        let mut taken = Vec::with_capacity(claims.len());
        for part in claims.chunks(CALL) {
            let writes = part.iter().map(|it| self.claiming(it)).collect::<Result<Vec<_>, _>>()?;
            let call = self.dynamo.transact_write_items().set_transact_items(Some(writes));
            match call.send().await {
                Ok(_) => taken.extend(part.iter().map(|_| true)),
                Err(e)
                    if e.as_service_error().is_some_and(
                        TransactWriteItemsError::is_transaction_canceled_exception,
                    ) =>
                {
                    let each = part.iter().map(|it| self.claim_one(it)).collect::<Vec<_>>();
                    let each = stream::iter(each).buffered(AT_ONCE);
                    taken.extend(each.try_collect::<Vec<_>>().await?);
                }
                Err(e) => return Err(unavailable("TransactWriteItems", &self.names.states, &e)),
            }
        }
        Ok(taken)
    }

    async fn claim_one(&self, it: &Claiming<'_>) -> Result<bool, Failure> {
        let Write { expression, condition, names, values } = it.write();
        let table = &self.names.states;
        let call = self.dynamo.update_item().table_name(table).update_expression(expression);
        let call = call
            .key(KEY, Attr::S(it.key.to_owned()))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        settled(call.send().await, table)
    }

    fn claiming(&self, it: &Claiming<'_>) -> Result<TransactWriteItem, Failure> {
        let Write { expression, condition, names, values } = it.write();
        let update = Update::builder()
            .table_name(&self.names.states)
            .key(KEY, Attr::S(it.key.to_owned()))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .build();
        let update = update.map(|it| TransactWriteItem::builder().update(it).build());
        update.map_err(|e| Failure::permanent("request", "a claim on a resource").caused_by(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_only_against_what_was_read() {
        let claim = |by: &str, until| Claim { by: by.to_owned(), until, ..Claim::default() };
        let write = |before| {
            Claiming { key: "k", before, claim: claim("me", 9), size: Some("1/2/1") }.write()
        };
        let first = write(Claim::default());
        assert!(first.condition.starts_with("attribute_not_exists(#by)"));
        assert!(first.names.values().any(|name| name == "size"));
        let next = write(claim("you", 7));
        assert_eq!(next.values[":until"], Attr::N("7".to_owned()));
        assert!(next.condition.contains("#by = :by AND #until = :until"));
    }
}
