//! The scheduler's process.

use std::process::ExitCode;

use clap::Parser;
use flotilla_runtime::{aws, process};
use schedule_executor::{
    config::ScheduleConfig,
    job::Scheduler,
    resource::{self, Cli, Command},
};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(Command::Resource(args)) = Cli::parse().command {
        return resource::run(args, &aws::sdk_config().await).await;
    }
    process::worker(ScheduleConfig::read, |config, sdk| Ok(Scheduler::new(config, sdk))).await
}
