//! The log of a build while it runs: server-sent events from the pieces in the bucket.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use compile_worker::{
    builds::{Row, State},
    publish::{log_name, piece_key},
};
use futures::{Stream, stream};
use serde_json::json;

use super::{
    Packages,
    answer::Refusal,
    builds::{describe, log_key},
};

/// How often a running build is looked at.
const LOOK: Duration = Duration::from_millis(400);
/// A log has at most this many bytes.
const LOG_LIMIT: u64 = 1 << 30;
/// So many bytes of a log are one event, about.
const CHUNK: usize = 64 << 10;

/// Who builds: the try of the request, and the worker's generation.
type Builder = (u64, u64);

/// A listener's place in a log.
struct Follow {
    packages: Arc<Packages>,
    headers: HeaderMap,
    row: Row,
    builder: Option<Builder>,
    /// Pieces taken of this builder's log.
    pieces: u64,
    /// Bytes of it that were sent, or that the listener has from before.
    sent: usize,
    /// Bytes of it that were taken from the bucket.
    taken: usize,
    events: VecDeque<Event>,
    over: bool,
}

/// Events `log` with text, `restart` when another worker begins anew, and at last `end` with the
/// build as JSON. A listener that comes back (`Last-Event-ID`) goes on where it was.
pub(super) fn follow(
    packages: Arc<Packages>,
    row: Row,
    headers: &HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let seen = headers.get("last-event-id").and_then(|it| place(it.to_str().ok()?));
    let follow = Follow {
        packages,
        headers: headers.clone(),
        row,
        builder: seen.map(|(builder, _)| builder),
        pieces: 0,
        sent: seen.map_or(0, |(_, sent)| sent),
        taken: 0,
        events: VecDeque::new(),
        over: false,
    };
    Sse::new(stream::unfold(follow, Follow::next)).keep_alive(KeepAlive::new())
}

/// What a running build has said so far.
pub(super) async fn so_far(packages: &Packages, row: &Row) -> Result<Vec<u8>, Refusal> {
    let mut said = Vec::new();
    if let Some(live) = row.live {
        for piece in 0..live.pieces {
            let key = piece_key(&row.request, row.epoch, live.generation, piece);
            said.extend(packages.object(&key, LOG_LIMIT).await?);
        }
    }
    Ok(said)
}

/// `EPOCH-GENERATION-BYTES`.
fn place(text: &str) -> Option<(Builder, usize)> {
    let mut parts = text.split('-');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (epoch, generation, sent) = (next()?, next()?, next()?);
    Some(((epoch, generation), usize::try_from(sent).ok()?))
}

impl Follow {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            if let Err(refusal) = self.look().await {
                self.events.push_back(Event::default().event("error").data(refusal.why()));
                self.over = true;
            }
        }
    }

    /// Takes what is new, or waits a little.
    async fn look(&mut self) -> Result<(), Refusal> {
        let row = self.row.clone();
        match (&row.state, row.live) {
            (State::Ordered, Some(live)) => {
                self.built_by((row.epoch, live.generation));
                if self.pieces < live.pieces {
                    let key = piece_key(&row.request, row.epoch, live.generation, self.pieces);
                    let piece = self.packages.object(&key, LOG_LIMIT).await?;
                    self.pieces += 1;
                    self.say(&piece);
                    return Ok(());
                }
            }
            (State::Ordered, None) => {}
            _ => return self.end().await,
        }
        tokio::time::sleep(LOOK).await;
        if let Some(row) = self.packages.row(&row.package, &row.request).await? {
            self.row = row;
        }
        Ok(())
    }

    fn built_by(&mut self, builder: Builder) {
        if self.builder != Some(builder) {
            if self.builder.is_some() {
                self.events.push_back(Event::default().event("restart").data("built anew"));
            }
            (self.builder, self.pieces, self.sent, self.taken) = (Some(builder), 0, 0, 0);
        }
    }

    /// The rest of the log, which is stored whole by now, and how it ended.
    async fn end(&mut self) -> Result<(), Refusal> {
        let row = self.row.clone();
        if let Some(key) = log_key(&row) {
            let name = |(epoch, generation)| log_name(&row.request, epoch, generation);
            if !self.builder.is_some_and(|builder| key.ends_with(&name(builder))) {
                self.built_by(builder_of(key).unwrap_or((row.epoch, 0)));
            }
            let whole = self.packages.object(key, LOG_LIMIT).await?;
            self.taken = 0;
            self.say(&whole);
        }
        let told = describe(&self.packages, &self.headers, &row).await.unwrap_or(json!({}));
        self.events.push_back(Event::default().event("end").data(told.to_string()));
        self.over = true;
        Ok(())
    }

    /// Sends what of these next bytes of the log was not sent yet.
    fn say(&mut self, bytes: &[u8]) {
        let known = self.sent.saturating_sub(self.taken).min(bytes.len());
        self.taken += bytes.len();
        for chunk in bytes[known..].chunks(CHUNK) {
            self.sent += chunk.len();
            let (epoch, generation) = self.builder.unwrap_or_default();
            let text = String::from_utf8_lossy(chunk).replace('\r', "\n");
            let event =
                Event::default().event("log").id(format!("{epoch}-{generation}-{}", self.sent));
            self.events.push_back(event.data(text));
        }
    }
}

/// From the end of a log's key, `…/EPOCH-GENERATION.txt`.
fn builder_of(key: &str) -> Option<Builder> {
    let name = key.rsplit('/').next()?.strip_suffix(".txt")?;
    let (epoch, generation) = name.split_once('-')?;
    Some((epoch.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listeners_place_is_read_as_it_was_told() {
        assert_eq!(place("2-3-4096"), Some(((2, 3), 4096)));
        assert_eq!(builder_of("logs/pypi/a/key/2-3.txt"), Some((2, 3)));
        for bad in ["", "1-2", "1-2-x", "a-b-c"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
