//! The groups of a FIFO queue: the messages of one are worked on one after the other.
//!
//! A receive can bring several messages of a group. The first has a slot; the others wait in the
//! group's lane and hold none: SQS gives nothing of a group to anybody while a message of it is in
//! hand, so nobody else could have them, and slots that wait would only keep other groups out. The
//! keeper extends them meanwhile. So in a lane there is at most what one receive has brought.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What waits in the lanes of the groups that are worked on now.
#[derive(Debug)]
pub(crate) struct Lanes<T>(Mutex<HashMap<String, VecDeque<T>>>);

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Lanes<T> {
    /// Puts a message at the end of its group's lane. Gives it back where the group has none: then
    /// the lane is open, and the caller works on this message and on those that come after it.
    pub(crate) fn join(&self, group: &str, message: T) -> Option<T> {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get_mut(group) {
            lane.push_back(message);
            return None;
        }
        lanes.insert(group.to_owned(), VecDeque::new());
        Some(message)
    }

    /// The next message of a group. Without one its lane is closed.
    pub(crate) fn next(&self, group: &str) -> Option<T> {
        let mut lanes = self.lanes();
        let next = lanes.get_mut(group).and_then(VecDeque::pop_front);
        if next.is_none() {
            lanes.remove(group);
        }
        next
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, VecDeque<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_group_opens_its_lane_and_the_last_closes_it() {
        let lanes = Lanes::default();
        assert_eq!(lanes.join("a", 1), Some(1));
        assert_eq!(
            (lanes.join("a", 2), lanes.join("b", 3), lanes.join("a", 4)),
            (None, Some(3), None)
        );
        assert_eq!((lanes.next("a"), lanes.next("a"), lanes.next("a")), (Some(2), Some(4), None));
        assert_eq!(lanes.join("a", 5), Some(5));
    }
}
