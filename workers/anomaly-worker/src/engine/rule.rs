//! What a pair of levels means.

use serde::{Deserialize, Serialize};

/// What is wrong between two sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Less arrives than flows.
    Obstruction,
    /// More arrives than flows.
    Problem,
}

impl Kind {
    /// As the original service wrote it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Obstruction => "OBSTRUCTION",
            Self::Problem => "PROBLEM",
        }
    }
}

/// How the levels of an edge are compared.
///
/// The default is the table of the original service over its levels 100 (correct flow), 50 (low)
/// and 0 (none), read as a comparison: equal is OK, less at the following sensor is an
/// obstruction, more is a problem.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rule {
    /// How far levels may differ and be equal; not negative.
    pub tolerance: f64,
}

impl Rule {
    /// What is wrong, if anything is.
    pub fn compare(&self, current: f64, following: f64) -> Option<Kind> {
        match following - current {
            more if more > self.tolerance => Some(Kind::Problem),
            less if -less > self.tolerance => Some(Kind::Obstruction),
            _ => None,
        }
    }
}
