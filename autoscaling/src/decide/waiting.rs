//! What waits now, of counts that are from a while ago.

use crate::{
    capacity::Capacity,
    memory::{Memory, Since},
    observed::{Count, Millis, QueueSeen},
};

/// Messages of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// So many for certain: for these it is launched.
    pub(super) waiting: u64,
    /// So many by the books as they are: for these instances are kept.
    pub(super) told: u64,
    pub(super) in_hand: u64,
}

/// How many messages wait on each of these queues, which the same instances serve.
///
/// Where the senders count, what was sent and is not done is somewhere, and what is neither in hand
/// nor delayed nor held back waits. Where they do not, it is what SQS counted as waiting, less what
/// is in hand and not counted as in flight yet. Either way what SQS shows at every look for as long as
/// it may be late does wait, unless it began meanwhile: whatever else is believed is wrong then (a
/// worker that is silent holds nothing of what it seems to).
///
/// The books are late, too: what ended since is still among what is there, and where hundreds of jobs
/// end in a second, that many seem to wait. So as much as ends within their lateness is taken off what
/// is launched for. If it does wait, it begins within that time, on the slots of those that end.
///
/// Instances do not tell whose the messages are that they hold. They are shared out among several
/// queues as SQS tells them to be in flight, and what it does not tell yet, by what seems to wait. So no
/// message in hand waits a second time, whatever queue it is of.
pub(super) fn on(
    queues: &[&QueueSeen],
    memory: &mut Memory,
    capacity: &Capacity,
    now: Millis,
) -> Vec<Waiting> {
    let lag = queues.iter().map(|queue| lag_of(queue)).max().unwrap_or_default();
    let finished = queues.iter().map(|queue| queue.finished);
    let finished = finished.reduce(|sum, more| Some(sum?.saturating_add(more?))).flatten();
    let since = finished.map(|finished| memory.since(capacity.held, finished, lag, now));
    let shares = since.map(|since| Shares::of(queues, capacity, since));
    let mut all = Vec::with_capacity(queues.len());
    for (place, queue) in queues.iter().enumerate() {
        let told = value(queue.visible);
        let span = lag_of(queue);
        let stays = memory.stood(&format!("{} as told", queue.name), told, span, now);
        let mut of_queue = match &shares {
            Some(shares) => shares.waiting(place, queue),
            None => unaided(queue),
        };
        let stays = since.map_or(0, |since| stays.saturating_sub(since.begun));
        of_queue.waiting = of_queue.waiting.max(stays);
        of_queue.told = of_queue.told.max(stays);
        all.push(of_queue);
    }
    all
}

fn value(count: Option<Count>) -> u64 {
    count.map_or(0, |count| count.value)
}

fn lag_of(queue: &QueueSeen) -> Millis {
    let counts = [queue.visible, queue.in_flight].into_iter().flatten();
    counts.map(|count| count.lag_ms).max().unwrap_or_default()
}

/// Messages of a queue that were sent and are neither done with nor delayed, where its senders count.
fn booked(queue: &QueueSeen) -> Option<u64> {
    let (sent, finished) = queue.sent.zip(queue.finished)?;
    Some(sent.saturating_sub(finished).saturating_sub(value(queue.delayed)))
}

/// By SQS's counts alone, or with what the senders count.
fn unaided(queue: &QueueSeen) -> Waiting {
    let in_hand = value(queue.in_flight);
    let waiting = booked(queue).map_or(value(queue.visible), |it| it.saturating_sub(in_hand));
    Waiting { waiting, told: waiting, in_hand }
}

/// What of each queue is received and not done with.
struct Shares {
    /// With what a silent worker may hold.
    all: Vec<u64>,
    /// Without it.
    told: Vec<u64>,
    held: u64,
    ended_per_s: f64,
}

impl Shares {
    fn of(queues: &[&QueueSeen], capacity: &Capacity, since: Since) -> Self {
        // What is in flight beyond all that the instances had in hand since SQS may have counted it
        // is held back after a failure, or was with a lost instance.
        let least = queues.iter().filter_map(|queue| queue.in_flight).map(Count::least);
        let back = least.fold(0, u64::saturating_add).saturating_sub(since.held);
        let shown: Vec<u64> = queues.iter().map(|queue| value(queue.in_flight)).collect();
        let most: Vec<u64> = queues.iter().map(|queue| there(queue)).collect();
        let of = |held: u64| share_out(held.saturating_add(back), &shown, &most);
        let known = capacity.held.saturating_sub(capacity.guessed);
        let Since { ended_per_s, .. } = since;
        Self { all: of(capacity.held), told: of(known), held: capacity.held, ended_per_s }
    }

    fn waiting(&self, place: usize, queue: &QueueSeen) -> Waiting {
        let in_hand = self.all[place].min(self.held);
        let (waiting, told) = match booked(queue) {
            Some(there) => {
                let told = there.saturating_sub(self.all[place]);
                (told.saturating_sub(self.ended_unseen(queue, in_hand)), told)
            }
            None => {
                let shown = queue.in_flight.map_or(0, Count::most);
                let told = self.told[place].saturating_sub(shown);
                let waiting = value(queue.visible).saturating_sub(told);
                (waiting, waiting)
            }
        };
        Waiting { waiting, told, in_hand }
    }

    /// How many messages of a queue may have ended that its books do not have yet: its part, by what of
    /// it is in hand, of all that end in that time.
    fn ended_unseen(&self, queue: &QueueSeen, in_hand: u64) -> u64 {
        let all = self.ended_per_s * queue.books_lag_ms as f64 / 1000.0;
        (all * in_hand as f64 / self.held.max(1) as f64) as u64
    }
}

/// The most that may be on a queue, waiting or in hand.
fn there(queue: &QueueSeen) -> u64 {
    let shown = || value(queue.visible).saturating_add(queue.in_flight.map_or(0, Count::most));
    booked(queue).unwrap_or_else(shown)
}

/// Shares `total` out: first as it is `shown`, then what is left by what room there is below `most`.
fn share_out(total: u64, shown: &[u64], most: &[u64]) -> Vec<u64> {
    let shown: Vec<u64> = shown.iter().zip(most).map(|(shown, most)| *shown.min(most)).collect();
    let first = pro_rata(total, &shown);
    let room: Vec<u64> = most.iter().zip(&first).map(|(most, has)| most - has).collect();
    let left = total - first.iter().sum::<u64>();
    first.into_iter().zip(pro_rata(left, &room)).map(|(first, more)| first + more).collect()
}

/// Parts of `total` in proportion to these, none above its own: all of it, or as much as they are.
fn pro_rata(total: u64, parts: &[u64]) -> Vec<u64> {
    let sum: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    let total = u128::from(total).min(sum);
    let (mut before, mut given) = (0u128, 0u128);
    let share = |part: &u64| {
        before += u128::from(*part);
        let until = total.saturating_mul(before).checked_div(sum).unwrap_or_default();
        let share = until - given;
        given = until;
        // No more than the part itself, which is a u64.
        u64::try_from(share).unwrap_or(*part)
    };
    parts.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shared_out_is_all_of_it_and_nobody_has_more_than_there_is(
            total in 0u64..5_000, queues in proptest::collection::vec((0u64..900, 0u64..900), 1..6),
        ) {
            let (shown, most): (Vec<u64>, Vec<u64>) = queues.into_iter().unzip();
            let shares = share_out(total, &shown, &most);
            prop_assert!(shares.iter().zip(&most).all(|(share, most)| share <= most), "{shares:?}");
            prop_assert_eq!(shares.iter().sum::<u64>(), total.min(most.iter().sum()));
        }

        #[test]
        fn where_what_is_shown_is_all_it_is_shared_out_as_shown(
            queues in proptest::collection::vec((0u64..900, 0u64..900), 1..6),
        ) {
            let shown: Vec<u64> = queues.iter().map(|(shown, _)| *shown).collect();
            let most: Vec<u64> = queues.iter().map(|(shown, more)| shown + more).collect();
            prop_assert_eq!(share_out(shown.iter().sum(), &shown, &most), shown);
        }
    }

    #[test]
    fn numbers_at_their_limits_are_shared_out_too() {
        let parts = pro_rata(u64::MAX, &[u64::MAX, u64::MAX, 1]);
        let sum: u128 = parts.iter().map(|part| u128::from(*part)).sum();
        assert!(sum <= u128::from(u64::MAX) && parts[0] >= u64::MAX / 2, "{parts:?}");
        assert_eq!((pro_rata(5, &[]), pro_rata(5, &[0, 0])), (vec![], vec![0, 0]));
    }
}
