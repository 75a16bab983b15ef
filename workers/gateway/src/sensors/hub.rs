//! Where events come together and go out to all who listen.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::timeout,
};

use super::{event::Event, position::Position};

/// Who is further behind than this misses events, and is told so.
const BEHIND: usize = 1024;

/// The listeners.
#[derive(Debug)]
pub(super) struct Hub {
    words: broadcast::Sender<Word>,
    /// Where events are told from, while they flow.
    position: watch::Sender<Option<Position>>,
    came: Notify,
    places: Arc<Semaphore>,
}

/// What listeners are told.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// Something happened.
    Event(Arc<Told>),
    /// Something is wrong here.
    Error(Arc<str>),
}

/// An event with its place.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) event: Event,
    /// The position after it.
    pub(super) position: String,
    pub(super) stream: usize,
    pub(super) shard: String,
    pub(super) number: String,
}

/// A listener's place and its events.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) words: broadcast::Receiver<Word>,
    position: watch::Receiver<Option<Position>>,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// A position that nothing of what is told here from now on is before.
    pub(super) fn position(&self) -> Option<String> {
        self.position.borrow().as_ref().map(Position::text)
    }
}

impl Hub {
    pub(super) fn new(places: usize) -> Self {
        Self {
            words: broadcast::Sender::new(BEHIND),
            position: watch::Sender::new(None),
            came: Notify::new(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// A place, if one is free and events flow within this time: whatever happens from then on is
    /// told there.
    pub(super) async fn seat(&self, patience: Duration) -> Result<Seat, &'static str> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| "every place is taken: come back later")?;
        let words = self.words.subscribe();
        self.came.notify_one();
        let mut position = self.position.subscribe();
        let flows = timeout(patience, position.wait_for(Option::is_some)).await;
        if !flows.is_ok_and(|it| it.is_ok()) {
            return Err("the tables' streams cannot be read now: come back later");
        }
        Ok(Seat { words, position, _place: place })
    }

    /// Waits until somebody listens.
    pub(super) async fn until_wanted(&self) {
        while self.words.receiver_count() == 0 {
            self.came.notified().await;
        }
    }

    /// From now on, events flow.
    pub(super) fn begin(&self, position: &Position) {
        self.moved(position);
    }

    /// All before this position was told.
    pub(super) fn moved(&self, position: &Position) {
        let place = |it: &mut Option<Position>| {
            let other = it.as_ref() != Some(position);
            if other {
                *it = Some(position.clone());
            }
            other
        };
        self.position.send_if_modified(place);
    }

    /// Ends the flow if nobody listens. Whoever saw it flow listened before, and is counted.
    pub(super) fn ends_unwanted(&self) -> bool {
        if self.words.receiver_count() > 0 {
            return false;
        }
        let position = self.position.send_replace(None);
        let unwanted = self.words.receiver_count() == 0;
        if !unwanted {
            self.position.send_replace(position);
        }
        unwanted
    }

    /// Tells everybody.
    pub(super) fn tell(&self, told: Told) {
        let _ = self.words.send(Word::Event(Arc::new(told)));
    }

    /// Tells everybody that something is wrong here.
    pub(super) fn tell_error(&self, error: &str) {
        let _ = self.words.send(Word::Error(error.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::position::Place, *};

    const AT_ONCE: Duration = Duration::ZERO;

    fn position() -> Position {
        let place = || Place { stream: String::new(), marks: BTreeMap::new() };
        Position { since: 0, places: [place(), place()] }
    }

    #[tokio::test]
    async fn there_are_so_many_places_and_a_place_is_given_back() {
        let hub = Hub::new(1);
        hub.begin(&position());
        let seat = hub.seat(AT_ONCE).await.unwrap();
        assert!(!hub.ends_unwanted() && hub.seat(AT_ONCE).await.is_err());
        drop(seat);
        assert!(hub.seat(AT_ONCE).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_is_seated_before_events_flow_and_none_flow_for_nobody() {
        let hub = Hub::new(1);
        assert!(hub.seat(AT_ONCE).await.is_err());
        hub.begin(&position());
        assert!(hub.ends_unwanted() && hub.seat(AT_ONCE).await.is_err());
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_was_missed_and_holds_no_more_than_the_limit() {
        let hub = Hub::new(1);
        hub.begin(&position());
        let mut seat = hub.seat(AT_ONCE).await.unwrap();
        (0..BEHIND + 10).for_each(|number| hub.tell_error(&number.to_string()));
        let lagged = broadcast::error::RecvError::Lagged(10);
        assert_eq!(seat.words.recv().await.unwrap_err(), lagged);
        assert!(matches!(seat.words.recv().await, Ok(Word::Error(it)) if &*it == "10"));
    }
}
