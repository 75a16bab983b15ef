//! Finds out what exactly a message asks to grade: which folder, and which versions in it.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_s3::types::ObjectVersion;
use flotilla_runtime::{
    Failure,
    failure::chain,
    store::{self, Missing},
};
use serde::Deserialize;

use crate::{
    message::GradingMessage,
    names::{Problem, Submission},
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

/// What the submission's json says of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The id, under either of its names.
    #[serde(alias = "submissionid")]
    pub subid: String,
    /// Who gives the event.
    pub admin: String,
    /// The event.
    pub event: String,
    /// The problem.
    pub problem: String,
    /// The tokens of the students who hand it in.
    pub tokens: Vec<String>,
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
            GradingMessage::Key { key, version } => {
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

    /// The folder of an id: as its last result says, else wherever it is in the bucket.
    async fn search(&self, subid: String) -> Result<Located, Failure> {
        let found = match self.known_place(&subid).await? {
            Some(known) => vec![known],
            None => self.listed_places(&subid).await?,
        };
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

    async fn known_place(&self, subid: &str) -> Result<Option<Submission>, Failure> {
        let call = self.dynamo.get_item().table_name(&self.table);
        let row = call.key("subid", Attr::S(subid.to_owned())).send().await;
        let row = row.map_err(|e| {
            Failure::transient("dynamodb", format!("GetItem {}: {}", self.table, chain(&e)))
        })?;
        let field = |name: &str| row.item()?.get(name)?.as_s().ok();
        let names = (field("admin"), field("event"), field("problem"));
        let (Some(admin), Some(event), Some(problem)) = names else {
            return Ok(None);
        };
        let place = Problem::new(admin, event, problem).and_then(|p| Submission::new(p, subid));
        Ok(place.ok())
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
        let listed = self.versions(&submission.folder()).await?;
        let jsons = of_key(&listed, &submission.file("json"));
        let Some(index) = chosen(&jsons, version) else {
            return Ok(absent(submission));
        };
        let json = jsons[index];
        let claims = self.claims(&submission, json).await?;
        let programs = of_key(&listed, &submission.file("py"));
        let belongs = if index == 0 { programs.first() } else { before(&programs, json) };
        let at = stored_at(json);
        let program = match belongs {
            Some(program) => self.program(&submission, program).await?,
            None => Err(missing_program(&submission, at)?),
        };
        Ok(HandedIn {
            json_version: version_of(json).to_owned(),
            at,
            ordinal: (jsons.len() - 1 - index) as u64,
            claims: Some(claims),
            program,
            submission,
        })
    }

    /// All versions of all files of a folder, the newest of each first.
    async fn versions(&self, folder: &str) -> Result<Vec<ObjectVersion>, Failure> {
        let (mut all, mut key, mut version) = (Vec::new(), None, None);
        loop {
            let call = self.s3.list_object_versions().bucket(&self.bucket).prefix(folder);
            let call = call.set_key_marker(key).set_version_id_marker(version);
            let page = call.send().await;
            let page = page.map_err(|e| self.unavailable("ListObjectVersions", folder, e))?;
            all.extend_from_slice(page.versions());
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
        let claims = serde_json::from_slice::<Claims>(&object.bytes).map_err(|e| {
            Failure::permanent("bad_json", format!("{key} is not a submission's json: {e}"))
        })?;
        let named = Problem::new(&claims.admin, &claims.event, &claims.problem)
            .and_then(|problem| Submission::new(problem, &claims.subid));
        named.map_err(|why| Failure::permanent("bad_json", format!("{key}: {why}")))?;
        Ok(claims)
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

fn of_key<'a>(listed: &'a [ObjectVersion], key: &str) -> Vec<&'a ObjectVersion> {
    let mut versions: Vec<_> = listed.iter().filter(|v| v.key() == Some(key)).collect();
    // S3 lists the newest first; a stable sort keeps that within one second.
    versions.sort_by_key(|version| std::cmp::Reverse(stored_at(version)));
    versions
}

/// The place of the version asked for, or of the newest.
fn chosen(versions: &[&ObjectVersion], wanted: Option<&str>) -> Option<usize> {
    match wanted.filter(|w| versions.iter().any(|v| version_of(v) == *w)) {
        Some(wanted) => versions.iter().position(|v| version_of(v) == wanted),
        None => (!versions.is_empty()).then_some(0),
    }
}

/// The program that was there when an older json was stored (it is uploaded first).
fn before<'a>(
    programs: &'a [&'a ObjectVersion],
    json: &ObjectVersion,
) -> Option<&'a &'a ObjectVersion> {
    programs.iter().find(|program| stored_at(program) <= stored_at(json)).or(programs.last())
}

fn version_of(version: &ObjectVersion) -> &str {
    let id = version.version_id().filter(|v| !v.is_empty() && *v != "null");
    id.or(version.e_tag()).unwrap_or_default().trim_matches('"')
}

fn stored_at(version: &ObjectVersion) -> SystemTime {
    let time = version.last_modified().and_then(|t| SystemTime::try_from(*t).ok());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
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
fn missing_program(submission: &Submission, since: SystemTime) -> Result<String, Failure> {
    let what = format!("the program {} is not in the bucket", submission.file("py"));
    let waited = since.elapsed().unwrap_or_default();
    match PROGRAM_WAIT.checked_sub(waited) {
        Some(left) if !left.is_zero() => {
            let delay = left.min(Duration::from_secs(5));
            Err(Failure::retry_after("program_missing", format!("{what} yet"), delay))
        }
        _ => Ok(format!("{what}, {} s after its json", PROGRAM_WAIT.as_secs())),
    }
}
