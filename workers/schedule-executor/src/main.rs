//! The scheduler's process.

use std::process::ExitCode;

use flotilla_runtime::process;
use schedule_executor::{config::ScheduleConfig, job::Scheduler};

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(
        |settings, _| ScheduleConfig::read(settings),
        |config, sdk| Ok(Scheduler::new(config, sdk)),
    )
    .await
}
