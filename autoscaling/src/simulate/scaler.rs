//! What a policy sees, and what it may order.

use crate::observed::{Millis, Observed};

/// A policy at work.
pub trait Scaler {
    /// How often it looks.
    fn every_ms(&self) -> Millis;

    /// Whether what it removes by name is ordered to drain by a row, which takes its time. An agent that
    /// ends itself knows that it has nothing to do.
    fn orders_by_row(&self) -> bool {
        false
    }

    /// After how long without any change it does nothing new, where that is more than half a day.
    fn settles_ms(&self) -> Millis {
        0
    }

    /// What is to be done now.
    fn look(&mut self, view: &View<'_>) -> Order;
}

/// What there is to see.
#[derive(Debug)]
pub struct View<'a> {
    /// The time.
    pub now: Millis,
    /// All, as [`decide`](crate::decide) sees it: the instances are seen as they are.
    pub observed: &'a Observed,
    /// Messages that wait, as late and as wrong as the counts are.
    pub visible: u64,
    /// Messages at work, as late and as wrong as the counts are.
    pub in_flight: u64,
    /// Instances that serve.
    pub ready: u32,
    /// Instances that serve or boot; those that drain do not count.
    pub live: u32,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// How many instances there shall be, those that drain not counted.
    pub desired: u32,
    /// Idle instances that go by name.
    pub remove: Vec<String>,
    /// How what is above `desired` beyond these goes.
    pub rest: Kill,
}

/// How a group gives up instances that nobody named. Those that still boot go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// It does not.
    None,
    /// Any instance, at work or not; its job is done again.
    Any,
    /// Idle ones only: those at work are protected from scale-in.
    Idle,
    /// Any instance; it ends its job before it goes.
    Drain,
}

impl Order {
    /// So many instances, and nobody named.
    pub fn size(desired: u32, rest: Kill) -> Self {
        Self { desired, remove: Vec::new(), rest }
    }
}
