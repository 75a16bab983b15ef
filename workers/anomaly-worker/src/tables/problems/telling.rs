//! What the update of a row says that tells an episode.

use aws_sdk_dynamodb::types::AttributeValue;
use flotilla_runtime::Failure;

use super::{
    super::{Acknowledgement, Subject, number, text},
    Status, json,
};
use crate::engine::Episode;

/// The expression that tells an episode. Processing times are those of the first telling. One that lasts
/// stays acknowledged.
pub(super) fn telling(
    it: &Episode,
    is_edge: bool,
    corrected: bool,
    seen: Option<&Acknowledgement>,
) -> String {
    let (status, end) = match it.resolved {
        Some(_) => (
            ":status",
            ", resolved = :resolved, resolution = :resolution, \
             resolved_processed = if_not_exists(resolved_processed, :now) \
             REMOVE resolution_reason",
        ),
        None => (
            "if_not_exists(acknowledged, :status)",
            " REMOVE resolved, resolution, resolved_processed, resolution_reason",
        ),
    };
    let following = if is_edge { "#following = :following, " } else { "" };
    let corrected = if corrected { ", corrected_processed = :now" } else { "" };
    let seen_too = seen.map_or_else(String::new, |it| format!(", {}", it.assignments()));
    format!(
        "SET problem = :kind, problem_time = :seconds, problem_status = {status}, \
         #current = :current, {following}opening = :opening, certainty = :certainty, \
         recurrences = :recurrences, flaps = :flaps, \
         opened_processed = if_not_exists(opened_processed, :now){corrected}{seen_too}{end}"
    )
}

/// The values of that expression.
pub(super) fn told(
    subject: &Subject,
    it: &Episode,
    now: i64,
    seen: Option<&Acknowledgement>,
) -> Result<Vec<(String, AttributeValue)>, Failure> {
    let status = match (it.resolved, seen) {
        (Some(_), _) => Status::Resolved,
        (None, Some(_)) => Status::Acknowledged,
        (None, None) => Status::Unresolved,
    };
    let certainty = if it.settled { "FINAL" } else { "PROVISIONAL" };
    let mut values = vec![
        (":kind", text(it.kind.name())),
        (":seconds", number(it.opened.at / 1000)),
        (":status", text(status.name())),
        (":current", text(subject.current())),
        (":certainty", text(certainty)),
        (":recurrences", number(it.recurrences)),
        (":flaps", number(it.flaps)),
        (":opening", json(&it.opened.evidence)?),
        (":now", number(now)),
    ];
    values.extend(subject.following().map(|it| (":following", text(it))));
    if let Some(turn) = it.resolved {
        values.push((":resolved", number(turn.at)));
        values.push((":resolution", json(&turn.evidence)?));
    }
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(values.chain(seen.map(Acknowledgement::values).into_iter().flatten()).collect())
}
