//! What a message is worked on with.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    consumer::Consumer,
    job::Job,
    queue::Received,
    slots::Slot,
    tenants::{BACK, Seat},
};

/// What a message in hand is worked on with: a slot, and its tenant's right to it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    _seat: Option<Seat>,
}

impl<J: Job> Consumer<J> {
    /// A slot for a message; where there is none for it, after how long it should come again.
    pub(crate) fn place_for(
        &self,
        message: &Received,
        slots: &mut Vec<Slot>,
    ) -> Result<Place, Duration> {
        let seat = match self.tenant(message) {
            Some(tenant) => {
                let back =
                    || BACK.delay(message.delivery.receive_count).max(Duration::from_secs(1));
                Some(self.worker.tenants.seat(&tenant).ok_or_else(back)?)
            }
            None => None,
        };
        let slot = slots.pop().ok_or(Duration::ZERO)?;
        Ok(Place { slot, _seat: seat })
    }

    /// The tenant whose slots are counted. On a FIFO queue a group has one at a time as it is.
    fn tenant(&self, message: &Received) -> Option<String> {
        if !self.worker.tenants.are_bounded() || self.queue.is_fifo() {
            return None;
        }
        let named = message.delivery.group.clone();
        // A job's own parser may panic; that is told where the message is worked on.
        let parsed = || J::tenant(&serde_json::from_str(&message.body).ok()?);
        named.or_else(|| catch_unwind(AssertUnwindSafe(parsed)).ok().flatten())
    }
}
