//! The steps of a build, so that a worker can be killed at each of them.

use std::{future::pending, str::FromStr};

/// A step of a build, named by what was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The order is claimed.
    Claimed,
    /// The source is there.
    Fetched,
    /// The build requirements are there.
    Resolved,
    /// They are recorded.
    Locked,
    /// The container has ended.
    Built,
    /// What came out is checked.
    Checked,
    /// The log is stored.
    Logged,
    /// The artifact is stored.
    Stored,
    /// The row says so.
    Committed,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Claimed,
        Self::Fetched,
        Self::Resolved,
        Self::Locked,
        Self::Built,
        Self::Checked,
        Self::Logged,
        Self::Stored,
        Self::Committed,
    ];

    /// Its name, as in `FLOTILLA_PAUSE_AT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Fetched => "fetched",
            Self::Resolved => "resolved",
            Self::Locked => "locked",
            Self::Built => "built",
            Self::Checked => "checked",
            Self::Logged => "logged",
            Self::Stored => "stored",
            Self::Committed => "committed",
        }
    }

    /// Says that the step is done; a worker that is told to pause there goes no further.
    pub async fn reached(self, pause_at: Option<Self>) {
        if pause_at == Some(self) {
            tracing::warn!(step = self.name(), "paused, as FLOTILLA_PAUSE_AT says");
            pending::<()>().await;
        }
        tracing::debug!(step = self.name(), "a build goes on");
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|step| step.name() == text);
        found.ok_or_else(|| format!("there is no step {text:?}; there are: {names}"))
    }
}
