//! What can go wrong on our side. What a program does wrong is in its [`crate::Report`].

/// Why the sandbox could not do what was asked. Never the fault of the program in the cell.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The Docker engine does not answer, or not in time.
    #[error(
        "the Docker engine does not answer ({doing}): {why}. Is it running, and may this user reach it (DOCKER_HOST)?"
    )]
    EngineUnreachable {
        /// What was being done.
        doing: &'static str,
        /// What the client said.
        why: String,
    },
    /// The engine answered a request with an error.
    #[error("the Docker engine refused {doing}: {why}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// The engine's own words.
        why: String,
    },
    /// The image of the cells is not on the engine.
    #[error("the image {image} is not on this Docker engine: build it with `make setup`")]
    ImageMissing {
        /// The image asked for.
        image: String,
    },
    /// The host does not let a cell make user namespaces.
    #[error(
        "this host does not allow the namespaces that runs are kept apart with ({why}). \
         Allow unprivileged user namespaces, or set isolation = \"container\""
    )]
    NamespacesForbidden {
        /// The step that failed in the cell.
        why: String,
    },
    /// A cell cannot work on this host, whatever keeps its runs apart.
    #[error("cells cannot work on this host: {why}")]
    CellUnusable {
        /// The step that failed in the cell.
        why: String,
    },
    /// The cell ended in the middle of something, or was killed from outside.
    #[error("a cell ended unexpectedly while {doing}; its last words: {last_words:?}")]
    CellDied {
        /// What was being done.
        doing: &'static str,
        /// The end of the supervisor's standard error.
        last_words: String,
    },
    /// A run could not be set up in the cell.
    #[error("a run could not be started, at {stage} (errno {errno})")]
    Setup {
        /// The step that failed.
        stage: String,
        /// Its `errno`, 0 when there is none.
        errno: i32,
    },
    /// Host and cell do not understand each other.
    #[error("a cell does not speak as expected: {0}")]
    Protocol(String),
    /// What was asked cannot be done whoever asks again: a file name, an empty argv, sizes.
    #[error("not something a cell can run: {0}")]
    Invalid(String),
    /// [`crate::Sandbox::shutdown`] was called.
    #[error("the sandbox is shut down")]
    ShutDown,
}

impl SandboxError {
    /// Whether the same may work later or in another cell.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::EngineUnreachable { .. }
            | Self::Engine { .. }
            | Self::CellDied { .. }
            | Self::Setup { .. }
            | Self::Protocol(_)
            | Self::ShutDown => true,
            Self::ImageMissing { .. }
            | Self::NamespacesForbidden { .. }
            | Self::CellUnusable { .. }
            | Self::Invalid(_) => false,
        }
    }

    /// A short name out of a fixed set, for a metric label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EngineUnreachable { .. } => "engine_unreachable",
            Self::Engine { .. } => "engine_refused",
            Self::ImageMissing { .. } => "image_missing",
            Self::NamespacesForbidden { .. } => "namespaces_forbidden",
            Self::CellUnusable { .. } => "cell_unusable",
            Self::CellDied { .. } => "cell_died",
            Self::Setup { .. } => "run_setup",
            Self::Protocol(_) => "protocol",
            Self::Invalid(_) => "invalid_run",
            Self::ShutDown => "shut_down",
        }
    }
}
