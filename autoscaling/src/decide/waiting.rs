//! What waits now, of counts that are from a while ago.

use crate::{
    capacity::Capacity,
    memory::{Memory, Since},
    observed::{Count, Millis, QueueSeen},
};

/// How many messages wait on a queue. Whose the messages in hand are is known where the instances
/// serve this queue `alone`.
///
/// Where the senders count, what was sent and is not done is somewhere, and what is neither in hand
/// nor delayed nor held back waits. Where they do not, it is what SQS counted as waiting, less what
/// is in hand and not counted as in flight yet. Either way what SQS shows at every look for as long as
/// it may be late does wait, unless it began meanwhile: whatever else is believed is wrong then (a
/// worker that is silent holds nothing of what it seems to).
pub(super) fn on(
    queue: &QueueSeen,
    alone: bool,
    memory: &mut Memory,
    capacity: &Capacity,
    now: Millis,
) -> u64 {
    let value = |count: Option<Count>| count.map_or(0, |count| count.value);
    let told = value(queue.visible);
    let lag = [queue.visible, queue.in_flight].iter().flatten().map(|it| it.lag_ms).max();
    let lag = lag.unwrap_or_default();
    let since = match (alone, queue.finished) {
        (true, Some(finished)) => Some(memory.since(capacity.held, finished, lag, now)),
        _ => None,
    };
    let stays = memory.stood(&format!("{} as told", queue.name), told, lag, now);
    let waits = match (queue.sent.zip(queue.finished), since) {
        (Some((sent, finished)), since) => {
            let elsewhere = value(queue.delayed).saturating_add(in_hand(queue, capacity, since));
            sent.saturating_sub(finished).saturating_sub(elsewhere)
        }
        (None, Some(_)) => told.saturating_sub(begun(queue, capacity)),
        (None, None) => told,
    };
    waits.max(since.map_or(0, |since| stays.saturating_sub(since.begun)))
}

/// Messages that are received and not done with: those that the instances have in hand, and what is
/// in flight beyond all that they had in hand since SQS may have counted it (held back after a
/// failure, or with a lost instance).
fn in_hand(queue: &QueueSeen, capacity: &Capacity, since: Option<Since>) -> u64 {
    let Some(since) = since else { return queue.in_flight.map_or(0, |count| count.value) };
    let least = queue.in_flight.map_or(0, Count::least);
    capacity.held.saturating_add(least.saturating_sub(since.held))
}

/// What SQS still counts as waiting though it is in hand: what the instances hold beyond all that it
/// knows to be in flight.
fn begun(queue: &QueueSeen, capacity: &Capacity) -> u64 {
    let known = capacity.held.saturating_sub(capacity.guessed);
    known.saturating_sub(queue.in_flight.map_or(0, Count::most))
}
