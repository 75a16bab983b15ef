//! What a policy orders: instances that are launched or let go, and those that are told to drain by a row.

use std::cmp::Reverse;

use rand::RngExt;

use super::{Engine, Event};
use crate::simulate::{Kill, Order, limits::Bucket};

impl Engine<'_> {
    pub(super) fn carry_out(&mut self, order: &Order, by_row: bool) {
        let ends = order.remove.len() as u32;
        for id in order.remove.iter().take(self.allowed(|it| &mut it.ends, ends) as usize) {
            match self.group.idle_named(id) {
                Some(key) if by_row => self.order(key),
                Some(key) => drop(self.group.end(key, self.now)),
                None => {}
            }
        }
        let desired = order.desired.min(self.world.max);
        let room = self.world.max.saturating_sub(self.group.all());
        let missing = desired.saturating_sub(self.group.live()).min(room);
        for _ in 0..self.allowed(|it| &mut it.launches, missing) {
            self.launch();
        }
        let over = self.group.live().saturating_sub(desired);
        if over > 0 && order.rest != Kill::None {
            self.give_up(over, order.rest);
        }
    }

    /// As many of these as a limit allows now.
    fn allowed(&mut self, of: fn(&mut Self) -> &mut Option<Bucket>, wanted: u32) -> u32 {
        let now = self.now;
        let given = of(self).as_mut().map_or(wanted, |bucket| bucket.take(wanted, now));
        self.out.throttled += u64::from(wanted - given);
        given
    }

    fn launch(&mut self) {
        let launched = self.group.launch(self.now);
        let key = launched.key;
        self.events.push(Reverse((self.now + launched.boot, Event::Ready { key })));
        if let Some(life) = launched.life {
            self.events.push(Reverse((self.now + life, Event::Lost { key })));
        }
    }

    fn give_up(&mut self, over: u32, how: Kill) {
        let starting = self.group.starting(over as usize);
        let left = over - starting.len() as u32;
        for key in starting {
            self.group.end(key, self.now);
        }
        for _ in 0..left {
            let chosen = match how {
                Kill::None => None,
                Kill::Idle => self.group.any_idle(),
                Kill::Any | Kill::Drain => self.group.any_serving(),
            };
            match chosen {
                Some(key) => self.let_go(key, how),
                None => return,
            }
        }
    }

    fn let_go(&mut self, key: u32, how: Kill) {
        if how == Kill::Drain && self.group.at_work(key) {
            self.group.drain(key);
        } else {
            self.out.killed += u64::from(self.end(key));
        }
    }

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
    fn order(&mut self, key: u32) {
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
