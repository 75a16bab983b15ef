//! Instances that are ordered to drain by a row.

use std::cmp::Reverse;

use rand::RngExt;

use super::{Engine, Event};

impl Engine<'_> {
    /// An instance takes no more and holds nothing: who ordered it by a row sees that at the next look.
    pub(super) fn drained(&mut self, key: u32) {
        if self.ordered.remove(&key) {
            self.group.retire(key);
            self.over.push(key);
        } else {
            self.group.end(key, self.now);
        }
    }

    /// Orders an idle instance to drain; it may yet begin a job.
    pub(super) fn order(&mut self, key: u32) {
        self.group.drain(key);
        self.ordered.insert(key);
        let heard = self.now + self.random.random_range(0..=self.world.order_ms);
        self.events.push(Reverse((heard, Event::Heard { key })));
    }

    pub(super) fn hear(&mut self, key: u32) {
        match (self.group.there(key), self.group.job_of(key)) {
            (true, None) if self.ordered.contains(&key) => self.drained(key),
            (true, Some(job)) => {
                self.out.met += 1;
                let cut = self.world.grace_ms.map(|grace| self.now + grace);
                let cut = cut.map(|at| Reverse((at, Event::Cut { key, job })));
                self.events.extend(cut);
            }
            _ => {}
        }
    }

    pub(super) fn cut(&mut self, key: u32, job: u32) {
        if self.group.there(key) && self.group.job_of(key) == Some(job) {
            self.out.killed += u64::from(self.end(key));
        }
    }

    /// Ends those that were drained since the last look.
    pub(super) fn end_drained(&mut self) {
        for key in std::mem::take(&mut self.over) {
            self.group.end(key, self.now);
        }
    }
}
