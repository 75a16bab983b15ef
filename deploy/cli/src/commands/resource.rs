//! `flotilla resource`: the scheduler's handlers, from the command line.
//!
//! The scheduler's own program does it: this one does not link the SDKs of what is switched.

use std::{ffi::OsString, process::ExitCode};

use crate::{
    aws::Clients,
    error::{Doing, Error},
    process::find,
};

/// The program that has the handlers.
const PROGRAM: &str = "schedule-executor";

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// start, stop, modclass or show; with --service KIND and --ids ID,…; see --help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Error> {
    let program = find(PROGRAM).ok_or_else(|| Error::Missing {
        what: PROGRAM,
        path: std::env::current_exe().unwrap_or_default().with_file_name(PROGRAM),
        hint: format!("build it (`cargo build -p {PROGRAM}`), or put it on PATH"),
    })?;
    let clients = Clients::from_env().await;
    let mut command = tokio::process::Command::new(&program);
    // So its lines of usage tell what was typed.
    command.arg0("flotilla").arg("resource").args(args.args).envs(clients.environment());
    let status = command.status().await.doing(|| format!("running {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
