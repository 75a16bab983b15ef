//! The compile worker's process.

use std::process::ExitCode;

use compile_worker::{Compile, CompileConfig};
use flotilla_runtime::process;

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(CompileConfig::read, |config, sdk| Ok(Compile::new(config, sdk)?)).await
}
