//! The command line: what can be said, and what is done with it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flotilla_runtime::control::Order;

use crate::{
    commands,
    console::{self, note},
    error::Error,
};

/// The operator's command for a Flotilla fleet.
///
/// AWS_ENDPOINT_URL chooses a local endpoint; without it, calls go to AWS. Exit codes: 0 done, 1
/// failed, 2 a refused argument, 3 a wait that ended, 130 interrupted before it was done; `submit`
/// has its own for the verdicts.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts endpoint, stack and workers in the foreground; Ctrl-C drains and removes all.
    Up(commands::up::Args),
    Submit(commands::submit::Args),
    /// Shows queues, dead letters, workers, and what is in flight.
    Status(commands::status::Args),
    /// Shows, redrives and deletes dead letters.
    Dlq(commands::dlq::Args),
    /// Has workers receive nothing more, and finish what they have, until they are resumed.
    Pause(commands::orders::Args),
    /// Has paused workers receive again.
    Resume(commands::orders::Args),
    /// Has workers finish what they have, or hand it back, and end.
    Drain(commands::orders::Args),
    /// Cancels a job, waiting or running: its message becomes a dead letter.
    Cancel(commands::orders::CancelArgs),
    /// Uploads what submissions are tested with.
    Problem(commands::problem::Args),
    /// Grades example submissions from end to end and shows every verdict, shows packages, a schedule
    /// and sensors, and removes all.
    Demo(commands::demo::Args),
    /// Recomputes the sensors' problems of a time from the stored readings, and shows differences.
    Replay(commands::replay::Args),
    /// Shows the sensors' problems, acknowledges one, and lists readings that came too late.
    Sensors(commands::sensors::Args),
    /// Shows what a schedule does, and overrides it for some time.
    Schedule(commands::schedule::Args),
    /// Starts, stops or shows resources by their ids, with no table, queue or schedule.
    Resource(commands::resource::Args),
    /// Prints the JSON Schema of the messages that a worker takes.
    Schema(commands::schema::Args),
    /// Replays an autoscaler's log of decisions, tells what it would have cost, simulates policies,
    /// freezes an autoscaler, and lets it go on.
    Autoscale(commands::autoscale::Args),
    /// Creates, checks or deletes a stack of queues, buckets and tables.
    Stack(commands::stack::Args),
}

/// Reads the arguments, does what they say, and tells what went wrong on standard error.
pub async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(_) if console::lost() => {
            note("flotilla: standard output could not be written");
            ExitCode::FAILURE
        }
        Ok(code) => code,
        Err(error) => {
            note(format!("flotilla: {}", crate::chain(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Submit(args) => return commands::submit::run(args).await,
        Command::Resource(args) => return commands::resource::run(args).await,
        Command::Up(args) => commands::up::run(args).await?,
        Command::Status(args) => commands::status::run(args).await?,
        Command::Dlq(args) => commands::dlq::run(args).await?,
        Command::Pause(args) => commands::orders::run(args, Order::Pause).await?,
        Command::Resume(args) => commands::orders::run(args, Order::Resume).await?,
        Command::Drain(args) => commands::orders::run(args, Order::Drain).await?,
        Command::Cancel(args) => commands::orders::cancel(args).await?,
        Command::Problem(args) => commands::problem::run(args).await?,
        Command::Demo(args) => commands::demo::run(args).await?,
        Command::Replay(args) => commands::replay::run(args).await?,
        Command::Sensors(args) => commands::sensors::run(args).await?,
        Command::Schedule(args) => commands::schedule::run(args).await?,
        Command::Schema(args) => commands::schema::run(args),
        Command::Autoscale(args) => commands::autoscale::run(args).await?,
        Command::Stack(args) => commands::stack::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
