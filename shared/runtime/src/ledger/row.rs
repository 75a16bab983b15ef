//! What DynamoDB's answers say of a claim.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::AttributeValue as Attr,
};

use super::{Claim, Claimed, Ended, Open, Renewal};

pub(super) type Row = HashMap<String, Attr>;

pub(super) fn claim(key: &str, row: Option<&Row>) -> Claim {
    let field = |name| row.and_then(|row| read_number(row, name)).unwrap_or(1);
    let last_failure = row.and_then(|row| row.get("last_failure")?.as_s().ok().cloned());
    let cancelled = row.and_then(cancelled);
    let attempt = u32::try_from(field("attempts")).unwrap_or(u32::MAX);
    Claim { key: key.to_owned(), generation: field("generation"), attempt, last_failure, cancelled }
}

/// Why an operator does not want the effect, where that is so.
pub(super) fn cancelled(row: &Row) -> Option<String> {
    row.get("cancelled")?.as_s().ok().cloned()
}

/// The effect that a row is about, where it was ever claimed.
pub(super) fn open(row: &Row) -> Option<Open> {
    let text = |name: &str| row.get(name)?.as_s().ok().cloned();
    let held = text("state")? == "claimed";
    Some(Open { key: text("effect")?, held, message_id: text("message_id") })
}

/// How the work at a row's effect has ended, if it has.
pub(super) fn ended(row: &Row) -> Option<Ended> {
    let done = row.get("state").and_then(|it| it.as_s().ok()).is_some_and(|it| it == "done");
    match (done, row.contains_key("buried")) {
        (true, _) => Some(Ended::Done),
        (false, true) => Some(Ended::Buried),
        (false, false) => None,
    }
}

pub(super) fn occupied(row: &Row, now: u64, lease: Duration) -> Claimed {
    let state = row.get("state").and_then(|s| s.as_s().ok());
    if state.is_some_and(|s| s == "done") {
        return Claimed::Done;
    }
    let until = read_number(row, "lease_until").unwrap_or(now);
    // The holder's clock may be wrong by hours: ours says when to look again.
    Claimed::Held(Duration::from_millis(until.saturating_sub(now)).min(lease))
}

/// For how long the holder of a row leases, in milliseconds; zero where it does not say.
pub(super) fn lease_of(row: &Row) -> u64 {
    read_number(row, "lease_ms").unwrap_or_default()
}

/// Until when a row is claimed, where that is later than this.
pub(super) fn too_long(row: &Row, latest: u64) -> Option<u64> {
    let claimed = row.get("state").and_then(|s| s.as_s().ok()).is_some_and(|s| s == "claimed");
    read_number(row, "lease_until").filter(|until| claimed && *until > latest)
}

/// Whether a row stands under the claim of this id.
pub(super) fn made_by(row: &Row, id: &str) -> bool {
    let text = |name: &str| row.get(name).and_then(|it| it.as_s().ok());
    text("claim_id").is_some_and(|it| it == id) && text("state").is_some_and(|it| it == "claimed")
}

pub(super) fn not_renewed(claim: &Claim, row: &Row) -> Renewal {
    let done = row.get("state").and_then(|s| s.as_s().ok()).is_some_and(|s| s == "done");
    let ours = read_number(row, "generation") == Some(claim.generation);
    if done && ours { Renewal::Completed } else { Renewal::Fenced }
}

fn read_number(row: &Row, name: &str) -> Option<u64> {
    row.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn refusal<R>(error: &SdkError<UpdateItemError, R>) -> Option<&Row> {
    static NO_ROW: std::sync::LazyLock<Row> = std::sync::LazyLock::new(Row::new);
    match error.as_service_error()? {
        UpdateItemError::ConditionalCheckFailedException(e) => Some(e.item().unwrap_or(&NO_ROW)),
        _ => None,
    }
}

/// The place of the item whose condition cancelled a transaction.
pub(super) fn cancelled_by<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<usize> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(e) => e
            .cancellation_reasons()
            .iter()
            .position(|reason| reason.code() == Some("ConditionalCheckFailed")),
        _ => None,
    }
}

/// The row of the claim itself, as the first item of a transaction found it.
pub(super) fn fence<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&Row> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(e) => {
            e.cancellation_reasons().first()?.item()
        }
        _ => None,
    }
}

/// Whether a row stands under this claim.
pub(super) fn held_under(row: &Row, claim: &Claim) -> bool {
    let claimed = row.get("state").and_then(|s| s.as_s().ok()).is_some_and(|s| s == "claimed");
    claimed && read_number(row, "generation") == Some(claim.generation)
}

/// Why DynamoDB cancels a transaction that may be accepted a moment later: another write was at one
/// of its items, or there was no capacity for one (the SDK repeats neither).
const FOR_NOW: [&str; 3] =
    ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// Whether a transaction was cancelled for the moment only.
pub(super) fn for_now<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(e)) => {
            let mut codes = e.cancellation_reasons().iter().filter_map(|reason| reason.code());
            codes.any(|code| FOR_NOW.contains(&code))
        }
        _ => false,
    }
}
