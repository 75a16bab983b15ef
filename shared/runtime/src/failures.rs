//! How often messages have failed here of which no claim counts the attempts.
//!
//! SQS counts receives, and every hand-back is one; how long a message is put off must grow with what
//! went wrong alone. It is known of this process only: where another takes over, it begins anew.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What has not failed for so long is forgotten: longer than the longest delay between two attempts.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Of so many messages at the most is anything known.
const MOST: usize = 10_000;

/// The failures of this process, by message.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<String, (u32, Instant)>>);

impl Failures {
    /// Counts one more failure of a message; gives how many those are.
    pub(crate) fn count(&self, message_id: &str) -> u32 {
        let (mut all, now) =
            (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if all.len() >= MOST {
            all.retain(|_, (_, last)| now.duration_since(*last) < REMEMBERED);
        }
        if all.len() >= MOST {
            all.clear();
        }
        let (count, last) = all.entry(message_id.to_owned()).or_insert((0, now));
        (*count, *last) = (count.saturating_add(1), now);
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_message_and_of_a_bounded_number_of_them() {
        let failures = Failures::default();
        assert_eq!([failures.count("a"), failures.count("b"), failures.count("a")], [1, 1, 2]);
        for n in 0..3 * MOST {
            failures.count(&n.to_string());
        }
        assert!(failures.0.lock().unwrap().len() <= MOST);
    }
}
