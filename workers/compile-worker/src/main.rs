//! The compile worker's process.

use std::process::ExitCode;

use compile_worker::{Compile, CompileConfig};
use flotilla_runtime::{
    args::{self, About},
    process,
};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it says of itself.
const ABOUT: About = About {
    name: "compile-worker",
    version: env!("CARGO_PKG_VERSION"),
    what: "Compiles packages from a queue.",
    guide: "workers/compile-worker/README.md",
};

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = args::answered(&ABOUT) {
        return code;
    }
    process::worker(CompileConfig::read, |config, sdk| Ok(Compile::new(config, sdk)?)).await
}
