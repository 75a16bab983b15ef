//! The slots of a worker, and which of its queues fills one that is free.
//!
//! Whoever wants slots waits for his turn. Turns are given by start-time fair queueing (Goyal, Vin
//! and Cheng, 1996): a queue's next turn is due later by what it took, over its weight, so that of
//! two deep queues with weights 8 and 1 the first gets eight messages in nine. A queue that had
//! nothing for a while is due at once, and has saved nothing up.
//!
//! What is taken is a right to one message. While receives run [`ahead`](crate::ahead), there are more
//! rights than slots, and a message waits for its slot with its right in hand: not for long, or it
//! goes back.

mod waiting;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::waiting::Waiting;
use crate::ahead::{Ahead, Depth};

/// How long a message that is here waits for a slot. Whoever asked for it thought that one would be
/// free by now.
pub(crate) const ABOUT: Duration = Duration::from_millis(100);

/// All slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    freed: Notify,
    /// The slots themselves.
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    count: usize,
    /// How many rights are out.
    out: usize,
    ahead: Ahead,
    /// From how many free rights on somebody who waits is to be woken.
    wake_at: usize,
    /// The virtual time: that at which the last turn was due.
    now: f64,
    queues: Vec<Share>,
}

/// A queue's part in the slots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Its weight among the queues.
    pub(crate) weight: u32,
    /// Whether a free slot is all that a message of it needs, so that it can be received ahead.
    pub(crate) ahead: bool,
}

/// What a queue is due.
#[derive(Debug)]
struct Share {
    weight: f64,
    ahead: bool,
    /// When its next turn is, in virtual time.
    due: f64,
    /// How many wait for a turn of this queue.
    waiting: usize,
}

/// The right to one message, until it is dropped; and the slot that it is worked on in, from
/// [`begin`](Self::begin) on.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    place: Option<(OwnedSemaphorePermit, Instant)>,
}

impl Slots {
    /// So many slots, for queues with these parts in them; up to `most_ahead` messages are asked for
    /// beyond them.
    pub(crate) fn new(
        count: usize,
        most_ahead: usize,
        parts: impl IntoIterator<Item = Part>,
    ) -> Arc<Self> {
        let share = |Part { weight, ahead }| Share {
            weight: f64::from(weight),
            ahead,
            due: 0.0,
            waiting: 0,
        };
        let (ahead, queues) = (Ahead::new(count, most_ahead), parts.into_iter().map(share));
        let state =
            State { count, out: 0, ahead, wake_at: usize::MAX, now: 0.0, queues: queues.collect() };
        let places = Arc::new(Semaphore::new(count));
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new(), places })
    }

    /// Slots that nobody receives ahead of, for queues of these weights.
    #[cfg(test)]
    pub(crate) fn plain(count: usize, weights: impl IntoIterator<Item = u32>) -> Arc<Self> {
        Self::new(count, 0, weights.into_iter().map(|weight| Part { weight, ahead: false }))
    }

    /// How many queues share them.
    pub(crate) fn queues(&self) -> usize {
        self.state().queues.len()
    }

    /// The most rights that a queue can ever have.
    pub(crate) fn most(&self, queue: usize) -> usize {
        let state = self.state();
        let ahead = if state.queues[queue].ahead { state.ahead.most() } else { 0 };
        state.count + ahead
    }

    /// How many rights a queue can have now, with those that are out.
    pub(crate) fn rights(&self, queue: usize) -> usize {
        self.state().rights(queue)
    }

    /// Has a queue count as one that waits for its turn.
    pub(crate) fn waiting(&self, queue: usize) -> Waiting<'_> {
        Waiting::of(self, queue)
    }

    /// Waits until a right is free and it is the turn of this queue, then takes all that are free, up
    /// to `most`; with none of them it only waits for its turn. `None` at the stop.
    pub(crate) async fn take(
        self: &Arc<Self>,
        queue: usize,
        most: usize,
        stop: &CancellationToken,
    ) -> Option<Vec<Slot>> {
        let _waiting = self.waiting(queue);
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

    /// Waits until so many rights are free for this queue.
    pub(crate) async fn until_free(&self, queue: usize, count: usize) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut state = self.state();
                if state.free(queue) >= count {
                    return;
                }
                state.wake_at = state.wake_at.min(count);
            }
            freed.await;
        }
    }

    /// Takes what is free, up to `most`, whoever's turn it is.
    pub(crate) fn try_take(self: &Arc<Self>, queue: usize, most: usize) -> Vec<Slot> {
        let taken = self.state().take(queue, most);
        self.out(taken)
    }

    /// What was taken for messages that did not come does not count.
    pub(crate) fn unused(&self, queue: usize, count: usize) {
        let share = &mut self.state().queues[queue];
        share.due -= count as f64 / share.weight;
    }

    /// A receive of this queue came back after so long.
    pub(crate) fn received(&self, queue: usize, took: Duration, depth: Depth) {
        let mut state = self.state();
        if state.queues[queue].ahead {
            state.ahead.received(took, depth);
            drop(state);
            self.freed.notify_waiters();
        }
    }

    fn turn(self: &Arc<Self>, queue: usize, most: usize) -> Option<Vec<Slot>> {
        let mut state = self.state();
        if state.free(queue) == 0 || state.first() != Some(queue) {
            state.wake_at = 1;
            return None;
        }
        state.now = state.queues[queue].due;
        let taken = state.take(queue, most);
        drop(state);
        Some(self.out(taken))
    }

    fn out(self: &Arc<Self>, count: usize) -> Vec<Slot> {
        (0..count).map(|_| Slot { slots: self.clone(), place: None }).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rights(&self, queue: usize) -> usize {
        self.count + if self.queues[queue].ahead { self.ahead.allowed() } else { 0 }
    }

    /// How many rights a queue could take now.
    fn free(&self, queue: usize) -> usize {
        self.rights(queue).saturating_sub(self.out)
    }

    /// Of the queues that somebody waits for, the one whose turn it is.
    fn first(&self) -> Option<usize> {
        let waiting = self.queues.iter().enumerate().filter(|(_, share)| share.waiting > 0);
        let earlier =
            |a: &Share, b: &Share| a.due.total_cmp(&b.due).then(b.weight.total_cmp(&a.weight));
        waiting.min_by(|(_, a), (_, b)| earlier(a, b)).map(|(queue, _)| queue)
    }

    fn take(&mut self, queue: usize, most: usize) -> usize {
        let taken = self.free(queue).min(most);
        self.out += taken;
        let share = &mut self.queues[queue];
        share.due += taken as f64 / share.weight;
        taken
    }

    /// Whether somebody is to be woken.
    fn wakes(&mut self) -> bool {
        let free = (self.count + self.ahead.allowed()).saturating_sub(self.out);
        let wakes = free >= self.wake_at;
        if wakes {
            self.wake_at = usize::MAX;
        }
        wakes
    }
}

impl Slot {
    /// Waits for a slot for the message that came at this time. False where there is none in time,
    /// or before the stop: then it must go back.
    pub(crate) async fn begin(&mut self, came: Instant, stop: &CancellationToken) -> bool {
        let place = match self.slots.places.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                let place = timeout(ABOUT, self.slots.places.clone().acquire_owned());
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return false,
                    place = place => place.ok().and_then(Result::ok),
                }
            }
        };
        let (now, mut state) = (Instant::now(), self.slots.state());
        state.ahead.waited(now.saturating_duration_since(came));
        if place.is_none() {
            state.ahead.misjudged();
        }
        drop(state);
        self.place = place.map(|place| (place, now));
        self.place.is_some()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let began = self.place.take().map(|(_, began)| began);
        let mut state = self.slots.state();
        state.out -= 1;
        if let Some(began) = began {
            state.ahead.served(began.elapsed());
        }
        let wakes = state.wakes();
        drop(state);
        if wakes {
            self.slots.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
