//! Whose fault it is that nothing was built.

use flotilla_runtime::Failure;
use flotilla_sandbox::SandboxError;

/// Why there is no wheel.
#[derive(Debug)]
pub enum Stopped {
    /// The package cannot be built like this, whoever tries again. The text is for its user.
    Theirs(String),
    /// What was ordered is not to be had here any more; what is asked for now is.
    Superseded(String),
    /// We failed; another attempt may not.
    Ours(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Ours(failure)
    }
}

impl Stopped {
    /// The package's own fault, in words for its user.
    pub fn theirs(why: impl Into<String>) -> Self {
        Self::Theirs(why.into())
    }
}

/// A failure of the sandbox, by whether another attempt may help.
pub fn sandbox_failure(error: SandboxError) -> Failure {
    let (kind, what) = (error.kind(), error.to_string());
    match error.is_transient() {
        true => Failure::transient(kind, what),
        false => Failure::permanent(kind, what),
    }
}
