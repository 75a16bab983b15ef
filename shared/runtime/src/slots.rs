//! The slots of a worker, and which of its queues fills one that is free.
//!
//! Whoever wants slots waits for his turn. Turns are given by start-time fair queueing (Goyal, Vin
//! and Cheng, 1996): a queue's next turn is due later by what it took, over its weight, so that of
//! two deep queues with weights 8 and 1 the first gets eight messages in nine. A queue that had
//! nothing for a while is due at once, and has saved nothing up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// The virtual time: that at which the last turn was due.
    now: f64,
    queues: Vec<Share>,
}

/// What a queue is due.
#[derive(Debug)]
struct Share {
    weight: f64,
    /// When its next turn is, in virtual time.
    due: f64,
    /// How many wait for a turn of this queue.
    waiting: usize,
}

/// A slot that is taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    /// So many slots, for queues of these weights.
    pub(crate) fn new(count: usize, weights: impl IntoIterator<Item = u32>) -> Arc<Self> {
        let share = |weight: u32| Share { weight: weight.into(), due: 0.0, waiting: 0 };
        let queues = weights.into_iter().map(share).collect();
        let state = State { free: count, now: 0.0, queues };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Waits until a slot is free and it is the turn of this queue, then takes all that are free, up
    /// to `most`; with none of them it only waits for its turn. `None` at the stop.
    pub(crate) async fn take(
        self: &Arc<Self>,
        queue: usize,
        most: usize,
        stop: &CancellationToken,
    ) -> Option<Vec<Slot>> {
        let _waiting = Waiting::of(self, queue);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if stop.is_cancelled() {
                return None;
            }
            if let Some(taken) = self.turn(queue, most) {
                return Some(taken);
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = freed => {}
            }
        }
    }

    /// Waits until so many slots are free.
    pub(crate) async fn until_free(&self, count: usize) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.state().free >= count {
                return;
            }
            freed.await;
        }
    }

    /// Takes what is free, up to `most`, whoever's turn it is.
    pub(crate) fn try_take(self: &Arc<Self>, queue: usize, most: usize) -> Vec<Slot> {
        let taken = self.state().take(queue, most);
        (0..taken).map(|_| Slot(self.clone())).collect()
    }

    /// What was taken for messages that did not come does not count.
    pub(crate) fn unused(&self, queue: usize, count: usize) {
        let share = &mut self.state().queues[queue];
        share.due -= count as f64 / share.weight;
    }

    fn turn(self: &Arc<Self>, queue: usize, most: usize) -> Option<Vec<Slot>> {
        let mut state = self.state();
        if state.free == 0 || state.first() != Some(queue) {
            return None;
        }
        state.now = state.queues[queue].due;
        let taken = state.take(queue, most);
        Some((0..taken).map(|_| Slot(self.clone())).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of the queues that somebody waits for, the one whose turn it is.
    fn first(&self) -> Option<usize> {
        let waiting = self.queues.iter().enumerate().filter(|(_, share)| share.waiting > 0);
        let earlier =
            |a: &Share, b: &Share| a.due.total_cmp(&b.due).then(b.weight.total_cmp(&a.weight));
        waiting.min_by(|(_, a), (_, b)| earlier(a, b)).map(|(queue, _)| queue)
    }

    fn take(&mut self, queue: usize, most: usize) -> usize {
        let taken = self.free.min(most);
        self.free -= taken;
        let share = &mut self.queues[queue];
        share.due += taken as f64 / share.weight;
        taken
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().free += 1;
        self.0.freed.notify_waiters();
    }
}

/// Somebody who waits for a turn of a queue.
struct Waiting<'a> {
    slots: &'a Slots,
    queue: usize,
}

impl<'a> Waiting<'a> {
    fn of(slots: &'a Slots, queue: usize) -> Self {
        let mut state = slots.state();
        let now = state.now;
        let share = &mut state.queues[queue];
        share.due = share.due.max(now);
        share.waiting += 1;
        Self { slots, queue }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slots.state().queues[self.queue].waiting -= 1;
        // Others may have let this one go first.
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn deep_queues_share_the_slots_by_their_weights(
            weights in prop::collection::vec(1u32..10, 1..4), slots in 1usize..12,
        ) {
            let (all, stop) = (Slots::new(slots, weights.clone()), CancellationToken::new());
            let mut busy = std::collections::VecDeque::from(all.try_take(0, slots));
            all.unused(0, slots);
            let mut got = vec![0usize; weights.len()];
            let wait = |queue| Box::pin(all.take(queue, 1, &stop));
            let mut waiting: Vec<_> = (0..weights.len()).map(wait).collect();
            for turn in &mut waiting {
                prop_assert!(turn.as_mut().now_or_never().is_none());
            }
            for _ in 0..2000 {
                drop(busy.pop_front());
                for queue in 0..weights.len() {
                    if let Some(taken) = waiting[queue].as_mut().now_or_never() {
                        busy.extend(taken.unwrap());
                        got[queue] += 1;
                        waiting[queue] = wait(queue);
                        prop_assert!(waiting[queue].as_mut().now_or_never().is_none());
                    }
                }
            }
            let (total, sum) = (got.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
            for (got, weight) in got.iter().zip(&weights) {
                let due = total * f64::from(*weight) / sum;
                prop_assert!((*got as f64 - due).abs() <= 10.0 + 0.05 * due, "{got} of {due}");
            }
        }

        #[test]
        fn no_more_slots_are_out_than_there_are(
            slots in 1usize..8, steps in prop::collection::vec((0usize..2, 0usize..12, any::<bool>()), 0..60),
        ) {
            let (all, mut out) = (Slots::new(slots, [3, 1]), Vec::new());
            for (queue, most, give_back) in steps {
                out.extend(all.try_take(queue, most));
                prop_assert!(out.len() <= slots && all.state().free + out.len() == slots);
                out.truncate(if give_back { out.len() / 2 } else { out.len() });
            }
        }
    }

    #[tokio::test]
    async fn who_was_away_is_next_but_has_saved_nothing_up() {
        let (slots, stop) = (Slots::new(1, [1, 1]), CancellationToken::new());
        for _ in 0..50 {
            slots.take(0, 1, &stop).await.unwrap();
        }
        let busy = slots.take(0, 1, &stop).await.unwrap();
        let order = Mutex::new(Vec::new());
        let takes = async |queue| {
            for _ in 0..6 {
                let _slot = slots.take(queue, 1, &stop).await.unwrap();
                order.lock().unwrap().push(queue);
            }
        };
        tokio::join!(takes(0), takes(1), async { drop(busy) });
        let order = order.into_inner().unwrap();
        let ahead = order.iter().take(6).filter(|queue| **queue == 1).count();
        assert!((3..=4).contains(&ahead), "{order:?}");
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait() {
        let (slots, stop) = (Slots::new(1, [1]), CancellationToken::new());
        let _busy = slots.take(0, 1, &stop).await;
        let (stopped, ()) = tokio::join!(slots.take(0, 1, &stop), async { stop.cancel() });
        assert!(stopped.is_none());
    }
}
