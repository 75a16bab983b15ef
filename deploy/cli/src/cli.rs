//! The command line: what can be said, and what is done with it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{commands, error::Error};

/// The operator's command for a Flotilla fleet.
///
/// AWS_ENDPOINT_URL chooses a local endpoint; without it, calls go to AWS. Exit codes: 0 done, 1
/// failed, 2 a refused argument, 3 a wait that ended; `submit` has its own for the verdicts.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates, checks or deletes a stack of queues, buckets and tables.
    Stack(commands::stack::Args),
}

/// Reads the arguments, does what they say, and tells what went wrong on standard error.
pub async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("flotilla: {}", crate::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Stack(args) => commands::stack::run(args).await.map(|()| ExitCode::SUCCESS),
    }
}
