//! What is wanted.

use serde::{Deserialize, Serialize};

use crate::observed::Millis;

/// What is wanted of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The queues that it serves; a queue that is not named here asks for nothing.
    pub queues: Vec<QueuePolicy>,
    /// Never fewer instances, drained ones not counted.
    pub min: u32,
    /// Never more, whatever waits.
    pub max: u32,
    /// Instances kept ready beyond those at work: so many, or as many free slots on others.
    pub spare: u32,
    /// Slots of an instance of which none is seen yet.
    pub slots: u32,
    /// How long a boot takes while none was seen.
    pub boot_ms: Millis,
    /// How long an instance of the warm pool takes to be ready.
    pub warm_start_ms: Millis,
    /// An idle level goes when it was idle for so many boots: keeping it as long as a boot costs
    /// is at most twice as dear as knowing the future.
    pub delayed_off_boots: f64,
    /// An instance is paid for at least this long, so it does not go before.
    pub minimum_billed_ms: Millis,
    /// How far arrivals that are expected within a boot are trusted: 0 waits until they are
    /// there, 1 boots for all of them ahead.
    pub anticipation: f64,
    /// What is kept free for what may come within a boot: as much as was enough for this part of
    /// the rises in demand of late. 0 keeps nothing free, 0.9 is caught short one time in ten.
    #[serde(default)]
    pub readiness: f64,
    /// How much is kept free of what the time of day and the trend lead to expect within a boot, as
    /// far as they were right lately: 0 for none of it, 1 for all.
    #[serde(default)]
    pub prediction: f64,
    /// What the warm pool holds: as many prepared and stopped instances as, beside those that are
    /// kept running, were enough for this part of the rises in demand of late. 0 for no pool.
    #[serde(default)]
    pub warm: f64,
    /// How far slots are trusted to be free again after the mean time of a job: 1 counts on it,
    /// 0 launches one for each message that waits. Low where a few jobs take far longer than most.
    #[serde(default = "full")]
    pub reuse: f64,
    /// How long nothing more is asked for after a launch failed for want of capacity.
    pub capacity_pause_ms: Millis,
    /// What an instance of unknown price costs an hour, in millionths of a dollar.
    pub price_per_hour: u64,
}

/// What is wanted for a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueuePolicy {
    /// Its name.
    pub name: String,
    /// How long a message may wait. Up to about a boot, an instance is launched for whatever
    /// cannot start in time on those there are; above, jobs may also wait for one another.
    pub wait_target_ms: Millis,
    /// The most that may be spent on it an hour, in millionths of a dollar. One instance is always
    /// allowed, unless it is zero.
    pub money_per_hour: Option<u64>,
    /// How long a job takes while none was timed.
    pub service_ms: Millis,
    /// Whether all of its senders count what they send. Only then the process believes such counts:
    /// a sender that nobody knows of would make them a lie.
    #[serde(default)]
    pub counted: bool,
}

impl Policy {
    /// A policy for one queue and at most `max` instances, with the defaults of the process
    /// `autoscaler`: from and to zero, a boot of two minutes, a minute billed at least.
    pub fn for_queue(name: &str, max: u32) -> Self {
        let queue = QueuePolicy {
            name: name.to_owned(),
            wait_target_ms: 0,
            money_per_hour: None,
            service_ms: 10_000,
            counted: false,
        };
        Self {
            queues: vec![queue],
            min: 0,
            max,
            spare: 0,
            slots: 1,
            boot_ms: 120_000,
            warm_start_ms: 30_000,
            delayed_off_boots: 1.0,
            minimum_billed_ms: 60_000,
            anticipation: 0.0,
            readiness: 0.0,
            prediction: 0.0,
            warm: 0.0,
            reuse: full(),
            capacity_pause_ms: 60_000,
            price_per_hour: 100_000,
        }
    }

    pub(crate) fn queue(&self, name: &str) -> Option<&QueuePolicy> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

/// Trust in full, as before there was a choice.
fn full() -> f64 {
    1.0
}
