//! Finds out what exactly a message asks to grade: which folder, and which versions in it.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_s3::types::ObjectVersion;
use flotilla_runtime::{
    Failure,
    failure::chain,
    store::{self, Missing},
};

use crate::{
    claims::Claims,
    message::GradingMessage,
    names::{Problem, Submission},
    versions::{Belongs, Listing, stored_at, version_of},
};

/// A submission's json and program may have this many bytes each.
pub const FILE_LIMIT: u64 = 1024 * 1024;
/// How long after its json a program may still be on its way.
pub const PROGRAM_WAIT: Duration = Duration::from_secs(30);

/// The S3 and DynamoDB of submissions.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// DynamoDB.
    pub dynamo: aws_sdk_dynamodb::Client,
    /// The bucket of submissions, problems and results.
    pub bucket: String,
    /// The table of submissions.
    pub table: String,
}

/// A submission as it was handed in: its place, and one version of its files.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// Its place.
    pub submission: Submission,
    /// The version of the json; `absent` where there is none.
    pub json_version: String,
    /// When the json was stored.
    pub at: SystemTime,
    /// How many versions of the json came before: tells apart those of one second.
    pub ordinal: u64,
    /// What the json says.
    pub claims: Option<Claims>,
    /// The program, or why there is none to run.
    pub program: Result<Program, String>,
}

/// A version of the submitted program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where a message leads.
#[derive(Debug)]
pub enum Located {
    /// To this place, and this version of its json if the message names one.
    At(Submission, Option<String>),
    /// Nowhere, or to more than one place: the id and why.
    Nowhere(String, String),
}

impl Shelf {
    /// The place that a message names.
    ///
    /// # Errors
    /// Permanent for a key of another form; transient when AWS does not answer.
    pub async fn locate(&self, message: GradingMessage) -> Result<Located, Failure> {
        match message {
            GradingMessage::Key { key, version, bucket } => {
                self.check_bucket(bucket.as_deref())?;
                let submission = Submission::from_key(&key);
                let submission = submission.map_err(|why| Failure::permanent("bad_key", why))?;
                Ok(Located::At(submission, version))
            }
            GradingMessage::Id(subid) => self.search(subid).await,
            GradingMessage::Several(_) | GradingMessage::Nothing => {
                Err(Failure::permanent("no_submission", "the message names no submission"))
            }
        }
    }

    fn check_bucket(&self, named: Option<&str>) -> Result<(), Failure> {
        match named.filter(|name| *name != self.bucket) {
            Some(name) => {
                let ours = &self.bucket;
                let why = format!("the event is of bucket {name}, this worker grades {ours}");
                Err(Failure::permanent("other_bucket", why))
            }
            None => Ok(()),
        }
    }

    /// The folder of an id: as its results say, else wherever it is in the bucket.
    async fn search(&self, subid: String) -> Result<Located, Failure> {
        let mut found = self.known_places(&subid).await?;
        if found.is_empty() {
            found = self.listed_places(&subid).await?;
        }
        match <[_; 1]>::try_from(found) {
            Ok([submission]) => Ok(Located::At(submission, None)),
            Err(none) if none.is_empty() => {
                let why = format!("no {subid}/{subid}.json lies under submissions/");
                Ok(Located::Nowhere(subid, why))
            }
            Err(several) => {
                let places: Vec<_> = several.iter().map(Submission::folder).collect();
                let why = format!("{subid} is ambiguous: {}", places.join(", "));
                Ok(Located::Nowhere(subid, why))
            }
        }
    }

    async fn known_places(&self, subid: &str) -> Result<Vec<Submission>, Failure> {
        let query = self.dynamo.query().table_name(&self.table);
        let query = query.key_condition_expression("subid = :subid");
        let query = query.expression_attribute_values(":subid", Attr::S(subid.to_owned()));
        let rows = query.send().await.map_err(|e| {
            Failure::transient("dynamodb", format!("Query {}: {}", self.table, chain(&e)))
        })?;
        let place = |row: &HashMap<String, Attr>| {
            let field = |name: &str| row.get(name)?.as_s().ok();
            let problem = Problem::new(field("admin")?, field("event")?, field("problem")?);
            problem.and_then(|problem| Submission::new(problem, subid)).ok()
        };
        Ok(rows.items().iter().filter_map(place).collect())
    }

    async fn listed_places(&self, subid: &str) -> Result<Vec<Submission>, Failure> {
        let call = self.s3.list_objects_v2().bucket(&self.bucket).prefix("submissions/");
        let mut pages = call.into_paginator().send();
        let (mut found, name) = (Vec::new(), format!("/{subid}/{subid}.json"));
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| self.unavailable("ListObjectsV2", "submissions/", e))?;
            let keys = page.contents().iter().filter_map(|object| object.key());
            let hits = keys.filter(|key| key.ends_with(&name));
            found.extend(hits.filter_map(|key| Submission::from_key(key).ok()));
        }
        Ok(found)
    }

    /// What was handed in at a place: one version of the json and the program that belongs to it.
    ///
    /// # Errors
    /// Permanent for a json that is none, lacks a field or is too large. Transient while the
    /// program may still be on its way, and when AWS does not answer.
    pub async fn pick_up(
        &self,
        submission: Submission,
        version: Option<&str>,
    ) -> Result<HandedIn, Failure> {
        let (json_key, py_key) = (submission.file("json"), submission.file("py"));
        let listed = self.versions(&submission.folder()).await?;
        let Some(index) = listed.chosen(&json_key, version) else {
            return Ok(absent(submission));
        };
        let jsons = listed.of(&json_key);
        let json = jsons[index];
        let claims = self.claims(&submission, json).await?;
        let named = claims.py_version.as_deref();
        let program = match listed.belonging(&json_key, index, &py_key, named) {
            Belongs::Program(program) => self.program(&submission, program).await?,
            Belongs::Awaited(old) => {
                wait_for_program(&py_key, stored_at(json))?;
                match old {
                    Some(program) => self.program(&submission, program).await?,
                    None => Err(missing_program(&py_key)),
                }
            }
        };
        Ok(HandedIn {
            json_version: version_of(json).to_owned(),
            at: stored_at(json),
            ordinal: (jsons.len() - 1 - index) as u64,
            claims: Some(claims),
            program,
            submission,
        })
    }

    /// All versions of all files of a folder, the newest of each first.
    async fn versions(&self, folder: &str) -> Result<Listing, Failure> {
        let (mut all, mut key, mut version) = (Listing::default(), None, None);
        loop {
            let call = self.s3.list_object_versions().bucket(&self.bucket).prefix(folder);
            let call = call.set_key_marker(key).set_version_id_marker(version);
            let page = call.send().await;
            let page = page.map_err(|e| self.unavailable("ListObjectVersions", folder, e))?;
            all.add(page.versions(), page.delete_markers());
            if page.is_truncated() != Some(true) {
                return Ok(all);
            }
            key = page.next_key_marker().map(str::to_owned);
            version = page.next_version_id_marker().map(str::to_owned);
        }
    }

    async fn claims(&self, at: &Submission, json: &ObjectVersion) -> Result<Claims, Failure> {
        let key = at.file("json");
        let version = Some(version_of(json));
        let object = store::fetch(&self.s3, &self.bucket, &key, version, FILE_LIMIT).await;
        let object = object.map_err(|missing| match missing {
            Missing::TooLarge(size) => {
                let why = format!("{key} has {size} bytes; a submission's json has at most 1 MiB");
                Failure::permanent("json_too_large", why)
            }
            Missing::Absent => {
                Failure::transient("s3", format!("{key} vanished while it was read"))
            }
            Missing::Unavailable(failure) => failure,
        })?;
        Claims::parse(&object.bytes).map_err(|why| {
            Failure::permanent("bad_json", format!("{key} is not a submission's json: {why}"))
        })
    }

    async fn program(
        &self,
        at: &Submission,
        program: &ObjectVersion,
    ) -> Result<Result<Program, String>, Failure> {
        let key = at.file("py");
        let version = version_of(program);
        match store::fetch(&self.s3, &self.bucket, &key, Some(version), FILE_LIMIT).await {
            Ok(object) => Ok(Ok(Program { version: version.to_owned(), bytes: object.bytes })),
            Err(Missing::TooLarge(size)) => {
                Ok(Err(format!("the program {key} has {size} bytes; at most 1 MiB is graded")))
            }
            Err(Missing::Absent) => {
                Err(Failure::transient("s3", format!("{key} vanished while it was read")))
            }
            Err(Missing::Unavailable(failure)) => Err(failure),
        }
    }

    fn unavailable<E>(&self, call: &str, prefix: &str, error: E) -> Failure
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Failure::transient("s3", format!("{call} {}/{prefix}: {}", self.bucket, chain(&error)))
    }
}

fn absent(submission: Submission) -> HandedIn {
    let why = format!("{} is not in the bucket", submission.file("json"));
    HandedIn {
        submission,
        json_version: "absent".to_owned(),
        at: SystemTime::UNIX_EPOCH,
        ordinal: 0,
        claims: None,
        program: Err(why),
    }
}

/// The program is waited for first, and then its absence is the result.
fn wait_for_program(key: &str, since: SystemTime) -> Result<(), Failure> {
    let waited = since.elapsed().unwrap_or_default();
    match PROGRAM_WAIT.checked_sub(waited) {
        Some(left) if !left.is_zero() => {
            let delay = left.min(Duration::from_secs(5));
            let what = format!("the program {key} is not in the bucket yet");
            Err(Failure::retry_after("program_missing", what, delay))
        }
        _ => Ok(()),
    }
}

fn missing_program(key: &str) -> String {
    let seconds = PROGRAM_WAIT.as_secs();
    format!("the program {key} is not in the bucket, {seconds} s after its json")
}
