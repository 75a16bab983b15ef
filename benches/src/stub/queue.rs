//! A queue in memory: what SQS promises of a standard queue, without the waiting.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use md5::{Digest, Md5};
use tokio::time::Instant;

/// Where messages come from that nobody has sent: bodies made of a template, in which `{n}` stands
/// for the message's number, `{n%1000}` for what is left of it by thousands, and `{n/1000}` for the
/// thousands, in eight digits.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The body of every message.
    pub template: String,
    /// How many there are; `u64::MAX` is a queue that never ends.
    pub left: u64,
    /// Every `n`th message is delivered twice; 0 is never.
    pub twice_every: u64,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Unique in the queue; the message's id is made of it.
    pub number: u64,
    /// The body, as sent.
    pub body: String,
    /// When it was sent, in milliseconds since the epoch.
    pub sent_at: u64,
    /// How often it has been handed out.
    pub receives: u32,
    copied: bool,
}

impl Message {
    /// The handle of the latest delivery.
    pub fn handle(&self) -> String {
        format!("{}.{}", self.number, self.receives)
    }

    /// The body's MD5 in hex, which the SDKs compare.
    pub fn md5(&self) -> String {
        md5_hex(&self.body)
    }
}

/// The MD5 of a text, in hex.
pub fn md5_hex(text: &str) -> String {
    use std::fmt::Write;
    Md5::digest(text).iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A standard queue.
#[derive(Debug, Default)]
pub struct Queue {
    source: Source,
    ready: VecDeque<Message>,
    flying: HashMap<u64, (Message, Instant)>,
    ends: BTreeSet<(Instant, u64)>,
    next: u64,
    /// Messages handed out, redeliveries included.
    pub received: u64,
    /// Messages deleted.
    pub deleted: u64,
}

impl Queue {
    /// A queue that fills itself.
    pub fn with_source(source: Source) -> Self {
        Self { source, ..Self::default() }
    }

    /// Puts a message at the end; gives its number.
    pub fn send(&mut self, body: String) -> u64 {
        let number = self.next;
        self.next += 1;
        self.ready.push_back(Message {
            number,
            body,
            sent_at: now_ms(),
            receives: 0,
            copied: false,
        });
        number
    }

    /// Takes up to `max` messages, each invisible for `visibility`.
    pub fn receive(&mut self, now: Instant, max: usize, visibility: Duration) -> Vec<Message> {
        self.land(now);
        let messages: Vec<_> = (0..max).map_while(|_| self.take(now + visibility)).collect();
        self.received += messages.len() as u64;
        messages
    }

    fn take(&mut self, until: Instant) -> Option<Message> {
        let mut message = self.ready.pop_front().or_else(|| self.mint())?;
        // Of a message that is in flight already, the newest delivery counts.
        if let Some((old, end)) = self.flying.remove(&message.number) {
            self.ends.remove(&(end, message.number));
            message.receives = old.receives;
        }
        message.receives += 1;
        let twice = self.source.twice_every;
        if twice > 0 && message.number % twice == twice - 1 && !message.copied {
            message.copied = true;
            self.ready.push_back(message.clone());
        }
        self.fly(message.clone(), until);
        Some(message)
    }

    fn mint(&mut self) -> Option<Message> {
        self.source.left = self.source.left.checked_sub(1)?;
        let mut body = self.source.template.replace("{n}", &self.next.to_string());
        if body.contains("{n") {
            body = body.replace("{n%1000}", &(self.next % 1000).to_string());
            body = body.replace("{n/1000}", &format!("{:08}", self.next / 1000));
        }
        self.send(body);
        self.ready.pop_back()
    }

    fn fly(&mut self, message: Message, until: Instant) {
        self.ends.insert((until, message.number));
        self.flying.insert(message.number, (message, until));
    }

    /// Deletes by handle. An outdated one deletes nothing and is no error, as with SQS.
    pub fn delete(&mut self, handle: &str) {
        if let Some((message, _)) = self.lift(handle) {
            // A copy that still waits is delivered: SQS, too, hands out what was deleted, at times.
            self.deleted += 1;
            drop(message);
        }
    }

    /// Sets how long a message stays invisible from now on. False where the handle is outdated.
    pub fn change(&mut self, now: Instant, handle: &str, visibility: Duration) -> bool {
        match self.lift(handle) {
            Some((message, _)) if visibility.is_zero() => self.ready.push_back(message),
            Some((message, _)) => self.fly(message, now + visibility),
            None => return false,
        }
        true
    }

    /// Takes the message of a valid handle out of the air.
    fn lift(&mut self, handle: &str) -> Option<(Message, Instant)> {
        let (number, receives) = handle.split_once('.')?;
        let (number, receives) = (number.parse().ok()?, receives.parse::<u32>().ok()?);
        let valid = self.flying.get(&number).is_some_and(|(m, _)| m.receives == receives);
        let flight = valid.then(|| self.flying.remove(&number)).flatten()?;
        self.ends.remove(&(flight.1, number));
        Some(flight)
    }

    /// Makes visible again what nobody has deleted in time.
    fn land(&mut self, now: Instant) {
        while let Some((end, number)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, number));
            self.ready.extend(self.flying.remove(&number).map(|(message, _)| message));
        }
    }

    /// When the next message becomes visible by itself.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// How many messages can be received, those that nobody has sent yet included.
    pub fn visible(&mut self, now: Instant) -> u64 {
        self.land(now);
        self.source.left.saturating_add(self.ready.len() as u64)
    }

    /// How many are in somebody's hands.
    pub fn in_flight(&mut self, now: Instant) -> u64 {
        self.land(now);
        self.flying.len() as u64
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(30);

    fn numbered(left: u64, twice_every: u64) -> Queue {
        Queue::with_source(Source { template: "m{n}".to_owned(), left, twice_every })
    }

    proptest! {
        /// sent = visible + in flight + deleted, whatever is done.
        #[test]
        fn no_message_is_lost_or_made(steps in prop::collection::vec((0u8..4, 0u64..40), 0..200)) {
            let (mut queue, start) = (numbered(50, 0), Instant::now());
            let mut handles: Vec<String> = Vec::new();
            for (step, (what, pick)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(step as u64);
                let handle = handles.get(pick as usize).cloned().unwrap_or_default();
                match what {
                    0 => queue.delete(&handle),
                    1 => drop(queue.change(now, &handle, Duration::from_secs(pick % 3))),
                    _ => handles.extend(queue.receive(now, 10, VISIBILITY).iter().map(Message::handle)),
                }
                prop_assert_eq!(queue.visible(now) + queue.in_flight(now) + queue.deleted, 50);
            }
        }
    }

    #[test]
    fn a_message_comes_back_when_its_visibility_ends_with_another_handle() {
        let (mut queue, now) = (numbered(1, 0), Instant::now());
        let first = queue.receive(now, 10, VISIBILITY).remove(0);
        assert!(queue.receive(now + VISIBILITY / 2, 10, VISIBILITY).is_empty());
        let again = queue.receive(now + VISIBILITY, 10, VISIBILITY).remove(0);
        assert_eq!((again.number, again.receives), (first.number, 2));
        queue.delete(&first.handle());
        assert_eq!(queue.deleted, 0, "the old handle deletes nothing");
        assert!(!queue.change(now, &first.handle(), VISIBILITY));
        queue.delete(&again.handle());
        assert_eq!(queue.deleted, 1);
    }

    #[test]
    fn every_nth_message_is_delivered_twice_even_when_it_was_deleted() {
        let (mut queue, now) = (numbered(10, 5), Instant::now());
        let mut seen = Vec::new();
        while let Some(message) = queue.receive(now, 1, VISIBILITY).pop() {
            seen.push(message.number);
            queue.delete(&message.handle());
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9]);
    }

    #[test]
    fn the_digest_of_a_body_is_the_one_that_sdks_compute() {
        // RFC 1321, A.5.
        assert_eq!(md5_hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }
}
