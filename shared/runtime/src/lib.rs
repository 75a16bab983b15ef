//! The worker loop of Flotilla.

pub mod aws;
