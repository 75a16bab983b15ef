//! How many receives are on their way at a time, and for how many messages each.
//!
//! An idle queue costs one long poll. While the queue is deep, more pollers join, for as long as
//! there are slots that nobody receives for: with one alone, a worker could never be faster than a
//! batch a round trip.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::queue::BATCH;

/// While the queue is deep, a free slot waits so long for others to share its call.
const LINGER: Duration = Duration::from_millis(5);
/// The long poll of a poller that joined: it must not be the queue's last messages that have it
/// wait, nor a stop.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The pollers of a worker, by number; the first never rests.
#[derive(Debug)]
pub(crate) struct Pollers {
    slots: Arc<Semaphore>,
    most: usize,
    /// How many are to poll now.
    wanted: watch::Sender<usize>,
    turn: Mutex<()>,
}

/// The turn to collect slots: two at once would each get half a batch.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pollers: &'a Pollers,
    _only: MutexGuard<'a, ()>,
}

impl Pollers {
    pub(crate) fn new(slots: usize) -> Self {
        let (wanted, _) = watch::channel(1);
        let most = slots.div_ceil(BATCH);
        Self { slots: Arc::new(Semaphore::new(slots)), most, wanted, turn: Mutex::default() }
    }

    /// The numbers of all pollers that there can be.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.most
    }

    /// The longest wait of a poller's receive.
    pub(crate) fn wait(&self, number: usize, wait: Duration) -> Duration {
        if number == 0 { wait } else { wait.min(SHORT_WAIT) }
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

    /// Takes note of a receive that brought `got` of the `asked` messages. SQS seldom fills a batch
    /// to the brim, so half of one means that there is more.
    pub(crate) fn returned(&self, asked: usize, got: usize) {
        self.wanted.send_if_modified(|wanted| {
            let now = match got {
                0 => 1,
                got if got * 2 >= asked => (*wanted + 1).min(self.most),
                _ => *wanted,
            };
            std::mem::replace(wanted, now) != now
        });
    }

    /// Waits for the turn to collect slots.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        Turn { pollers: self, _only: self.turn.lock().await }
    }
}

impl Turn<'_> {
    /// Waits for a free slot, then takes all that are free, up to a batch. `None` at the stop.
    pub(crate) async fn free_slots(
        self,
        shutdown: &CancellationToken,
    ) -> Option<Vec<OwnedSemaphorePermit>> {
        let slots = &self.pollers.slots;
        let mut free = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            permit = slots.clone().acquire_owned() => vec![permit.ok()?],
        };
        // There are more slots than a batch takes, or the queue would never count as deep.
        let deep = *self.pollers.wanted.borrow() > 1;
        let rest = slots.clone().acquire_many_owned(BATCH as u32 - 1);
        if deep && let Ok(Ok(mut rest)) = timeout(LINGER, rest).await {
            free.extend((1..BATCH).map_while(|_| rest.split(1)));
        } else {
            free.extend((1..BATCH).map_while(|_| slots.clone().try_acquire_owned().ok()));
        }
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(pollers: &Pollers) -> usize {
        *pollers.wanted.borrow()
    }

    proptest! {
        #[test]
        fn there_is_always_one_poller_and_never_more_than_the_slots_can_feed(
            slots in 1usize..200, receives in prop::collection::vec((1usize..=10, 0usize..=10), 0..60),
        ) {
            let pollers = Pollers::new(slots);
            for (asked, got) in receives {
                pollers.returned(asked, got.min(asked));
                prop_assert!((1..=slots.div_ceil(10)).contains(&wanted(&pollers)));
            }
            pollers.returned(10, 0);
            prop_assert_eq!(wanted(&pollers), 1);
        }
    }

    #[test]
    fn full_receives_bring_pollers_and_an_empty_one_sends_them_away() {
        let pollers = Pollers::new(64);
        let mut seen = Vec::new();
        for got in [10, 5, 4, 10, 0] {
            pollers.returned(10, got);
            seen.push(wanted(&pollers));
        }
        assert_eq!(seen, [2, 3, 3, 4, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_deep_queue_a_slot_waits_for_a_batch_but_not_for_long() {
        let (pollers, stop) = (Pollers::new(20), CancellationToken::new());
        let mut busy = pollers.turn().await.free_slots(&stop).await.unwrap();
        busy.extend(pollers.turn().await.free_slots(&stop).await.unwrap());
        pollers.returned(10, 10);
        drop(busy.split_off(17));
        let start = tokio::time::Instant::now();
        let some = pollers.turn().await.free_slots(&stop).await.unwrap();
        assert_eq!((some.len(), start.elapsed()), (3, LINGER));
        drop((some, busy.split_off(5)));
        assert_eq!(pollers.turn().await.free_slots(&stop).await.unwrap().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_queue_that_is_not_deep_no_free_slot_waits() {
        let (pollers, stop) = (Pollers::new(20), CancellationToken::new());
        let mut busy = pollers.turn().await.free_slots(&stop).await.unwrap();
        busy.extend(pollers.turn().await.free_slots(&stop).await.unwrap());
        busy.truncate(19);
        let start = tokio::time::Instant::now();
        assert_eq!(pollers.turn().await.free_slots(&stop).await.unwrap().len(), 1);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_every_wait() {
        let (pollers, stop) = (Pollers::new(10), CancellationToken::new());
        let _busy = pollers.turn().await.free_slots(&stop).await;
        let waits = async {
            tokio::join!(pollers.turn().await.free_slots(&stop), pollers.called(1, &stop))
        };
        let (stopped, ()) = tokio::join!(waits, async { stop.cancel() });
        assert!(matches!(stopped, (None, false)));
    }
}
