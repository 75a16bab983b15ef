//! `flotilla up`: a fleet in the foreground.

use std::time::Duration;

use crate::{
    console::out,
    error::Error,
    fleet::{Fleet, Options},
    stop::Stop,
    target::DEFAULT_STACK,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack's name; the name of every queue, bucket and table begins with it.
    #[arg(long, env = "FLOTILLA_STACK", default_value = "flotilla-dev")]
    stack: String,
    /// The port of the local endpoint, on 127.0.0.1; 0 takes any free one. Unused where
    /// AWS_ENDPOINT_URL is set.
    #[arg(long, default_value_t = 4566)]
    port: u16,
    /// How many grading workers to start.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// The port of the gateway, on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    gateway_port: u16,
    /// How many seconds lie between two ticks of the scheduler, unless `PUT /v1/scheduler` says.
    #[arg(long, default_value_t = 60, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    tick: u64,
    /// How many seconds a stop waits for running jobs.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    grace: u64,
    /// Does not print the workers' log.
    #[arg(long)]
    quiet: bool,
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let options = Options {
        stack: args.stack,
        port: args.port,
        workers: args.workers,
        gateway_port: args.gateway_port,
        tick: Some(Duration::from_secs(args.tick)),
        echo: !args.quiet,
        grace: Duration::from_secs(args.grace),
    };
    let mut fleet = Fleet::up(options, stop).await?;
    let watched = match introduce(&fleet) {
        Ok(()) => fleet.watch().await,
        Err(error) => Err(error),
    };
    if let Err(error) = watched {
        fleet.down_after_failure().await;
        return Err(error);
    }
    fleet.down().await?;
    out("stopped; nothing is left running");
    Ok(())
}

fn introduce(fleet: &Fleet) -> Result<(), Error> {
    let (clients, stack) = (fleet.clients(), fleet.stack()?);
    let outputs = stack.outputs();
    out("the fleet is up");
    out(format!("  endpoint     {}", clients.url.as_deref().unwrap_or("AWS")));
    out(format!("  stack        {}", stack.name()));
    out(format!("  queue        {}", outputs.grading_queue_url));
    out(format!("  submissions  s3://{}", outputs.submissions_bucket_name));
    for (id, address) in fleet.workers() {
        out(format!("  worker       {id}  http://{address}/metrics"));
    }
    let gateway = fleet.gateway().unwrap_or_default();
    out(format!("  gateway      http://{gateway}"));
    let named = said(stack.name());
    out("try, in another terminal:");
    out(format!("  flotilla problem put DIR --admin me --event try --problem first{named}"));
    out(format!("  flotilla submit FILE.py --admin me --event try --problem first{named}"));
    out(format!("  pip install --index-url http://{gateway}/o/march=x86-64-v3/simple/ markupsafe"));
    out(format!("  flotilla status{named}"));
    out("Ctrl-C drains the workers and removes everything");
    Ok(())
}

/// How another terminal names this stack: not at all, where it is the default.
fn said(stack: &str) -> String {
    match stack {
        DEFAULT_STACK => String::new(),
        other => format!(" --stack {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hints_name_a_stack_that_is_not_the_default() {
        assert_eq!(said(DEFAULT_STACK), "");
        assert_eq!(said("stranger"), " --stack stranger");
    }
}
