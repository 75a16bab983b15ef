//! `flotilla submit`: a program in, a verdict out.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use grading_worker::names::Problem;

use crate::{
    console::out,
    error::{Doing, Error},
    progress::Board,
    submission::{Receipt, Results, Submission},
    target::{self, Target},
    verdict,
};

/// Submits a Python program to a problem and follows it to its verdict.
///
/// The program and its json are uploaded; the bucket tells the queue. Who submits again under the
/// same id (that of the same tokens) supersedes what was submitted before; without a token, an
/// email or an id, every submission gets an id of its own. Exit codes: 0 AC, 10 WA, 11 TLE, 12
/// WTLE, 13 MLE, 14 OLE, 15 RTE, 16 NO-OUTPUT, 20 IE (not graded, and not the program's fault), 21
/// superseded by a later submission, 22 any other verdict; 1 failed, 2 a refused argument, 3 no
/// verdict in time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program.
    #[arg(value_name = "FILE.py")]
    file: PathBuf,
    #[command(flatten)]
    target: target::Which,
    #[command(flatten)]
    problem: ProblemArgs,
    /// A token of a student who submits it; say it once for each.
    #[arg(long = "token", value_name = "TOKEN")]
    tokens: Vec<String>,
    /// The mail address of a student, in place of the token that is made of it.
    #[arg(long = "email", value_name = "ADDRESS")]
    emails: Vec<String>,
    /// The submission's id. [default: made of tokens, admin, event and problem; without a token
    /// or an email a random one]
    #[arg(long, value_name = "ID")]
    subid: Option<String>,
    /// How many seconds to wait for the verdict.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
    /// Ends after the upload.
    #[arg(long)]
    no_wait: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Names a problem.
#[derive(Debug, clap::Args)]
pub(crate) struct ProblemArgs {
    /// Who gives the event.
    #[arg(long)]
    admin: String,
    /// The event.
    #[arg(long)]
    event: String,
    /// The problem.
    #[arg(long)]
    problem: String,
}

impl ProblemArgs {
    pub(crate) fn problem(&self) -> Result<Problem, Error> {
        Problem::new(&self.admin, &self.event, &self.problem).map_err(Error::Usage)
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Error> {
    let submission = submission(&args)?;
    let target = Target::find(&args.target).await?;
    let outputs = target.stack.outputs();
    let receipt = submission.upload(&target.clients, outputs).await?;
    if args.no_wait {
        out(&receipt.subid);
        return Ok(ExitCode::SUCCESS);
    }
    let results = follow(&target, &receipt, Duration::from_secs(args.timeout)).await?;
    show(&results, args.json)?;
    Ok(ExitCode::from(verdict::exit_code(&results.verdict)))
}

/// Everything is checked before anything is uploaded.
fn submission(args: &Args) -> Result<Submission, Error> {
    let problem = args.problem.problem()?;
    let source = std::fs::read(&args.file);
    let source = source.doing(|| format!("reading {}", args.file.display()))?;
    let made = args.emails.iter().map(|email| problem.student_token(email));
    let tokens = args.tokens.iter().cloned().chain(made).collect();
    Submission::new(problem, args.subid.clone(), tokens, source)
}

async fn follow(target: &Target, receipt: &Receipt, patience: Duration) -> Result<Results, Error> {
    let mut line = Board::new().line("submission")?;
    let outputs = target.stack.outputs();
    let results =
        receipt.results(&target.clients, outputs, patience, |stage| line.stage(stage)).await?;
    line.done(&results.verdict);
    Ok(results)
}

fn show(results: &Results, json: bool) -> Result<(), Error> {
    if json {
        let text = serde_json::to_string_pretty(results);
        out(text.map_err(|e| Error::Fleet(e.to_string()))?);
        return Ok(());
    }
    if !results.tests.is_empty() {
        out(verdict::tests(results));
    }
    out(verdict::summary(results));
    Ok(())
}
