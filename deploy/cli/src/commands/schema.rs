//! `flotilla schema`: what the messages look like.

use clap::ValueEnum;
use grading_worker::message;

use crate::console::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose messages.
    worker: Worker,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Worker {
    Grading,
}

pub(crate) fn run(args: Args) {
    let schema = match args.worker {
        Worker::Grading => message::schema(),
    };
    out(format!("{schema:#}"));
}
