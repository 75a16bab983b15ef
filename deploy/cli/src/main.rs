//! The binary `flotilla`; what it can do is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flotilla_cli::cli::main().await
}
