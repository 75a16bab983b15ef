//! A submission from this side: two objects in a bucket, and later a row in a table.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use grading_worker::names::{Problem, Submission as Place};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    aws::Clients,
    error::{Doing, Error},
    stack::Outputs,
};

const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_millis(500);

/// A program, and what it answers.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its place in the bucket: the problem that it answers, and its id.
    pub place: Place,
    /// The tokens of the students who submit it.
    pub tokens: Vec<String>,
    /// The Python program.
    pub source: Vec<u8>,
}

/// What is known of an uploaded submission; its verdict is found by it.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The submission's id.
    pub subid: String,
    /// The version of its json (the ETag on an endpoint without versions).
    json_version: String,
    /// When it was uploaded, in seconds of unix time, by this machine's clock.
    uploaded_at: u64,
}

/// How far a submission is, as far as can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Messages wait in the queue, this one perhaps among them.
    Queued {
        /// How many wait, about.
        waiting: u64,
    },
    /// No message waits, so workers hold all that are not done.
    Running,
}

/// The result of a submission, as `results.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// The submission's id.
    pub subid: String,
    /// AC, WA, TLE, WTLE, MLE, OLE, RTE, NO-OUTPUT or IE.
    pub verdict: String,
    /// Why it could not be graded, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Tests passed.
    pub passed: u64,
    /// Tests in all.
    pub total: u64,
    /// The tests, in their order.
    pub tests: Vec<TestResult>,
}

/// The result of one test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestResult {
    /// Its number, from 1.
    pub number: u64,
    /// The arguments.
    pub input: String,
    /// The expected output.
    pub expected: String,
    /// The program's output.
    pub actual: String,
    /// Its verdict.
    pub verdict: String,
    /// How the program ended, for example `exited 0`.
    pub exit: String,
    /// CPU time, in milliseconds.
    pub cpu_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_ms: u64,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// The beginning of standard error.
    #[serde(default)]
    pub stderr: String,
}

impl Submission {
    /// A submission; where no id is given it follows from tokens, admin, event and problem.
    pub fn new(
        problem: Problem,
        subid: Option<String>,
        tokens: Vec<String>,
        source: Vec<u8>,
    ) -> Result<Self, Error> {
        let subid = subid.unwrap_or_else(|| problem.submission_id(&tokens));
        let place = Place::new(problem, &subid).map_err(Error::Usage)?;
        Ok(Submission { place, tokens, source })
    }

    /// Uploads the program, then the json. No message is sent: the bucket does.
    pub async fn upload(&self, clients: &Clients, outputs: &Outputs) -> Result<Receipt, Error> {
        let bucket = &outputs.submissions_bucket_name;
        let program = self.place.file("py");
        put(clients, bucket, &program, self.source.clone()).await?;
        let uploaded_at = unix_seconds();
        let json = self.place.file("json");
        let json_version = put(clients, bucket, &json, self.json()).await?;
        Ok(Receipt { subid: self.place.subid.clone(), json_version, uploaded_at })
    }

    fn json(&self) -> Vec<u8> {
        let Place { problem: Problem { admin, event, problem }, subid } = &self.place;
        let tokens = &self.tokens;
        json!({"subid": subid, "admin": admin, "event": event, "problem": problem, "tokens": tokens})
            .to_string()
            .into_bytes()
    }
}

impl Receipt {
    /// Waits for the result of exactly this upload, at most `patience`. `look` hears how far it
    /// is after every look that found none.
    pub async fn results(
        &self,
        clients: &Clients,
        outputs: &Outputs,
        patience: Duration,
        mut look: impl FnMut(Stage),
    ) -> Result<Results, Error> {
        let start = Instant::now();
        let mut pause = FIRST_LOOK;
        loop {
            if let Some(row) = self.row(clients, outputs).await? {
                return match text(&row, "results_key") {
                    Some(key) => fetch(clients, &outputs.submissions_bucket_name, &key).await,
                    None => Ok(self.without_tests(&row)),
                };
            }
            if start.elapsed() > patience {
                return Err(self.timed_out(patience));
            }
            look(stage(clients, &outputs.grading_queue_url).await?);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    fn timed_out(&self, patience: Duration) -> Error {
        let what = format!(
            "no verdict for submission {} (`flotilla status` shows the queue, its dead letters \
             and the workers)",
            self.subid
        );
        Error::Timeout { what, seconds: patience.as_secs() }
    }

    /// The row of the submission, once it is that of this upload.
    async fn row(&self, clients: &Clients, outputs: &Outputs) -> Result<Option<Row>, Error> {
        let table = &outputs.submissions_table_name;
        let call = clients.dynamo.get_item().table_name(table).consistent_read(true);
        let answer = call.key("subid", AttributeValue::S(self.subid.clone())).send().await;
        let row = answer.doing(|| format!("reading submission {} of {table}", self.subid))?.item;
        let Some(row) = row else { return Ok(None) };
        if text(&row, "json_version").is_some_and(|version| version == self.json_version) {
            return Ok(Some(row));
        }
        match number(&row, "submitted_at") > self.uploaded_at + CLOCK_SLACK {
            false => Ok(None),
            true => Err(Error::Fleet(format!(
                "submission {} was submitted again meanwhile, and the newer one counts",
                self.subid
            ))),
        }
    }

    /// What a row alone says: there is no results.json of what could not be tested.
    fn without_tests(&self, row: &Row) -> Results {
        Results {
            subid: self.subid.clone(),
            verdict: text(row, "verdict").unwrap_or_default(),
            reason: text(row, "reason"),
            passed: number(row, "passed"),
            total: number(row, "total"),
            tests: Vec::new(),
        }
    }
}

type Row = HashMap<String, AttributeValue>;

fn text(row: &Row, name: &str) -> Option<String> {
    row.get(name)?.as_s().ok().cloned()
}

fn number(row: &Row, name: &str) -> u64 {
    let digits = row.get(name).and_then(|value| value.as_n().ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// How far this machine's clock and the bucket's may be apart, in seconds, before a result counts
/// as that of a later upload.
const CLOCK_SLACK: u64 = 5;

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Uploads bytes; returns the version, or the ETag where there are no versions.
pub(crate) async fn put(
    clients: &Clients,
    bucket: &str,
    key: &str,
    bytes: Vec<u8>,
) -> Result<String, Error> {
    let call = clients.s3.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes));
    let answer = call.send().await.doing(|| format!("uploading s3://{bucket}/{key}"))?;
    let tag = answer.e_tag.map(|tag| tag.trim_matches('"').to_owned());
    Ok(answer.version_id.or(tag).unwrap_or_default())
}

async fn fetch(clients: &Clients, bucket: &str, key: &str) -> Result<Results, Error> {
    let doing = || format!("reading s3://{bucket}/{key}");
    let answer = clients.s3.get_object().bucket(bucket).key(key).send().await.doing(doing)?;
    let bytes =
        answer.body.collect().await.map_err(|e| Error::Fleet(format!("{}: {e}", doing())))?;
    serde_json::from_slice(&bytes.into_bytes())
        .map_err(|e| Error::Fleet(format!("{}: it is no result: {e}", doing())))
}

async fn stage(clients: &Clients, queue: &str) -> Result<Stage, Error> {
    let depth = crate::depth::of(clients, queue).await?;
    Ok(match depth.visible {
        0 => Stage::Running,
        waiting => Stage::Queued { waiting },
    })
}
