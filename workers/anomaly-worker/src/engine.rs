//! From readings to problems. No AWS: everything follows from the readings, and from how far a
//! clock has come where silence is looked for.
//!
//! An *edge* leads from a sensor (the *current*) to the one after it (the *following*). At every
//! time that either has a reading, its [`Rule`] compares what both said last; where the answer is
//! not OK an *episode* begins, which lasts until the answer changes. A *device* has episodes of its
//! own, by its [`DeviceRule`]. Both are a [`Machine`]: what is known at a time, and how it goes on
//! with what is said next.
//!
//! The episodes of a machine are a function of the set of its readings: [`State::review`]
//! recomputes them from the readings since its *base*, so that it does not matter in what order, or
//! how often, readings came. The base moves on, and takes with it what can change no more: readings
//! older than the allowed lateness. What is older comes too late, and what was told of that time is
//! final: both by the same bound, [`State::late_until`]. (Readings before the base, by no more than
//! the lateness, still tell duplicates by their numbers; where a number had come so often that they do
//! not, the base keeps when it counted.) Detectors are part of what is known at the
//! base, so they look at every reading once, in order of time, and never ahead.
//!
//! [`Live`] is the shortcut for readings in order, which are nearly all: it goes on from the newest
//! reading, and says whether anything changes. Only then is there a review. [`Net`] holds all
//! machines of a network in memory.

mod detectors;
mod device;
mod edge;
mod episode;
mod live;
mod net;
mod rule;
mod state;
#[cfg(test)]
mod tests;
mod told;
mod window;

pub use self::{
    device::DeviceStand,
    edge::{EdgeFront, EdgeStand},
    episode::{Episode, Evidence, Sample, Turn},
    live::Live,
    net::{Net, Taken, Unit},
    rule::{
        Confirm, DeviceRule, Drift, Kind, Outlier, Range, Rate, Rule, Seasonal, Stuck, Threshold,
    },
    state::{CHANGES, Change, Key, Limits, Machine, Moment, Review, State, Walked},
    told::Told,
    window::{Arrival, Window},
};
