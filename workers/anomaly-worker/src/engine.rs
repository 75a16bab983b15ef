//! From readings to problems. No AWS and no clock: everything follows from the readings.
//!
//! An *edge* leads from a sensor (the *current*) to the one after it (the *following*). At every
//! time that either has a reading, its [`Rule`] compares what both said last; where the answer is
//! not OK an *episode* begins, which lasts until the answer changes. The episodes of an edge are
//! a function of the set of its readings: [`Edge::review`] recomputes them from the readings since
//! the edge's base, so that it does not matter in what order, or how often, readings came.
//!
//! The base moves on, and takes with it what can change no more: readings older than twice the
//! allowed lateness. (Once for the reading that may still come, once more for a duplicate of it
//! under another time, told by its number.)

mod edge;
mod episode;
mod rule;
#[cfg(test)]
mod tests;

pub use self::{
    edge::{CHANGES, Change, Edge, Limits, Review},
    episode::{Episode, Pair, Sample, Turn},
    rule::{
        Confirm, DeviceRule, Drift, Kind, Outlier, Range, Rate, Rule, Seasonal, Stuck, Threshold,
    },
};
