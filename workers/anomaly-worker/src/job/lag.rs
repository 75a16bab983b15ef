//! How long what waits on the queue has waited.
//!
//! A clock that tells silence must not run ahead of readings that are still on their way. Messages
//! tell how long they had waited; the longest is believed for minutes, since a queue gives what is on
//! it in no order. And where messages wait, but none come, nobody knows how long they have.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use flotilla_runtime::{Failure, failure::chain};
use futures::future::try_join_all;

/// After so long half of the longest wait is believed.
const HALF: Duration = Duration::from_secs(60);
/// Messages that wait come within so long, unless something is wrong.
const COME: Duration = Duration::from_secs(10);

/// How long messages had waited.
#[derive(Debug)]
pub(super) struct Lag {
    sqs: Client,
    queues: Vec<String>,
    longest: Mutex<Longest>,
}

/// The longest wait, in milliseconds, as it was at a time; and when a message came last.
#[derive(Debug, Clone, Copy)]
struct Longest {
    wait: f64,
    at: Instant,
    came: Instant,
}

impl Longest {
    fn new(now: Instant) -> Self {
        Self { wait: 0.0, at: now, came: now }
    }

    fn wait(&self, now: Instant) -> f64 {
        let halves = now.duration_since(self.at).as_secs_f64() / HALF.as_secs_f64();
        self.wait * 0.5_f64.powf(halves)
    }

    fn note(&mut self, wait: i64, now: Instant) {
        let wait = wait.max(0) as f64;
        self.came = now;
        if wait >= self.wait(now) {
            (self.wait, self.at) = (wait, now);
        }
    }
}

impl Lag {
    /// Nothing is known yet of these queues, by their URLs.
    pub(super) fn new(sqs: Client, queues: Vec<String>) -> Self {
        Self { sqs, queues, longest: Mutex::new(Longest::new(Instant::now())) }
    }

    /// Notes that a message came that had waited so long, in milliseconds.
    pub(super) fn note(&self, wait: i64) {
        self.longest.lock().unwrap_or_else(PoisonError::into_inner).note(wait, Instant::now());
    }

    /// How long what is on the queue may have waited, in milliseconds.
    ///
    /// # Errors
    /// Transient where that cannot be known: SQS does not answer, or what waits does not come.
    pub(super) async fn now(&self) -> Result<i64, Failure> {
        let waiting = try_join_all(self.queues.iter().map(|url| self.waiting(url))).await?;
        let (longest, now) =
            (*self.longest.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let waiting: u64 = waiting.into_iter().sum();
        if waiting > 0 && now.duration_since(longest.came) > COME {
            let what = format!("{waiting} readings wait on the queue, and none come");
            return Err(Failure::transient("lag", what));
        }
        Ok(longest.wait(now) as i64)
    }

    async fn waiting(&self, url: &str) -> Result<u64, Failure> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let call = self.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone());
        let failed = |why| Failure::transient("sqs", format!("GetQueueAttributes of {url}: {why}"));
        let answer = call.send().await.map_err(|e| failed(chain(&e)))?;
        let count = answer.attributes().and_then(|it| it.get(&name));
        Ok(count.and_then(|it| it.parse().ok()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_is_believed_for_minutes_though_shorter_ones_follow() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut longest = Longest::new(began);
        longest.note(3_600_000, began);
        longest.note(5, after(30));
        assert!(longest.wait(after(30)) > 2_000_000.0);
        assert!(longest.wait(after(60)) > 1_700_000.0 && longest.wait(after(3600)) < 1.0);
        longest.note(4_000_000, after(61));
        assert!(longest.wait(after(61)) >= 4_000_000.0);
    }
}
