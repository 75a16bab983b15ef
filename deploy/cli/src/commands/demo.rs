//! `flotilla demo`: the whole way of a submission, nine times, on a fleet of its own.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use grading_worker::names::Problem;

use super::{demo_packages, demo_schedule, demo_sensors};
use crate::{
    aws::Clients,
    bucket::put,
    console::{note, out},
    error::Error,
    examples::{EVENT, EXAMPLES, Example, PROBLEM},
    fleet::{Fleet, Options},
    progress::{Board, Line},
    stack::Outputs,
    stop::Stop,
    submission::{Results, Submission},
    verdict,
};

/// How long the examples may take together.
const PATIENCE: Duration = Duration::from_secs(180);

/// Exits 0 if every example got the verdict that it declares, else 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack's name; a new one by default, so that demos can run side by side.
    #[arg(long)]
    stack: Option<String>,
    /// The port of the local endpoint, on 127.0.0.1; 0 takes any free one. Unused where
    /// AWS_ENDPOINT_URL is set.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Prints the workers' log.
    #[arg(long)]
    verbose: bool,
}

/// An example and what became of it.
type Graded = (Example, Result<Results, Error>);

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let options = Options {
        stack: args.stack.unwrap_or_else(|| format!("flotilla-demo-{}", std::process::id())),
        port: args.port,
        workers: 1,
        gateway_port: 0,
        tick: None,
        echo: args.verbose,
        grace: Duration::from_secs(10),
    };
    let mut fleet = Fleet::up(options, stop.clone()).await?;
    let graded = match grade_all(&mut fleet, &stop).await {
        Ok(graded) => graded,
        Err(error) => {
            fleet.down_after_failure().await;
            return Err(error);
        }
    };
    let others = tokio::select! {
        told = others(&fleet) => told,
        () = stop.asked() => Err(Error::Interrupted),
    };
    let down = fleet.down().await;
    for (example, results) in &graded {
        show(example, results);
    }
    let unexpected = summarize(&graded);
    down?;
    others?.into_iter().for_each(out);
    match unexpected {
        0 => Ok(()),
        count => Err(Error::Fleet(format!(
            "{count} of {} examples did not get the verdict that they declare",
            graded.len()
        ))),
    }
}

async fn grade_all(fleet: &mut Fleet, stop: &Stop) -> Result<Vec<Graded>, Error> {
    let (clients, stack) = (fleet.clients().clone(), fleet.stack()?.clone());
    let start = Instant::now();
    let graded = tokio::select! {
        graded = submit_all(&clients, stack.outputs()) => graded?,
        ended = fleet.watch() => return Err(ended.err().unwrap_or(Error::Interrupted)),
        () = stop.asked() => return Err(Error::Interrupted),
    };
    note(format!("graded in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(graded)
}

/// What the other workers do; gives what to tell of each.
async fn others(fleet: &Fleet) -> Result<Vec<String>, Error> {
    Ok(vec![
        demo_packages::compile(fleet).await?,
        demo_schedule::stop(fleet).await?,
        demo_sensors::block(fleet).await?,
    ])
}

async fn submit_all(clients: &Clients, outputs: &Outputs) -> Result<Vec<Graded>, Error> {
    let problem = Problem::new("demo", "tour", "addition").map_err(Error::Usage)?;
    let bucket = &outputs.submissions_bucket_name;
    put(clients, bucket, &problem.event_file(), EVENT.into()).await?;
    for (name, text) in PROBLEM {
        put(clients, bucket, &problem.file(name), text.into()).await?;
    }
    note(format!("submitting {} examples at once …", EXAMPLES.len()));
    let board = Board::new();
    let uploads = EXAMPLES.map(async |example| {
        let receipt = submission(&problem, example)?.upload(clients, outputs).await?;
        Ok::<_, Error>((example, receipt, board.line(example.name)?))
    });
    let uploaded = try_join_all(uploads).await?.into_iter();
    let graded = uploaded.map(async |(example, receipt, mut line)| {
        let look = |stage| line.stage(stage);
        let results = receipt.results(clients, outputs, PATIENCE, look).await;
        finish(&mut line, &results);
        (example, results)
    });
    Ok(join_all(graded).await)
}

/// Its token is its name, so that each has an id of its own.
fn submission(problem: &Problem, example: Example) -> Result<Submission, Error> {
    let token = problem.student_token(&format!("{}@example.org", example.name));
    Submission::new(problem.clone(), None, vec![token], example.source.into())
}

fn finish(line: &mut Line, results: &Result<Results, Error>) {
    line.done(results.as_ref().map_or("no verdict", |it| it.verdict.as_str()));
}

fn show(example: &Example, results: &Result<Results, Error>) {
    out(format!("\n{}", example.name));
    match results {
        Ok(results) => {
            out(verdict::tests(results));
            out(verdict::summary(results));
        }
        Err(error) => out(crate::chain(error)),
    }
}

/// Prints the table of all; returns how many were not as expected.
fn summarize(graded: &[Graded]) -> usize {
    let mut table = verdict::table(&["example", "expected", "verdict", "passed", ""]);
    let mut unexpected = 0;
    for (example, results) in graded {
        let expected = example.expected().unwrap_or("?");
        let results = results.as_ref().ok();
        let verdict = results.map_or("none", |it| it.verdict.as_str());
        let passed = results.map(|it| format!("{} of {}", it.passed, it.total)).unwrap_or_default();
        let good = verdict == expected;
        unexpected += usize::from(!good);
        let mark = if good { "as expected" } else { "UNEXPECTED" };
        table.add_row([example.name, expected, verdict, &passed, mark]);
    }
    out(format!("\n{table}"));
    unexpected
}
