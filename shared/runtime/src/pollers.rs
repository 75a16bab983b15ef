//! How many receives are on their way at a time, and for how many messages each.
//!
//! An idle queue costs one long poll. While the queue is deep, more pollers join, for as long as
//! there are slots that nobody receives for: with one alone, a worker could never be faster than a
//! batch a round trip. Where jobs are shorter than that, they ask for more than there are slots
//! ([`ahead`](crate::ahead)).
//!
//! A worker of several queues may not keep slots for a long poll, or an idle queue would take them
//! from the others. So it asks short, with slots, while a queue has messages; and while it has none
//! it *watches*: a long poll for one message and without a slot. A message that is found so when
//! every slot has been filled meanwhile goes back, and the queue's next turn is due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ahead::Depth,
    queue::BATCH,
    slots::{ABOUT, Slot, Slots, Waiting},
};

/// While the queue is deep, a free slot waits so long for others to share its call.
const LINGER: Duration = Duration::from_millis(5);
/// The long poll of a poller that joined: it must not be the queue's last messages that have it
/// wait, nor a stop.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The pollers of a queue, by number; the first never rests.
#[derive(Debug)]
pub(crate) struct Pollers {
    slots: Arc<Slots>,
    /// The queue's place among the worker's.
    queue: usize,
    /// Whether there are others.
    shared: bool,
    /// Whether the last receive brought nothing.
    idle: AtomicBool,
    most: usize,
    /// How many are to poll now.
    wanted: watch::Sender<usize>,
    turn: Mutex<()>,
}

/// What a receive is to ask for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The most messages.
    pub(crate) most: usize,
    /// How long to wait for the first.
    pub(crate) wait: Duration,
    /// The slots for them; none while an idle queue is watched.
    pub(crate) slots: Vec<Slot>,
}

/// The turn to collect slots: two at once would each get half a batch.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pollers: &'a Pollers,
    _waiting: Waiting<'a>,
    _only: MutexGuard<'a, ()>,
}

impl Pollers {
    /// The pollers of the queue at this place among those that share the slots.
    pub(crate) fn new(slots: Arc<Slots>, queue: usize) -> Self {
        let (wanted, _) = watch::channel(1);
        let (shared, rights) = (slots.queues() > 1, slots.most(queue));
        // Beside other queues one must wait for the next slot whenever there is more to receive, or
        // its turn would go to them.
        let few = if shared { rights.min(BATCH) } else { 1 };
        let most = rights.div_ceil(BATCH).max(few);
        let (idle, turn) = (AtomicBool::new(false), Mutex::default());
        Self { slots, queue, shared, idle, most, wanted, turn }
    }

    /// The numbers of all pollers that there can be.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.most
    }

    /// Waits until this poller is to poll. False at the stop.
    pub(crate) async fn called(&self, number: usize, shutdown: &CancellationToken) -> bool {
        let mut wanted = self.wanted.subscribe();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            called = wanted.wait_for(|wanted| number < *wanted) => called.is_ok(),
        }
    }

    /// Takes note of a receive that brought `got` of the `asked` messages, for which it had so many
    /// slots. SQS seldom fills a batch to the brim, so half of one means that there is more.
    pub(crate) fn returned(&self, asked: usize, got: usize, slots: usize, took: Duration) {
        self.idle.store(got == 0, Ordering::Relaxed);
        self.slots.unused(self.queue, slots.saturating_sub(got));
        let depth = match got {
            0 => Depth::Empty,
            got if got * 2 >= asked && slots > 0 => Depth::Deep,
            _ => Depth::Shallow,
        };
        self.slots.received(self.queue, took, depth);
        self.wanted.send_if_modified(|wanted| {
            let now = match got {
                0 => 1,
                // What an idle queue was watched for: the next receive tells if there is more.
                _ if slots == 0 => *wanted,
                got if got * 2 >= asked => (*wanted + 1).min(self.most),
                _ => *wanted,
            };
            std::mem::replace(wanted, now) != now
        });
    }

    /// Takes note that so many slots were taken for a receive that is not made.
    pub(crate) fn unasked(&self, slots: usize) {
        self.slots.unused(self.queue, slots);
    }

    /// Sends all but the first poller to rest: what there is to receive is of no use now.
    pub(crate) fn rest(&self) {
        self.wanted.send_replace(1);
    }

    /// Waits for the turn to collect slots. The queue counts as one that waits for slots from here on,
    /// or between two of its pollers another queue would get what is due to this one.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let _waiting = self.slots.waiting(self.queue);
        Turn { pollers: self, _waiting, _only: self.turn.lock().await }
    }

    /// A slot for a message that came without one, if one is free or about to be: another queue may
    /// be asking with the last of them, and nothing come of it.
    pub(crate) async fn spare(&self, stop: &CancellationToken) -> Vec<Slot> {
        let spare = timeout(ABOUT, self.slots.take(self.queue, 1, stop)).await;
        spare.ok().flatten().unwrap_or_default()
    }
}

impl Turn<'_> {
    /// Waits for a free slot, then takes all that are free, up to a batch; with them it asks for
    /// `wait` at the most. `None` at the stop, and where this poller is not called for any more.
    pub(crate) async fn ask(
        self,
        number: usize,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Option<Asked> {
        let Pollers { slots, queue, shared, .. } = self.pollers;
        if *shared && self.pollers.idle.load(Ordering::Relaxed) {
            slots.take(*queue, 0, stop).await?;
            return Some(Asked { most: 1, wait, slots: Vec::new() });
        }
        let mut free = slots.take(*queue, BATCH, stop).await?;
        let wanted = *self.pollers.wanted.borrow();
        if number >= wanted {
            slots.unused(*queue, free.len());
            return None;
        }
        // Where no more can be asked for than a batch takes, there is none to wait for.
        let deep = wanted > 1 && slots.rights(*queue) > BATCH;
        if deep && free.len() < BATCH {
            let _ = timeout(LINGER, slots.until_free(*queue, BATCH - free.len())).await;
            free.extend(slots.try_take(*queue, BATCH - free.len()));
        }
        let wait = match (*shared, number) {
            (true, _) => Duration::ZERO,
            (false, 0) => wait,
            (false, _) => wait.min(SHORT_WAIT),
        };
        Some(Asked { most: free.len(), wait, slots: free })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);
    const CALL: Duration = Duration::from_millis(10);

    fn alone(slots: usize) -> Pollers {
        Pollers::new(Slots::plain(slots, [1]), 0)
    }

    fn wanted(pollers: &Pollers) -> usize {
        *pollers.wanted.borrow()
    }

    async fn ask(pollers: &Pollers) -> Asked {
        pollers.turn().await.ask(0, WAIT, &CancellationToken::new()).await.unwrap()
    }

    proptest! {
        #[test]
        fn there_is_always_one_poller_and_never_more_than_the_slots_can_feed(
            slots in 1usize..200, receives in prop::collection::vec((1usize..=10, 0usize..=10), 0..60),
        ) {
            let pollers = alone(slots);
            for (asked, got) in receives {
                pollers.returned(asked, got.min(asked), asked, CALL);
                prop_assert!((1..=slots.div_ceil(10)).contains(&wanted(&pollers)));
            }
            pollers.returned(10, 0, 10, CALL);
            prop_assert_eq!(wanted(&pollers), 1);
        }
    }

    #[test]
    fn full_receives_bring_pollers_and_an_empty_one_sends_them_away() {
        let pollers = alone(64);
        let mut seen = Vec::new();
        for got in [10, 5, 4, 10, 0] {
            pollers.returned(10, got, 10, CALL);
            seen.push(wanted(&pollers));
        }
        assert_eq!(seen, [2, 3, 3, 4, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_deep_queue_a_slot_waits_for_a_batch_but_not_for_long() {
        let pollers = alone(20);
        let mut busy = ask(&pollers).await.slots;
        busy.extend(ask(&pollers).await.slots);
        pollers.returned(10, 10, 10, CALL);
        drop(busy.split_off(17));
        let start = tokio::time::Instant::now();
        let some = ask(&pollers).await.slots;
        assert_eq!((some.len(), start.elapsed()), (3, LINGER));
        drop((some, busy.split_off(5)));
        assert_eq!(ask(&pollers).await.most, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_queue_that_is_not_deep_no_free_slot_waits() {
        let pollers = alone(20);
        let mut busy = ask(&pollers).await.slots;
        busy.extend(ask(&pollers).await.slots);
        busy.truncate(19);
        let start = tokio::time::Instant::now();
        let asked = ask(&pollers).await;
        assert_eq!((asked.most, asked.wait), (1, WAIT), "it waits for the next message to come");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn beside_other_queues_an_idle_one_keeps_no_slot_for_its_long_poll() {
        let slots = Slots::plain(4, [8, 1]);
        let [high, low] = [0, 1].map(|queue| Pollers::new(slots.clone(), queue));
        let first = ask(&high).await;
        assert_eq!((first.most, first.wait), (4, Duration::ZERO));
        drop(first);
        high.returned(4, 0, 4, CALL);
        let watch = ask(&high).await;
        assert_eq!((watch.most, watch.wait, watch.slots.len()), (1, WAIT, 0));
        assert_eq!(ask(&low).await.most, 4);
        high.returned(1, 1, 0, CALL);
        assert_eq!(ask(&high).await.wait, Duration::ZERO, "where one is, there may be more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_every_wait() {
        let (pollers, stop) = (alone(10), CancellationToken::new());
        let _busy = ask(&pollers).await;
        let waits = async {
            tokio::join!(pollers.turn().await.ask(0, WAIT, &stop), pollers.called(1, &stop))
        };
        let (stopped, ()) = tokio::join!(waits, async { stop.cancel() });
        assert!(matches!(stopped, (None, false)));
    }
}
