//! The compile worker's process.

use std::process::ExitCode;

use compile_worker::{Compile, CompileConfig};
use flotilla_runtime::process;

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(CompileConfig::read, |config, sdk| Ok(Compile::new(config, sdk)?)).await
}
