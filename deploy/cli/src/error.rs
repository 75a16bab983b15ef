//! What can go wrong, in words for the operator: what happened, to what, and what to do.

use std::{error::Error as StdError, fmt, path::PathBuf};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use flotilla_runtime::Failure;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to an AWS service failed; `doing` names the action and the resource.
    #[error("{doing}")]
    Aws {
        /// For example "creating stack flotilla-dev".
        doing: String,
        /// The SDK's error, with the service's code and message.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A file, process or socket of this machine failed.
    #[error("{doing}")]
    Io {
        /// The action and its object, a path for example.
        doing: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The template cannot be read or resolved.
    #[error("the template is not usable: {0}")]
    Template(String),
    /// known-gaps.toml cannot be read.
    #[error("the list of known gaps is not usable: {0}")]
    Gaps(String),
    /// CloudFormation gave up on a stack; the text names the resource and its reason.
    #[error("stack {stack} ended as {status}: {reason}")]
    StackFailed {
        /// The stack's name.
        stack: String,
        /// CloudFormation's status, such as `ROLLBACK_COMPLETE`.
        status: String,
        /// The first resource that failed, and why.
        reason: String,
    },
    /// What was created is not what the template says.
    #[error("stack {stack} differs from its template on {endpoint}:{}", lines(.differences))]
    Differs {
        /// The stack's name.
        stack: String,
        /// Endpoint and version.
        endpoint: String,
        /// Every difference, and every listed gap that has vanished.
        differences: Vec<String>,
    },
    /// There is no stack of this name.
    #[error("there is no stack {0} on this endpoint: create it with `flotilla up --stack {0}`")]
    NoStack(String),
    /// Deleting was refused before anything was touched.
    #[error(
        "stack {0} is protected (Protect=true): update it with Protect=false before deleting it"
    )]
    Protected(String),
    /// Something of a deleted stack is still there.
    #[error("stack {stack} was deleted, yet this is left of it:{}", lines(.left))]
    Left {
        /// The stack's name.
        stack: String,
        /// Each remaining resource.
        left: Vec<String>,
    },
    /// A bounded wait has ended.
    #[error("{what} after {seconds} s")]
    Timeout {
        /// What had not happened, for example "no verdict for submission …".
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A later submission under the same id took the place of the one that was waited for.
    #[error(
        "submission {0} was superseded: it was submitted again under the same id, and the later \
         one counts"
    )]
    Superseded(String),
    /// A value from the command line is refused.
    #[error("{0}")]
    Usage(String),
    /// A file that must be there is not.
    #[error("{what} not found at {}: {hint}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// The operator asked to stop before it was done.
    #[error("stopped before it was done")]
    Interrupted,
    /// A worker or the endpoint did not do its part.
    #[error("{0}")]
    Fleet(String),
}

impl Error {
    /// The process's exit code for this failure: 2 for a refused argument, 3 for a wait that
    /// ended, 21 for a superseded submission, 130 for an interruption, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Timeout { .. } => 3,
            Error::Superseded(_) => 21,
            Error::Interrupted => 130,
            _ => 1,
        }
    }

    /// A service's failure while doing `doing`. What the service answered is kept as its code and
    /// message; what never reached it, as the SDK's own error.
    pub(crate) fn aws<E, R>(doing: impl Into<String>, error: SdkError<E, R>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        let answer = error.as_service_error().map(ProvideErrorMetadata::meta);
        let source = match answer.map(|it| (it.code(), it.message())) {
            Some((Some(code), Some(message))) => format!("{code}: {message}").into(),
            Some((Some(code), None)) => code.to_owned().into(),
            _ => error.into(),
        };
        Error::Aws { doing: doing.into(), source }
    }
}

/// Adds what was being done to an error of the SDK or of the system.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, Failure> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Aws { doing: what(), source: source.into() })
    }
}

impl<T, E, R> Doing<T> for Result<T, SdkError<E, R>>
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::aws(what(), source))
    }
}

impl<T> Doing<T> for Result<T, std::io::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source })
    }
}

/// An error with all its causes on one line. A cause that the line already ends with is not
/// repeated.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = inner.source();
    }
    text
}

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}
