//! The grading job: from a message to a durable verdict.

use aws_config::SdkConfig;
use flotilla_runtime::{Completion, Delivery, Effect, Failure, Job, Lease, aws, payload::hex};
use flotilla_sandbox::{Sandbox, SandboxConfig};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::{
    config::GradingConfig,
    grade::{Stopped, grade, sandbox_failure},
    locate::{HandedIn, Located, Shelf},
    message::GradingMessage,
    problem::Tests,
    publish::RunPlace,
    result::{Graded, Identity, TestResult},
    verdict::Verdict,
};

/// Grades submissions.
#[derive(Debug)]
pub struct Grading {
    shelf: Shelf,
    cells: Cells,
}

/// The sandbox, connected when it is first needed: Docker may be up later than the worker.
#[derive(Debug)]
struct Cells {
    config: SandboxConfig,
    sandbox: OnceCell<Sandbox>,
}

/// A message with all that was looked up for it.
#[derive(Debug)]
pub enum Work {
    /// A submission to grade, or the reason why it cannot be.
    Submission(Box<ToGrade>),
    /// An id that leads nowhere, and why.
    Nowhere(String, String),
    /// Records of one event, to be sent on one by one.
    Split(Vec<serde_json::Value>),
    /// Nothing.
    Nothing,
}

/// A submission with its tests.
#[derive(Debug)]
pub struct ToGrade {
    handed_in: HandedIn,
    tests: Result<Tests, String>,
    effect: String,
}

impl Cells {
    async fn get(&self) -> Result<&Sandbox, Failure> {
        let connect = || Sandbox::connect(self.config.clone());
        self.sandbox.get_or_try_init(connect).await.map_err(sandbox_failure)
    }
}

impl Grading {
    /// The job, on the SDK's endpoint.
    pub fn new(config: GradingConfig, sdk: &SdkConfig) -> Self {
        let shelf = Shelf {
            s3: aws::s3_client(sdk),
            dynamo: aws::dynamo_client(sdk),
            bucket: config.bucket,
            table: config.table,
        };
        let cells = Cells { config: config.sandbox, sandbox: OnceCell::new() };
        Self { shelf, cells }
    }

    async fn look_up(&self, message: GradingMessage) -> Result<(Effect, Work), Failure> {
        let (submission, version) = match self.shelf.locate(message).await? {
            Located::At(submission, version) => (submission, version),
            Located::Nowhere(subid, why) => {
                return Ok((Effect::Idempotent, Work::Nowhere(subid, why)));
            }
        };
        let handed_in = self.shelf.pick_up(submission, version.as_deref()).await?;
        let tests = self.shelf.tests(&handed_in.submission.problem).await?;
        let effect = effect_key(&handed_in, &tests);
        let work = ToGrade { handed_in, tests, effect: effect.clone() };
        Ok((Effect::Once(effect), Work::Submission(Box::new(work))))
    }

    /// Grades, and makes the result durable.
    async fn grade(&self, work: &ToGrade, lease: &Lease) -> Result<(), Failure> {
        let handed_in = &work.handed_in;
        let outcome = match (&handed_in.program, &work.tests) {
            (Ok(program), Ok(tests)) => {
                let sandbox = self.cells.get().await?;
                grade(sandbox, &handed_in.submission, program, tests).await
            }
            (Err(why), _) | (_, Err(why)) => Err(Stopped::Unrunnable(why.clone())),
        };
        match outcome {
            Ok(tests) => self.publish(work, lease, graded(work, tests, None)).await,
            Err(Stopped::Unrunnable(why)) => {
                self.publish(work, lease, graded(work, Vec::new(), Some(why))).await
            }
            Err(Stopped::Ours(failure)) => Err(failure),
        }
    }

    async fn publish(&self, work: &ToGrade, lease: &Lease, graded: Graded) -> Result<(), Failure> {
        let graded = Graded { image: self.image_id(), ..graded };
        let handed_in = &work.handed_in;
        let place = RunPlace::new(&handed_in.submission, &work.effect, lease.generation());
        self.shelf.store_run(&place, &graded).await?;
        let row = self.shelf.row(handed_in, &graded, &place, lease.generation())?;
        match lease.complete(vec![row]).await? {
            Completion::Committed => self.announce(work, &graded),
            Completion::Refused => {
                // A newer submission has its result already: this one is done with, its bytes
                // are kept under its run.
                tracing::info!(submission = %handed_in.submission, "superseded by a newer one");
                lease.complete(Vec::new()).await?;
            }
        }
        self.shelf.project(&handed_in.submission).await
    }

    fn announce(&self, work: &ToGrade, graded: &Graded) {
        let (submission, verdict) = (&work.handed_in.submission, graded.verdict);
        let (passed, total) = (graded.passed, graded.total);
        tracing::info!(%submission, %verdict, passed, total, reason = graded.reason, "graded");
        metrics::counter!(crate::metrics::VERDICTS, "verdict" => verdict.name()).increment(1);
        let turnaround = work.handed_in.at.elapsed().unwrap_or_default();
        metrics::histogram!(crate::metrics::TURNAROUND).record(turnaround);
    }

    fn image_id(&self) -> Option<String> {
        self.cells.sandbox.get().map(|sandbox| sandbox.image_id().to_owned())
    }
}

impl Job for Grading {
    const NAME: &'static str = "grading";
    type Message = GradingMessage;
    type Work = Work;

    fn tenant(message: &GradingMessage) -> Option<String> {
        message.admin()
    }

    async fn ready(&self) -> Result<(), Failure> {
        self.cells.get().await?.check().await.map_err(sandbox_failure)
    }

    fn describe_metrics(&self) {
        crate::metrics::describe();
    }

    fn image(&self, _: Option<&GradingMessage>) -> Option<String> {
        self.image_id()
    }

    /// Removes every cell.
    async fn end(&self) {
        if let Some(sandbox) = self.cells.sandbox.get() {
            sandbox.shutdown().await;
        }
    }

    async fn prepare(
        &self,
        message: GradingMessage,
        _: &Delivery,
    ) -> Result<(Effect, Work), Failure> {
        match message {
            GradingMessage::Nothing => Ok((Effect::Idempotent, Work::Nothing)),
            GradingMessage::Several(records) => Ok((Effect::Idempotent, Work::Split(records))),
            message => self.look_up(message).await,
        }
    }

    async fn run(&self, work: Work, lease: &Lease) -> Result<(), Failure> {
        match work {
            Work::Submission(work) => self.grade(&work, lease).await,
            Work::Nowhere(subid, why) => self.shelf.note_nowhere(&subid, &why).await,
            Work::Split(records) => {
                for record in records {
                    let body = serde_json::json!({ "Records": [record] }).to_string();
                    lease.send(&body).await?;
                }
                Ok(())
            }
            Work::Nothing => Ok(()),
        }
    }

    /// The student learns that it was not their doing; a redrive grades it after all.
    async fn give_up(&self, work: Work, lease: &Lease, reason: &str) -> Result<(), Failure> {
        let Work::Submission(work) = work else { return Ok(()) };
        let reason = format!("internal error: {reason}");
        let graded = graded(&work, Vec::new(), Some(reason));
        let handed_in = &work.handed_in;
        let place = RunPlace::given_up(&handed_in.submission, &work.effect, lease.generation());
        self.shelf.store_run(&place, &graded).await?;
        let row = self.shelf.row(handed_in, &graded, &place, lease.generation())?;
        lease.record(vec![row]).await?;
        self.shelf.project(&handed_in.submission).await
    }

    async fn repair(&self, work: Work) -> Result<(), Failure> {
        match work {
            Work::Submission(work) => self.shelf.project(&work.handed_in.submission).await,
            _ => Ok(()),
        }
    }
}

/// Names the effect: this submission, these versions of its files, these tests.
fn effect_key(handed_in: &HandedIn, tests: &Result<Tests, String>) -> String {
    let submission = &handed_in.submission;
    let program = handed_in.program.as_ref().map_or("absent", |program| &program.version);
    let tests = tests.as_ref().map_or_else(String::as_str, |tests| &tests.hash);
    let parts = [&submission.to_string(), handed_in.json_version.as_str(), program, tests];
    format!("{}/{}", submission.subid, hex(&Sha256::digest(parts.join("\n"))))
}

/// The result of these tests, or of none for this reason.
fn graded(work: &ToGrade, tests: Vec<TestResult>, reason: Option<String>) -> Graded {
    let HandedIn { submission, json_version, program, .. } = &work.handed_in;
    let verdict = match reason {
        Some(_) => Verdict::Ie,
        None => Verdict::combined(tests.iter().map(|test| test.verdict)),
    };
    Graded {
        subid: submission.subid.clone(),
        admin: submission.problem.admin.clone(),
        event: submission.problem.event.clone(),
        problem: submission.problem.problem.clone(),
        verdict,
        reason,
        passed: tests.iter().filter(|test| test.pass).count(),
        total: work.tests.as_ref().map_or(0, |tests| tests.cases.len()),
        identity: identity(work),
        json_version: json_version.clone(),
        py_version: program.as_ref().ok().map(|program| program.version.clone()),
        tests_hash: work.tests.as_ref().ok().map(|tests| tests.hash.clone()),
        image: None,
        tests,
    }
}

fn identity(work: &ToGrade) -> Identity {
    let submission = &work.handed_in.submission;
    let Some(claims) = &work.handed_in.claims else {
        return Identity { id_matches: false, names_match: false, tokens_known: None };
    };
    let problem = &submission.problem;
    let names_match = claims.place == *submission && !claims.two_ids;
    let emails = work.tests.as_ref().ok().and_then(|tests| tests.emails.as_ref());
    let tokens_known = emails.map(|emails| {
        let known: Vec<_> = emails.iter().map(|email| problem.student_token(email)).collect();
        claims.tokens.iter().all(|token| known.contains(token))
    });
    Identity {
        id_matches: problem.submission_id(&claims.tokens) == submission.subid,
        names_match,
        tokens_known,
    }
}
