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
    /// How much of it was told.
    told: Told,
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
        told: Told { sent: seen.map_or(0, |(_, sent)| sent), ..Told::default() },
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
                    self.say(&piece, false);
                    return Ok(());
                }
            }
            (State::Ordered, None) => {}
            _ => return self.end().await,
        }
        tokio::time::sleep(LOOK).await;
        if let Some(row) = self.packages.row(&row.package, &row.request).await? {
            self.row = Row::clone(&row);
        }
        Ok(())
    }

    fn built_by(&mut self, builder: Builder) {
        if self.builder != Some(builder) {
            if self.builder.is_some() {
                self.events.push_back(Event::default().event("restart").data("built anew"));
            }
            (self.builder, self.pieces, self.told) = (Some(builder), 0, Told::default());
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
            self.told.anew();
            self.say(&whole, true);
        }
        let told = describe(&self.packages, &self.headers, &row).await.unwrap_or(json!({}));
        self.events.push_back(Event::default().event("end").data(told.to_string()));
        self.over = true;
        Ok(())
    }

    /// Sends what of these next bytes of the log was not sent yet.
    fn say(&mut self, bytes: &[u8], last: bool) {
        let (epoch, generation) = self.builder.unwrap_or_default();
        for (sent, text) in self.told.next(bytes, last) {
            let event = Event::default().event("log").id(format!("{epoch}-{generation}-{sent}"));
            self.events.push_back(event.data(text));
        }
    }
}

/// How much of a log a listener was told.
#[derive(Debug, Default)]
struct Told {
    /// Bytes that were sent, or that the listener has from before.
    sent: usize,
    /// Bytes that were taken from the bucket.
    taken: usize,
    /// Of these, the ones that make no character yet.
    rest: Vec<u8>,
}

impl Told {
    /// The log is taken from its beginning again.
    fn anew(&mut self) {
        *self = Self { sent: self.sent, ..Self::default() };
    }

    /// The texts of what was not sent yet, each with how much is sent with it. A character, or the end
    /// of a line, of which there is one part so far is kept until the other comes.
    fn next(&mut self, bytes: &[u8], last: bool) -> Vec<(usize, String)> {
        let known = (self.sent + self.rest.len()).saturating_sub(self.taken).min(bytes.len());
        self.taken += bytes.len();
        self.rest.extend_from_slice(&bytes[known..]);
        let (rest, mut texts) = (std::mem::take(&mut self.rest), Vec::new());
        let mut left = rest.as_slice();
        loop {
            let chunk = &left[..left.len().min(CHUNK)];
            let end = if last && chunk.len() == left.len() { chunk.len() } else { whole(chunk) };
            if end == 0 {
                break;
            }
            self.sent += end;
            texts.push((self.sent, text(&left[..end])));
            left = &left[end..];
        }
        self.rest = left.to_vec();
        texts
    }
}

/// How much of these bytes is whole characters and ends of lines.
fn whole(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    // A character has four bytes at most, of which all but the first begin alike.
    let begins = |at: &usize| bytes[*at] & 0xC0 != 0x80;
    if let Some(at) = (end.saturating_sub(4)..end).rev().find(begins) {
        let long = match bytes[at] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        end = if at + long > end { at } else { end };
    }
    end - usize::from(bytes[..end].ends_with(b"\r"))
}

/// Bytes of a log as lines: an event's text has no `\r`.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n")
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

    /// What is told of pieces, and then of the whole.
    fn told(pieces: &[&[u8]], told: &mut Told) -> String {
        let mut said = String::new();
        for piece in pieces {
            said.extend(told.next(piece, false).into_iter().map(|(_, text)| text));
        }
        told.anew();
        said.extend(told.next(&pieces.concat(), true).into_iter().map(|(_, text)| text));
        said
    }

    #[test]
    fn a_character_between_two_pieces_is_told_whole_and_once() {
        let log = "é\r\n漢 🎉\rend\r\n".as_bytes();
        for cut in 0..=log.len() {
            let (one, two) = log.split_at(cut);
            let said = told(&[one, two], &mut Told::default());
            assert_eq!(said, "é\n漢 🎉\nend\n", "{cut}");
            // Who comes back has what it was told before.
            let mut first = Told::default();
            let before: String = first.next(one, false).into_iter().map(|(_, it)| it).collect();
            let mut again = Told { sent: first.sent, ..Told::default() };
            assert_eq!(before + &told(&[one, two], &mut again), "é\n漢 🎉\nend\n", "{cut}");
        }
        let long = "漢".repeat(CHUNK);
        assert_eq!(told(&[long.as_bytes()], &mut Told::default()), long);
        assert_eq!(told(&[b"a\xff", b"\xe6\xbc"], &mut Told::default()), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_listeners_place_is_read_as_it_was_told() {
        assert_eq!(place("2-3-4096"), Some(((2, 3), 4096)));
        assert_eq!(builder_of("logs/pypi/a/key/2-3.txt"), Some((2, 3)));
        for bad in ["", "1-2", "1-2-x", "a-b-c"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
