//! Where events come together and go out to all who listen.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::timeout,
};

/// Who is further behind than this misses events, and is told so.
const BEHIND: usize = 1024;

/// The listeners.
#[derive(Debug)]
pub(super) struct Hub {
    events: broadcast::Sender<Utf8Bytes>,
    flowing: watch::Sender<bool>,
    came: Notify,
    places: Arc<Semaphore>,
}

/// A listener's place and its events.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) events: broadcast::Receiver<Utf8Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Hub {
    pub(super) fn new(places: usize) -> Self {
        Self {
            events: broadcast::Sender::new(BEHIND),
            flowing: watch::Sender::new(false),
            came: Notify::new(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// A place, if one is free and events flow within this time: whatever happens from then on is
    /// told there.
    pub(super) async fn seat(&self, patience: Duration) -> Result<Seat, &'static str> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| "every place is taken: come back later")?;
        let events = self.events.subscribe();
        self.came.notify_one();
        let mut flowing = self.flowing.subscribe();
        let flows = timeout(patience, flowing.wait_for(|flowing| *flowing)).await;
        match flows {
            Ok(Ok(_)) => Ok(Seat { events, _place: place }),
            _ => Err("the tables' streams cannot be read now: come back later"),
        }
    }

    /// Waits until somebody listens.
    pub(super) async fn until_wanted(&self) {
        while self.events.receiver_count() == 0 {
            self.came.notified().await;
        }
    }

    /// From now on, events flow.
    pub(super) fn begin(&self) {
        self.flowing.send_replace(true);
    }

    /// Ends the flow if nobody listens. Whoever saw it flow listened before, and is counted.
    pub(super) fn ends_unwanted(&self) -> bool {
        if self.events.receiver_count() > 0 {
            return false;
        }
        self.flowing.send_replace(false);
        let unwanted = self.events.receiver_count() == 0;
        self.flowing.send_replace(!unwanted);
        unwanted
    }

    /// Tells everybody.
    pub(super) fn tell(&self, event: &Value) {
        let _ = self.events.send(event.to_string().into());
    }

    /// Tells everybody that something is wrong here.
    pub(super) fn tell_error(&self, error: &str) {
        self.tell(&json!({ "error": error }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    #[tokio::test]
    async fn there_are_so_many_places_and_a_place_is_given_back() {
        let hub = Hub::new(1);
        hub.begin();
        let seat = hub.seat(AT_ONCE).await.unwrap();
        assert!(!hub.ends_unwanted() && hub.seat(AT_ONCE).await.is_err());
        drop(seat);
        assert!(hub.seat(AT_ONCE).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_is_seated_before_events_flow_and_none_flow_for_nobody() {
        let hub = Hub::new(1);
        assert!(hub.seat(AT_ONCE).await.is_err());
        hub.begin();
        assert!(hub.ends_unwanted() && hub.seat(AT_ONCE).await.is_err());
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_was_missed_and_holds_no_more_than_the_limit() {
        let hub = Hub::new(1);
        hub.begin();
        let mut seat = hub.seat(AT_ONCE).await.unwrap();
        (0..BEHIND + 10).for_each(|number| hub.tell(&json!(number)));
        let lagged = broadcast::error::RecvError::Lagged(10);
        assert_eq!(seat.events.recv().await, Err(lagged));
        assert_eq!(seat.events.recv().await.unwrap().as_str(), "10");
    }
}
