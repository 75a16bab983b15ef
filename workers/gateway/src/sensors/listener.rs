//! One who listens: what it is told, live and missed.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{
    hub::{Seat, Told, Word},
    position::{Position, order},
    replay::{Lost, Missed, Replay},
    subscription::Subscription,
    zones::Zones,
};

/// What one who listens is told.
#[derive(Debug)]
enum Mode {
    /// What the original told.
    Original,
    /// Nothing.
    Quiet,
    /// What was asked for.
    Subscribed(Box<Subscription>),
}

/// Something to tell.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    /// The position after it, where it is an event of `/v1`.
    pub(super) position: Option<String>,
}

/// One who listens.
#[derive(Debug)]
pub(super) struct Listener {
    seat: Seat,
    zones: Arc<Zones>,
    mode: Mode,
    /// What was told already though it comes once more, by stream and shard.
    told: HashMap<(usize, String), String>,
    last: Option<String>,
}

impl Listener {
    /// Told what the original told, until it asks for more.
    pub(super) fn new(seat: Seat, zones: &Arc<Zones>) -> Self {
        let zones = Arc::clone(zones);
        Self { seat, zones, mode: Mode::Original, told: HashMap::new(), last: None }
    }

    /// Tells nothing from now on.
    pub(super) fn unsubscribe(&mut self) {
        self.mode = Mode::Quiet;
    }

    /// Tells this from now on; gives the confirmation.
    pub(super) fn subscribe(
        &mut self,
        subscription: Subscription,
        from: Option<&Position>,
    ) -> Message {
        let from = from.map(Position::text).or_else(|| self.last.clone());
        let position = from.or_else(|| self.seat.position());
        let text = json!({ "subscribed": subscription.wanted, "position": position });
        self.mode = Mode::Subscribed(Box::new(subscription));
        Message { text: text.to_string(), position }
    }

    /// What comes next of what was missed; `None` at its end. What is told live meanwhile waits,
    /// and is not told twice.
    ///
    /// # Errors
    /// Where not all of it can be told.
    pub(super) async fn missed(
        &mut self,
        replay: &mut Replay<'_>,
    ) -> Result<Option<Vec<Message>>, Lost> {
        let Some(missed) = replay.next().await? else {
            self.told = replay.ends();
            self.last = Some(replay.position().text());
            return Ok(None);
        };
        let Mode::Subscribed(subscription) = &self.mode else { return Ok(None) };
        let ours = missed.into_iter().filter(|it| subscription.admits(&it.event, &self.zones));
        let message =
            |it: Missed| Message { text: it.event.text(&it.position), position: Some(it.position) };
        Ok(Some(ours.map(message).collect()))
    }

    /// What to tell next; `None` when there will be nothing more.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let word = match self.seat.words.recv().await {
                Ok(word) => word,
                Err(RecvError::Lagged(count)) => return Some(self.behind(count)),
                Err(RecvError::Closed) => return None,
            };
            match word {
                Word::Error(why) => return Some(error(&why)),
                Word::Event(told) => {
                    if let Some(message) = self.message(&told) {
                        return Some(message);
                    }
                }
            }
        }
    }

    fn message(&mut self, told: &Arc<Told>) -> Option<Message> {
        match &self.mode {
            Mode::Quiet => None,
            Mode::Original => {
                let text = told.event.original.as_ref()?.to_string();
                Some(Message { text, position: None })
            }
            Mode::Subscribed(subscription) => {
                let place = (told.stream, told.shard.clone());
                let again = self.told.get(&place).is_some_and(|it| order(&told.number, it).is_le());
                if again {
                    return None;
                }
                self.last = Some(told.position.clone());
                subscription.admits(&told.event, &self.zones).then(|| {
                    let position = told.position.clone();
                    Message { text: told.event.text(&position), position: Some(position) }
                })
            }
        }
    }

    fn behind(&self, count: u64) -> Message {
        let why = format!("{count} events were missed: too slow");
        let text = match (&self.mode, &self.last) {
            (Mode::Subscribed(_), Some(last)) => json!({ "error": why, "position": last }),
            _ => json!({ "error": why }),
        };
        Message { text: text.to_string(), position: None }
    }
}

/// That something is wrong.
pub(super) fn error(what: &str) -> Message {
    Message { text: json!({ "error": what }).to_string(), position: None }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::{
        super::{event::tests::heard, hub::Hub, position::Place, subscription::Wanted},
        *,
    };

    #[tokio::test]
    async fn what_was_told_of_the_past_is_not_told_again_when_it_comes_live() {
        let place = || Place { stream: String::new(), marks: BTreeMap::new() };
        let hub = Hub::new(1);
        hub.begin(&Position { since: 0, places: [place(), place()] });
        let seat = hub.seat(Duration::ZERO).await.unwrap();
        let mut listener = Listener::new(seat, &Arc::default());
        listener.subscribe(Subscription::new(Wanted::default()).unwrap(), None);
        listener.told = HashMap::from([((1, "a".to_owned()), "99".to_owned())]);
        let tell = |stream: usize, shard: &str, number: &str| {
            let position = format!("{stream} {shard} {number}");
            let (shard, number) = (shard.to_owned(), number.to_owned());
            hub.tell(Told { event: heard("01"), position, stream, shard, number });
        };
        // As numbers: 100 comes after 99. Of other shards and streams nothing was told.
        for (stream, shard, number) in
            [(1, "a", "98"), (1, "a", "99"), (1, "a", "100"), (1, "b", "5"), (0, "a", "5")]
        {
            tell(stream, shard, number);
        }
        for wanted in ["1 a 100", "1 b 5", "0 a 5"] {
            let told = listener.next().await.unwrap();
            assert_eq!(told.position.as_deref(), Some(wanted));
        }
    }
}
