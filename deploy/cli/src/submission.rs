//! A submission from this side: two objects in a bucket, and later a row in a table.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use grading_worker::names::{Problem, Submission as Place};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    aws::Clients,
    bucket::{fetch, put},
    error::{Doing, Error},
    stack::Outputs,
    versions::{self, Rank},
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
    place: Place,
    /// The version of its json (the ETag on an endpoint without versions).
    json_version: String,
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
    /// A submission; where no id is given it follows from tokens, admin, event and problem. Without
    /// a token that would be one id for all, whose programs would supersede each other: then it is
    /// a random one.
    pub fn new(
        problem: Problem,
        subid: Option<String>,
        tokens: Vec<String>,
        source: Vec<u8>,
    ) -> Result<Self, Error> {
        let subid = subid.unwrap_or_else(|| match tokens.is_empty() {
            true => uuid::Uuid::new_v4().simple().to_string(),
            false => problem.submission_id(&tokens),
        });
        let place = Place::new(problem, &subid).map_err(Error::Usage)?;
        Ok(Submission { place, tokens, source })
    }

    /// Uploads the program, then the json. No message is sent: the bucket does.
    pub async fn upload(&self, clients: &Clients, outputs: &Outputs) -> Result<Receipt, Error> {
        let bucket = &outputs.submissions_bucket_name;
        let program = put(clients, bucket, &self.place.file("py"), self.source.clone()).await?;
        let json = self.json(program.version.as_deref());
        let json = put(clients, bucket, &self.place.file("json"), json).await?;
        let (subid, place) = (self.place.subid.clone(), self.place.clone());
        Ok(Receipt { subid, place, json_version: json.version.unwrap_or(json.tag) })
    }

    /// It names the version of its program where there are versions: another upload under the same
    /// id may come between the two.
    fn json(&self, py_version: Option<&str>) -> Vec<u8> {
        let Place { problem: Problem { admin, event, problem }, subid } = &self.place;
        let tokens = &self.tokens;
        let mut json = json!({"subid": subid, "admin": admin, "event": event, "problem": problem, "tokens": tokens});
        if let Some(version) = py_version {
            json["py_version"] = version.into();
        }
        json.to_string().into_bytes()
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
        let (mut pause, mut rank) = (FIRST_LOOK, None);
        loop {
            match self.row(clients, outputs).await? {
                Some(row) if self.is_mine(&row) => {
                    return self.results_of(&row, clients, outputs).await;
                }
                Some(other) => self.check_superseded(&other, &mut rank, clients, outputs).await?,
                None => {}
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

    /// The row of the submission: of this upload, or of another under the same id.
    async fn row(&self, clients: &Clients, outputs: &Outputs) -> Result<Option<Row>, Error> {
        let table = &outputs.submissions_table_name;
        let call = clients.dynamo.get_item().table_name(table).consistent_read(true);
        let call = call.key("subid", AttributeValue::S(self.subid.clone()));
        let call = call.key("place", AttributeValue::S(self.place.problem.to_string()));
        let answer = call.send().await;
        Ok(answer.doing(|| format!("reading submission {} of {table}", self.subid))?.item)
    }

    fn is_mine(&self, row: &Row) -> bool {
        text(row, "json_version").is_some_and(|version| version == self.json_version)
    }

    async fn results_of(
        &self,
        row: &Row,
        clients: &Clients,
        outputs: &Outputs,
    ) -> Result<Results, Error> {
        match text(row, "results_key") {
            Some(key) => fetch(clients, &outputs.submissions_bucket_name, &key).await,
            None => Ok(self.without_tests(row)),
        }
    }

    /// Fails if the row is that of a later upload: then this one will never have its own. `rank`
    /// is this upload's, once it was asked for.
    async fn check_superseded(
        &self,
        row: &Row,
        rank: &mut Option<Rank>,
        clients: &Clients,
        outputs: &Outputs,
    ) -> Result<(), Error> {
        if rank.is_none() {
            let (bucket, key) = (&outputs.submissions_bucket_name, self.place.file("json"));
            *rank = versions::rank(clients, bucket, &key, &self.json_version).await?;
        }
        let theirs = Rank { at: number(row, "submitted_at"), ordinal: number(row, "ordinal") };
        match rank.is_some_and(|mine| theirs < mine) {
            true => Ok(()),
            false => Err(Error::Superseded(self.subid.clone())),
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

async fn stage(clients: &Clients, queue: &str) -> Result<Stage, Error> {
    let depth = crate::depth::of(clients, queue).await?;
    Ok(match depth.visible {
        0 => Stage::Running,
        waiting => Stage::Queued { waiting },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(tokens: &[&str]) -> Submission {
        let problem = Problem::new("a", "e", "p").unwrap();
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        Submission::new(problem, None, tokens, Vec::new()).unwrap()
    }

    #[test]
    fn without_a_token_every_submission_has_an_id_of_its_own() {
        let (one, other) = (submission(&[]).place.subid, submission(&[]).place.subid);
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
        let team = |tokens| submission(tokens).place.subid;
        assert_eq!(team(&["t1", "t2"]), team(&["t2", "t1"]));
    }

    #[test]
    fn the_json_names_the_version_of_its_program_where_there_is_one() {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let submission = submission(&[]);
        let json = read(submission.json(Some("v1")));
        assert_eq!((&json["py_version"], &json["tokens"]), (&"v1".into(), &json!([])));
        assert!(read(submission.json(None)).get("py_version").is_none());
    }
}
