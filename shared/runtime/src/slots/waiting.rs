//! Who waits for a turn.

use super::Slots;

/// Somebody who waits for a turn of a queue.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    slots: &'a Slots,
    queue: usize,
}

impl<'a> Waiting<'a> {
    pub(super) fn of(slots: &'a Slots, queue: usize) -> Self {
        let mut state = slots.state();
        let now = state.now;
        let share = &mut state.queues[queue];
        share.due = share.due.max(now);
        share.waiting += 1;
        Self { slots, queue }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slots.state().queues[self.queue].waiting -= 1;
        // Others may have let this one go first.
        self.slots.freed.notify_waiters();
    }
}
