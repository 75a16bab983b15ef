//! What there is to decide from.

use serde::{Deserialize, Serialize};

use crate::policy::{Policy, QueuePolicy};

/// A time (since 1970) or a span, in milliseconds.
pub type Millis = u64;

/// What was seen of a group and its queues at one time.
///
/// A field that is `None` was asked for and not answered: nothing is decided then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The queues that the group serves.
    pub queues: Vec<QueueSeen>,
    /// The instances of the group, in any order.
    pub instances: Option<Vec<Instance>>,
    /// How many instances the group has been told to have; those that are not among
    /// [`instances`](Self::instances) are on their way.
    pub desired: Option<u32>,
    /// How many of those that drain the group does not count any more, since it is ending them
    /// (`Terminating:Wait`, while a hook has their workers finish).
    #[serde(default)]
    pub leaving: u32,
    /// Instances of the warm pool that are not among [`instances`](Self::instances).
    #[serde(default)]
    pub pooled: u32,
    /// Spot instances taken back since the last look. Their jobs come back to the queue later.
    pub spot_interruptions: u32,
    /// Launches that failed for want of capacity since the last look.
    pub capacity_errors: u32,
    /// What an instance costs an hour, by type, in millionths of a dollar.
    pub prices: Vec<(String, u64)>,
}

/// A number of messages, as SQS tells it: approximate and late.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// The number told.
    pub value: u64,
    /// By how much it may be wrong, as a part of the value.
    pub error: f64,
    /// How long a change may take to show.
    pub lag_ms: Millis,
}

impl Count {
    /// A number that is right.
    pub fn exact(value: u64) -> Self {
        Self { value, error: 0.0, lag_ms: 0 }
    }

    /// The most that it may stand for.
    pub fn most(self) -> u64 {
        self.value.saturating_add(self.off())
    }

    /// The least that it may stand for.
    pub fn least(self) -> u64 {
        self.value.saturating_sub(self.off())
    }

    fn off(self) -> u64 {
        (self.value as f64 * self.error.max(0.0)).ceil() as u64
    }
}

/// What was seen of a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueSeen {
    /// Its name, as in [`QueuePolicy`](crate::QueuePolicy).
    pub name: String,
    /// Messages that wait to be received.
    pub visible: Option<Count>,
    /// Messages that were sent with a delay, not over yet.
    pub delayed: Option<Count>,
    /// Messages received and not deleted: being worked on, or held back after a failure.
    pub in_flight: Option<Count>,
    /// Messages sent since counting began, as the senders count them themselves: with
    /// [`finished`](Self::finished) it tells what is there. Seconds late.
    pub sent: Option<u64>,
    /// Messages done with since counting began, as the fleet counts them itself; where nobody
    /// counts what is sent, runs of jobs that ended, well or not. Seconds late.
    pub finished: Option<u64>,
    /// By how much [`sent`](Self::sent) and [`finished`](Self::finished) may be late, each in its own
    /// time: the error of what they tell together.
    #[serde(default)]
    pub books_lag_ms: Millis,
    /// New messages a second, where somebody measures it.
    pub arrivals_per_s: Option<f64>,
    /// How long ago the oldest message was sent that is not done with, whether it waits or is at
    /// work, where somebody knows; minutes late.
    #[serde(default)]
    pub oldest_ms: Option<Millis>,
    /// How long jobs take, by kind.
    pub services: Vec<Service>,
}

impl QueueSeen {
    /// A queue on which nothing is.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            visible: Some(Count::exact(0)),
            delayed: Some(Count::exact(0)),
            in_flight: Some(Count::exact(0)),
            sent: None,
            finished: None,
            books_lag_ms: 0,
            arrivals_per_s: None,
            oldest_ms: None,
            services: Vec::new(),
        }
    }

    /// How long a job takes: the mean of all kinds, weighted by how often each was timed.
    pub(crate) fn service_ms(&self, policy: &QueuePolicy) -> Millis {
        let (jobs, total) = self.services.iter().fold((0u64, 0u64), |(jobs, total), service| {
            (jobs.saturating_add(service.jobs), total.saturating_add(service.total_ms))
        });
        total.checked_div(jobs).unwrap_or(policy.service_ms).max(1)
    }
}

/// How long jobs of a kind take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The kind, such as a job's name.
    pub kind: String,
    /// How many were timed.
    pub jobs: u64,
    /// How long they took together.
    pub total_ms: Millis,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for, not running yet.
    Pending,
    /// Running; its worker has not said that it is ready.
    Booting,
    /// Prepared and stopped, in the warm pool: not part of the desired capacity, quickly there.
    Warm,
    /// Its worker is ready, and holds no message.
    Idle,
    /// Its worker holds a message, or is silent, so that nobody knows.
    Busy,
    /// It takes no more messages, and goes.
    Draining,
}

/// An instance of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: Millis,
    /// When it was launched, and from when it is paid for.
    pub launched_at: Millis,
    /// When its worker first said that it is ready; `None`, too, where the instance ran before anybody
    /// looked, so that nobody knows how long it booted.
    pub ready_at: Option<Millis>,
    /// How many messages its worker can hold.
    pub slots: u32,
    /// How many it holds.
    pub busy_slots: u32,
    /// Whether its worker is silent, so that nobody knows how many it holds: all that it can.
    #[serde(default)]
    pub silent: bool,
    /// Its type, as in [`prices`](Observed::prices).
    pub kind: String,
    /// Whether it is a spot instance.
    pub spot: bool,
}

impl Observed {
    /// A group without instances and without queues.
    pub fn empty_group() -> Self {
        Self {
            queues: Vec::new(),
            instances: Some(Vec::new()),
            desired: Some(0),
            leaving: 0,
            pooled: 0,
            spot_interruptions: 0,
            capacity_errors: 0,
            prices: Vec::new(),
        }
    }

    /// What an instance costs an hour, in millionths of a dollar: one of spot as `TYPE:spot` where
    /// that is known, else as its type.
    pub(crate) fn price(&self, kind: &str, spot: bool, policy: &Policy) -> u64 {
        let of = |wanted: &str| {
            let known = self.prices.iter().filter(|(name, _)| name == wanted);
            known.map(|(_, price)| *price).max()
        };
        let as_spot = spot.then(|| of(&format!("{kind}:spot"))).flatten();
        as_spot.or_else(|| of(kind)).unwrap_or(policy.price_per_hour)
    }

    /// What is missing to decide from, if anything.
    pub(crate) fn missing(&self, policy: &Policy) -> Option<String> {
        let answered =
            |q: &&QueueSeen| q.visible.is_some() && q.in_flight.is_some() && q.delayed.is_some();
        let seen = |name: &str| self.queues.iter().filter(answered).any(|q| q.name == name);
        let wanted = policy.queues.iter().map(|queue| queue.name.as_str());
        let mut unseen: Vec<&str> = wanted.filter(|name| !seen(name)).collect();
        unseen.sort_unstable();
        match (unseen.is_empty(), self.instances.is_some() && self.desired.is_some()) {
            (true, true) => None,
            (true, false) => Some("the group".to_owned()),
            (false, true) => Some(format!("queue {}", unseen.join(", "))),
            (false, false) => Some(format!("the group and queue {}", unseen.join(", "))),
        }
    }
}
