//! The most slots that one tenant may have at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::retry::RetryPolicy;

/// How long a message is out of sight that came when its tenant had all it may have. It grows with
/// the receives, so that a backlog is not handed out and back all the time; SQS moves what was
/// received a thousand times to the dead-letter queue, which takes days of this.
pub(crate) const BACK: RetryPolicy =
    RetryPolicy::new(Duration::from_secs(4), Duration::from_secs(300));
/// The pause after receives that brought nothing but such messages; a slot that a tenant gives back
/// ends it.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(4));

/// Who has how many slots.
#[derive(Debug)]
pub(crate) struct Tenants {
    /// `None` for no bound.
    most: Option<usize>,
    held: Mutex<HashMap<String, usize>>,
    left: Notify,
}

/// A tenant's right to one slot, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    tenants: Arc<Tenants>,
    tenant: String,
}

impl Tenants {
    pub(crate) fn new(most: Option<usize>) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default(), left: Notify::new() })
    }

    /// Whether there is a bound at all.
    pub(crate) fn are_bounded(&self) -> bool {
        self.most.is_some()
    }

    /// Gives a tenant the right to one more slot, unless it has all it may have.
    pub(crate) fn seat(self: &Arc<Self>, tenant: &str) -> Option<Seat> {
        let mut held = self.held();
        let count = held.get(tenant).copied().unwrap_or_default();
        if self.most.is_some_and(|most| count >= most) {
            return None;
        }
        held.insert(tenant.to_owned(), count + 1);
        Some(Seat { tenants: self.clone(), tenant: tenant.to_owned() })
    }

    /// Waits after the `count`th receive in a row whose messages all went back: until a tenant
    /// gives a slot back, but not for long, and not beyond the stop.
    pub(crate) async fn pause(&self, count: u32, stop: &CancellationToken) {
        let left = self.left.notified();
        tokio::select! {
            () = stop.cancelled() => {}
            () = left => {}
            () = tokio::time::sleep(PAUSE.ceiling(count)) => {}
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.tenants.held();
        match held.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.tenant)),
        }
        self.tenants.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_tenant_has_more_than_its_share_and_none_is_kept_for_nobody(
            most in 1usize..5, steps in prop::collection::vec((0u8..4, any::<bool>()), 0..80),
        ) {
            let tenants = Tenants::new(Some(most));
            let mut seats: Vec<(u8, Seat)> = Vec::new();
            for (tenant, leave) in steps {
                if leave && !seats.is_empty() {
                    seats.swap_remove(usize::from(tenant) % seats.len());
                    continue;
                }
                let has = seats.iter().filter(|seat| seat.0 == tenant).count();
                let seat = tenants.seat(&tenant.to_string());
                prop_assert_eq!(seat.is_some(), has < most);
                seats.extend(seat.map(|seat| (tenant, seat)));
            }
            seats.clear();
            prop_assert!(tenants.held().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_given_back_ends_the_pause() {
        let (tenants, stop) = (Tenants::new(Some(1)), CancellationToken::new());
        let seat = tenants.seat("a").unwrap();
        let start = tokio::time::Instant::now();
        let leave = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(seat);
        };
        tokio::join!(tenants.pause(9, &stop), leave);
        assert_eq!(start.elapsed(), Duration::from_millis(50));
        tenants.pause(9, &stop).await;
        assert!(start.elapsed() <= Duration::from_secs(5));
    }
}
