//! The tables: devices, readings, edges and problems.
//!
//! The readings are the truth. A reading is an item under its own key, so that storing it twice
//! is storing it once, and no item grows. An edge's row is written only when a problem changes or
//! its base moves, in one transaction with the problems, on the condition that nobody wrote it
//! since it was read.

mod counted;
mod devices;
mod edges;
mod episodes;
mod problems;
mod readings;
mod topologies;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::Failure;

pub use self::{
    devices::Devices,
    edges::{Edges, Subject},
    episodes::{Acknowledged, Acknowledgement, EpisodeKey},
    problems::{Linked, Problem, Problems, Status, is_of},
    readings::{Kept, LateReading, New, Readings, Said, Span, StoredReading, said_in},
    topologies::{Index, NotStored, Stored, Topologies},
};

/// A row, as DynamoDB gives it.
pub type Row = HashMap<String, Attr>;

/// Now, in Unix milliseconds.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

fn text(value: impl Into<String>) -> Attr {
    Attr::S(value.into())
}

fn number(value: impl ToString) -> Attr {
    Attr::N(value.to_string())
}

fn text_of(row: &Row, name: &str) -> Option<String> {
    row.get(name)?.as_s().ok().cloned()
}

fn number_of<T: std::str::FromStr>(row: &Row, name: &str) -> Option<T> {
    row.get(name)?.as_n().ok()?.parse().ok()
}

fn unavailable(call: &str, what: &str, table: &str, why: impl Into<String>) -> Failure {
    Failure::transient("dynamodb", format!("{call} of {what} in table {table}: {}", why.into()))
}

fn unbuilt(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::permanent("request", format!("{what}: {error}"))
}
