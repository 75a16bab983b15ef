//! Whose fault it is that nothing was built.

use flotilla_runtime::Failure;
use flotilla_sandbox::SandboxError;

/// Why there is no wheel.
#[derive(Debug)]
pub enum Stopped {
    /// The package cannot be built like this, whoever tries again.
    Theirs(Fault),
    /// What was ordered is not to be had here any more; what is asked for now is.
    Superseded(String),
    /// We failed; another attempt may not.
    Ours(Failure),
}

/// What a package does wrong, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The words.
    pub reason: String,
    /// Whether it took too long, which it may not where the machine has less to do.
    pub overtime: bool,
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self { reason, overtime: false }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        match failure.kind() == TOO_LARGE {
            true => Self::theirs(failure.to_string()),
            false => Self::Ours(failure),
        }
    }
}

/// The kind of the failure to fetch what is larger than anybody takes here.
pub const TOO_LARGE: &str = "too_large";

/// Has a thread of its own do what takes its time.
///
/// # Errors
/// Ours, when the thread ended early.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::transient("aside", format!("a thread ended early: {e}")))
}

impl Stopped {
    /// The package's own fault, in words for its user.
    pub fn theirs(why: impl Into<String>) -> Self {
        Self::Theirs(why.into().into())
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
