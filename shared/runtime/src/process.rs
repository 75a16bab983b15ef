//! The frame of the fleet's processes: logs, signals, and the exit code.

use std::{error::Error, process::ExitCode};

use aws_config::SdkConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    aws,
    config::{Reader, WorkerConfig},
    job::Job,
    shutdown, telemetry,
};

/// Runs `body` as what this process is for. Its token is cancelled by SIGTERM or SIGINT; its error
/// is logged, and makes the process fail.
pub async fn run<F>(body: F) -> ExitCode
where
    F: AsyncFnOnce(CancellationToken) -> Result<(), Box<dyn Error>>,
{
    telemetry::init();
    let ended = match shutdown::on_signals() {
        Ok(stop) => body(stop).await,
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a worker: `read` takes its own settings beside those that all workers have, and `make`
/// turns them into the job.
pub async fn worker<C, J, R, M>(read: R, make: M) -> ExitCode
where
    J: Job,
    R: FnOnce(&mut Reader, &mut WorkerConfig) -> C,
    M: FnOnce(C, &SdkConfig) -> Result<J, Box<dyn Error>>,
{
    run(async |stop| {
        let mut settings = Reader::from_env();
        let mut worker = WorkerConfig::read(&mut settings);
        let own = read(&mut settings, &mut worker);
        settings.finish()?;
        let sdk = aws::sdk_config().await;
        let job = make(own, &sdk)?;
        Ok(crate::run(job, worker, &sdk, stop).await?)
    })
    .await
}
