//! Submissions, as a student's browser makes them: the program first, then the json.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};

use crate::{wait::eventually, world::World};

/// A submission that was handed in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its id.
    pub subid: String,
    /// Its folder's problem: `admin/event/problem`.
    pub problem: String,
    /// The version of its json.
    pub json_version: String,
}

impl Submission {
    /// A key in its folder: `submissions/<admin>/<event>/<problem>/<subid>/<subid>.<extension>`.
    pub fn key(&self, extension: &str) -> String {
        format!("submissions/{}/{1}/{1}.{extension}", self.problem, self.subid)
    }

    /// A key in its output folder.
    pub fn output(&self, file: &str) -> String {
        format!("output/{}/{}/{file}", self.problem, self.subid)
    }
}

/// The notification that S3 sends for a version of an object.
pub fn s3_event(bucket: &str, key: &str, version: &str) -> String {
    let object = json!({ "key": key, "versionId": version, "size": 1, "eTag": "e" });
    let record = json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": { "bucket": { "name": bucket }, "object": object },
    });
    json!({ "Records": [record] }).to_string()
}

impl World {
    /// Stores an object in the submissions bucket; gives its version.
    pub async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> String {
        let body = ByteStream::from(bytes.into());
        let call = self.aws.s3.put_object().bucket(&self.outputs().submissions_bucket_name);
        let stored = call.key(key).body(body).send().await.expect("PutObject");
        stored.version_id().or(stored.e_tag()).unwrap_or_default().to_owned()
    }

    /// The bytes of an object in the submissions bucket, if it is there.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let call = self.aws.s3.get_object().bucket(&self.outputs().submissions_bucket_name);
        let object = call.key(key).send().await.ok()?;
        Some(object.body.collect().await.expect("a body").to_vec())
    }

    /// The keys below a prefix of the submissions bucket.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let call = self.aws.s3.list_objects_v2().bucket(&self.outputs().submissions_bucket_name);
        let listed = call.prefix(prefix).send().await.expect("ListObjectsV2");
        listed.contents().iter().filter_map(|o| o.key().map(str::to_owned)).collect()
    }

    /// Stores the tests of a problem (`admin/event/problem`).
    pub async fn problem(&self, problem: &str, inputs: &str, outputs: &str) {
        self.put(&format!("problems/{problem}/test.in"), inputs).await;
        self.put(&format!("problems/{problem}/test.out"), outputs).await;
    }

    /// Sets what a run of a problem may use.
    pub async fn limits(&self, problem: &str, limits: Value) {
        let text = json!({ "limits": limits }).to_string();
        self.put(&format!("problems/{problem}/problem.json"), text).await;
    }

    /// Hands in a program: first the program, then the json, and no message.
    pub async fn submit(&self, problem: &str, subid: &str, program: &str) -> Submission {
        self.put(&format!("submissions/{problem}/{subid}/{subid}.py"), program).await;
        self.submit_json(problem, subid).await
    }

    /// Hands in the json alone.
    pub async fn submit_json(&self, problem: &str, subid: &str) -> Submission {
        let names: Vec<_> = problem.split('/').collect();
        let json = json!({
            "subid": subid, "admin": names[0], "event": names[1], "problem": names[2],
            "tokens": ["d823640ab3b0f7a4a2bc9fc89661e940"],
        });
        let key = format!("submissions/{problem}/{subid}/{subid}.json");
        let json_version = self.put(&key, json.to_string()).await;
        Submission { subid: subid.to_owned(), problem: problem.to_owned(), json_version }
    }

    /// The row of an id, if there is one, in whatever place.
    pub async fn row(&self, subid: &str) -> Option<HashMap<String, Attr>> {
        self.rows(subid).await.pop()
    }

    /// The rows of an id: one for each place, and one if it led to none.
    pub async fn rows(&self, subid: &str) -> Vec<HashMap<String, Attr>> {
        let call = self.aws.dynamo.query().table_name(&self.outputs().submissions_table_name);
        let call = call.key_condition_expression("subid = :subid").consistent_read(true);
        let call = call.expression_attribute_values(":subid", Attr::S(subid.to_owned()));
        call.send().await.expect("Query").items.unwrap_or_default()
    }

    /// Waits for the verdict of this very submission.
    pub async fn verdict(&self, submission: &Submission) -> String {
        let what = format!("a verdict of {}", submission.subid);
        eventually(&what, Duration::from_secs(90), async || {
            let rows = self.rows(&submission.subid).await;
            let place = Attr::S(submission.problem.clone());
            let row = rows.into_iter().find(|row| row.get("place") == Some(&place))?;
            let same =
                row.get("json_version")?.as_s().ok()? == submission.json_version.trim_matches('"');
            same.then(|| row["verdict"].as_s().expect("a string").clone())
        })
        .await
    }

    /// Waits for the verdict, and gives `results.json` under its fixed name.
    pub async fn results(&self, submission: &Submission) -> Value {
        self.verdict(submission).await;
        let key = submission.output("results.json");
        eventually(&key, Duration::from_secs(30), async || {
            let results: Value = serde_json::from_slice(&self.get(&key).await?).expect("JSON");
            (results["json_version"] == submission.json_version.trim_matches('"'))
                .then_some(results)
        })
        .await
    }

    /// The rows of the ledger.
    pub async fn ledger(&self) -> Vec<HashMap<String, Attr>> {
        let call = self.aws.dynamo.scan().table_name(&self.outputs().ledger_table_name);
        call.consistent_read(true).send().await.expect("Scan").items.unwrap_or_default()
    }
}
