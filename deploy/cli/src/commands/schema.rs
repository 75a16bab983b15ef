//! `flotilla schema`: what the messages look like.

use clap::ValueEnum;

use crate::console::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose messages.
    worker: Worker,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Worker {
    Anomaly,
    Compile,
    Grading,
    Schedule,
}

pub(crate) fn run(args: Args) {
    let schema = match args.worker {
        Worker::Anomaly => anomaly_worker::message::schema(),
        Worker::Compile => compile_worker::message::schema(),
        Worker::Grading => grading_worker::message::schema(),
        Worker::Schedule => schedule_executor::message::schema(),
    };
    out(format!("{schema:#}"));
}
