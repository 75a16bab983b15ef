//! Which sensor follows which, and what is expected of each: uploaded as TOML or JSON, or told
//! from the ids of the sensors as in the original service.
//!
//! ```toml
//! derive = false              # also join sensors by their ids; true where no edge is given
//!
//! [defaults.edge]             # for every edge that does not say otherwise
//! tolerance = 5               # levels that differ by less are equal
//!
//! [defaults.device]           # for every device that does not say otherwise
//! interval = "1m"             # a reading is expected so often
//!
//! [[chains]]                  # a chain of edges, each with these rules
//! sensors = ["A01", "A02", "A03"]
//! delay = "90s"               # what passes A01 now passes A02 in 90 s
//!
//! [[edges]]                   # trees and meshes: one edge each
//! current = "B07"
//! following = "A03"
//! ratio = 0.8                 # the following level is expected at 0.8 of the current one
//! debounce = "3m"
//!
//! [[devices]]
//! id = "B07"
//! zone = "north"
//! range = { min = 0, max = 100 }
//! ```
//!
//! All keys: [`Rule`] and [`DeviceRule`] say what each means. A duration
//! is a number of seconds, or text such as `"500ms"`, `"90s"`, `"5m"`, `"2h"`, `"1d"`.
//!
//! Refused, each with its place: unknown keys, a sensor that follows itself, a chain that turns back,
//! an edge or a device that is there twice, ids that cannot name a device, and two edges whose ids, one after the
//! other, are the same text, since that text names the edge's problems. Rings are not refused: a
//! mesh may have them, and nothing here goes round.

mod derived;
mod parse;
mod plan;
mod span;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

pub use self::{
    derived::{following, preceding, tube},
    plan::{Join, Plan},
};
use crate::engine::{DeviceRule, Rule};

/// The longest text of a topology, in bytes.
pub const TEXT_LIMIT: usize = 2 * 1024 * 1024;
/// The most edges of a topology.
pub const EDGES: usize = 50_000;
/// The most devices that a topology says something of.
pub const DEVICES: usize = 50_000;

/// How a topology is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// JSON, with the same keys.
    Json,
}

impl Format {
    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Json => "json",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Toml, Self::Json].into_iter().find(|it| it.name() == name)
    }
}

/// A topology that was found to be valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Whether sensors are also joined by their ids.
    pub derive: bool,
    /// What holds for edges that are joined by ids.
    pub edge_default: Rule,
    /// What holds for devices that are not listed.
    pub device_default: DeviceRule,
    /// The edges, in the order of the text; no two join the same sensors in the same direction.
    pub edges: Vec<Link>,
    /// What is expected of each device that is listed, by id.
    pub devices: BTreeMap<String, DeviceRule>,
}

/// An edge with its rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The sensor that it leads from.
    pub current: String,
    /// The sensor that it leads to.
    pub following: String,
    /// How the two are compared.
    pub rule: Rule,
}

/// Why a text is no topology: every fault that was found, each with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// What is wrong, in the order of the text; never empty.
    pub faults: Vec<String>,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the topology is refused: {}", self.faults.join("; "))
    }
}

impl std::error::Error for TopologyError {}

impl Topology {
    /// Reads a topology from its text.
    ///
    /// # Errors
    /// Every fault that was found, with its place.
    pub fn parse(text: &str, format: Format) -> Result<Self, TopologyError> {
        parse::topology(text, format)
    }

    /// The ids of all devices that it names.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let ends = self.edges.iter().flat_map(|it| [it.current.as_str(), it.following.as_str()]);
        ends.chain(self.devices.keys().map(String::as_str))
    }
}
