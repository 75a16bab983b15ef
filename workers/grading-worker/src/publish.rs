//! Makes a result durable, once: bytes under their run, then the row that points to them, then
//! the fixed names as a projection of the row.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, Put, TransactWriteItem};
use flotilla_runtime::{Failure, failure::chain, store};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    locate::{HandedIn, Shelf},
    names::Submission,
    result::Graded,
    verdict::Verdict,
};

/// What need not be escaped in a copy source: the path stays readable.
const IN_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The place in the row of an id that leads to no place.
const NOWHERE: &str = "-";

/// Where the bytes of one run lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlace {
    /// The key of `results.json`.
    pub results: String,
    /// The key of `<subid>.out`.
    pub output: String,
}

impl RunPlace {
    /// The place of the run that holds the claim `generation` of the effect with this key. No
    /// other run, of this worker or another, writes there.
    pub fn new(submission: &Submission, effect_key: &str, generation: u64) -> Self {
        let effect: String = effect_key.chars().rev().take(12).collect();
        Self::within(submission, &format!("{effect}-{generation}"))
    }

    /// The place of what is told where that run is given up: the run may have committed all the same,
    /// and nobody has heard of it.
    pub fn given_up(submission: &Submission, effect_key: &str, generation: u64) -> Self {
        let effect: String = effect_key.chars().rev().take(12).collect();
        Self::within(submission, &format!("{effect}-{generation}-given-up"))
    }

    fn within(submission: &Submission, run: &str) -> Self {
        let folder = format!("{}runs/{run}/", submission.output());
        let output = format!("{folder}{}.out", submission.subid);
        Self { results: format!("{folder}results.json"), output }
    }
}

impl Shelf {
    /// Stores the bytes of a run under its own place.
    ///
    /// # Errors
    /// Transient, when S3 does not take them.
    pub async fn store_run(&self, place: &RunPlace, graded: &Graded) -> Result<(), Failure> {
        let (json, csv) = (graded.json()?, graded.csv()?);
        tokio::try_join!(
            store::put(&self.s3, &self.bucket, &place.results, json, "application/json"),
            store::put(&self.s3, &self.bucket, &place.output, csv, "text/csv; charset=utf-8"),
        )?;
        Ok(())
    }

    /// The row that makes a result the submission's. It is refused where the row of a newer
    /// submission stands.
    ///
    /// # Errors
    /// Never for what this program makes; permanent if it should.
    pub fn row(
        &self,
        handed_in: &HandedIn,
        graded: &Graded,
        place: &RunPlace,
        generation: u64,
    ) -> Result<TransactWriteItem, Failure> {
        let at = seconds(handed_in.at);
        let newer = "attribute_not_exists(submitted_at) OR submitted_at < :at \
                     OR (submitted_at = :at AND ordinal <= :ordinal)";
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(handed_in, graded, place, generation)))
            .condition_expression(newer)
            .expression_attribute_values(":at", number(at))
            .expression_attribute_values(":ordinal", number(handed_in.ordinal))
            .build();
        let put = put.map_err(|e| Failure::permanent("request", "a result row").caused_by(e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Notes that an id leads to no submission, or to more than one.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn note_nowhere(&self, subid: &str, why: &str) -> Result<(), Failure> {
        let call = self.dynamo.put_item().table_name(&self.table);
        let row = call
            .item("subid", text(subid))
            .item("place", text(NOWHERE))
            .item("verdict", text(Verdict::Ie.name()))
            .item("reason", text(why))
            .item("graded_at", number(seconds(SystemTime::now())));
        row.send().await.map(drop).map_err(|e| {
            Failure::transient("dynamodb", format!("PutItem {}: {}", self.table, chain(&e)))
        })
    }

    /// Copies what the row points to under the fixed names, until the row has stood still
    /// meanwhile: whoever comes last, the names end up with what the row says.
    ///
    /// # Errors
    /// Transient, when AWS does not answer.
    pub async fn project(&self, submission: &Submission) -> Result<(), Failure> {
        let mut projected = None;
        loop {
            let current = self.current(submission).await?;
            if current.is_none() || current == projected {
                return Ok(());
            }
            if let Some(run) = &current {
                let fixed = submission.output();
                let output = format!("{fixed}{}.out", submission.subid);
                self.copy(&run.output, &output).await?;
                self.copy(&run.results, &format!("{fixed}results.json")).await?;
            }
            projected = current;
        }
    }

    /// The run that the row points to.
    async fn current(&self, submission: &Submission) -> Result<Option<RunPlace>, Failure> {
        let call = self.dynamo.get_item().table_name(&self.table).consistent_read(true);
        let call = call.key("subid", text(&submission.subid));
        let row = call.key("place", text(&submission.problem.to_string())).send().await;
        let row = row.map_err(|e| {
            Failure::transient("dynamodb", format!("GetItem {}: {}", self.table, chain(&e)))
        })?;
        let field = |name: &str| row.item()?.get(name)?.as_s().ok().cloned();
        let place = field("results_key").zip(field("output_key"));
        Ok(place.map(|(results, output)| RunPlace { results, output }))
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), Failure> {
        let source = format!("{}/{}", self.bucket, utf8_percent_encode(from, IN_PATH));
        let call = self.s3.copy_object().bucket(&self.bucket).key(to).copy_source(source);
        let failed =
            |e| Failure::transient("s3", format!("CopyObject {from} to {to}: {}", chain(&e)));
        call.send().await.map(drop).map_err(failed)
    }
}

fn item(
    handed_in: &HandedIn,
    graded: &Graded,
    place: &RunPlace,
    generation: u64,
) -> HashMap<String, Attr> {
    let optional = [("py_version", &graded.py_version), ("reason", &graded.reason)];
    let optional = optional.into_iter().filter_map(|(name, v)| Some((name, text(v.as_ref()?))));
    [
        ("subid", text(&graded.subid)),
        ("place", text(&handed_in.submission.problem.to_string())),
        ("admin", text(&graded.admin)),
        ("event", text(&graded.event)),
        ("problem", text(&graded.problem)),
        ("verdict", text(graded.verdict.name())),
        ("passed", number(graded.passed as u64)),
        ("total", number(graded.total as u64)),
        ("json_version", text(&graded.json_version)),
        ("submitted_at", number(seconds(handed_in.at))),
        ("ordinal", number(handed_in.ordinal)),
        ("graded_at", number(seconds(SystemTime::now()))),
        ("generation", number(generation)),
        ("results_key", text(&place.results)),
        ("output_key", text(&place.output)),
        ("id_matches", Attr::Bool(graded.identity.id_matches)),
    ]
    .into_iter()
    .chain(optional)
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}
