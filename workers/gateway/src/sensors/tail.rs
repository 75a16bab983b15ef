//! The streams of the tables, followed as long as somebody listens.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anomaly_worker::tables::{Problem, Status, said_in};
use aws_sdk_dynamodbstreams::{
    Client as Streams,
    operation::get_records::GetRecordsError,
    types::{
        AttributeValue as Attr, OperationType as Operation, Record, Shard,
        ShardIteratorType as Start,
    },
};
use flotilla_runtime::{Failure, failure::chain};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::hub::Hub;

/// How long to wait between two looks, and after a look that failed.
const LOOK: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);
/// How often to ask for new shards.
const SHARDS: Duration = Duration::from_secs(5);

type Image = HashMap<String, Attr>;

/// A table's stream.
#[derive(Debug)]
pub(super) struct Tail {
    dynamo: aws_sdk_dynamodb::Client,
    streams: Streams,
    table: String,
    event: fn(&Record) -> Option<Value>,
}

/// Where a reader of a stream is.
#[derive(Debug)]
struct Position {
    stream: String,
    shards: HashMap<String, Place>,
    /// Shards that were read to their end, as long as they are listed.
    ended: HashSet<String>,
    asked: Instant,
}

/// Where it is in a shard.
#[derive(Debug, Clone)]
struct Place {
    iterator: String,
    last: Option<String>,
}

/// Follows the streams whenever somebody listens, for ever.
pub(super) async fn follow(hub: Arc<Hub>, tails: [Tail; 2]) {
    loop {
        hub.until_wanted().await;
        if let Err(failure) = follow_while_wanted(&hub, &tails).await {
            tracing::warn!("the streams cannot be followed: {failure}");
            hub.tell_error("events may be missing: the tables' streams cannot be read");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Until nobody listens. After a failure the places are taken up where they were left.
async fn follow_while_wanted(hub: &Hub, tails: &[Tail; 2]) -> Result<(), Failure> {
    let mut positions = try_join_all(tails.iter().map(Tail::now)).await?;
    hub.begin();
    let mut well = true;
    while !hub.ends_unwanted() {
        for (tail, position) in tails.iter().zip(&mut positions) {
            match tail.look(position).await {
                Ok(records) => {
                    records.iter().filter_map(tail.event).for_each(|event| hub.tell(&event));
                    well = true;
                }
                Err(failure) => {
                    tracing::warn!("the stream of {} cannot be read: {failure}", tail.table);
                    if std::mem::take(&mut well) {
                        hub.tell_error("events are late: a table's stream cannot be read");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

impl Tail {
    pub(super) fn new(
        dynamo: &aws_sdk_dynamodb::Client,
        streams: &Streams,
        table: &str,
        event: fn(&Record) -> Option<Value>,
    ) -> Self {
        let (dynamo, streams) = (dynamo.clone(), streams.clone());
        Self { dynamo, streams, table: table.to_owned(), event }
    }

    /// The end of the stream, as it is now.
    async fn now(&self) -> Result<Position, Failure> {
        let answer = self.dynamo.describe_table().table_name(&self.table).send().await;
        let answer = answer.map_err(|e| self.failed("DescribeTable", chain(&e)))?;
        let stream = answer.table.and_then(|table| table.latest_stream_arn);
        let stream =
            stream.ok_or_else(|| self.failed("DescribeTable", "it has no stream".into()))?;
        let mut shards = HashMap::new();
        let listed = self.shards(&stream).await?;
        let (open, ended): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_open);
        for id in open.into_iter().filter_map(|shard| shard.shard_id) {
            let iterator = self.iterator(&stream, &id, Start::Latest, None).await?;
            shards.insert(id, Place { iterator, last: None });
        }
        let ended = ended.into_iter().filter_map(|shard| shard.shard_id).collect();
        Ok(Position { stream, shards, ended, asked: Instant::now() })
    }

    /// What has come since.
    async fn look(&self, position: &mut Position) -> Result<Vec<Record>, Failure> {
        if position.asked.elapsed() > SHARDS {
            self.find_shards(position).await?;
        }
        let looks =
            position.shards.iter().map(|(id, place)| self.read(&position.stream, id, place));
        let mut records = Vec::new();
        for (id, place, found) in try_join_all(looks).await? {
            records.extend(found);
            match place {
                Some(place) => drop(position.shards.insert(id, place)),
                None => {
                    position.shards.remove(&id);
                    position.ended.insert(id);
                    self.find_shards(position).await?;
                }
            }
        }
        Ok(records)
    }

    /// The shards that came are read from their beginning.
    async fn find_shards(&self, position: &mut Position) -> Result<(), Failure> {
        let listed = self.shards(&position.stream).await?;
        let listed: HashSet<_> = listed.into_iter().filter_map(|shard| shard.shard_id).collect();
        position.ended.retain(|id| listed.contains(id));
        for id in listed {
            if !position.shards.contains_key(&id) && !position.ended.contains(&id) {
                let start = Start::TrimHorizon;
                let iterator = self.iterator(&position.stream, &id, start, None).await?;
                position.shards.insert(id, Place { iterator, last: None });
            }
        }
        position.asked = Instant::now();
        Ok(())
    }

    /// What a shard has, and the place after it, unless that is its end.
    async fn read(
        &self,
        stream: &str,
        id: &str,
        place: &Place,
    ) -> Result<(String, Option<Place>, Vec<Record>), Failure> {
        let answer = self.streams.get_records().shard_iterator(&place.iterator).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => match e.as_service_error().and_then(|e| again(e, place)) {
                Some((start, number)) => {
                    let iterator = self.iterator(stream, id, start, number).await?;
                    let place = Place { iterator, ..place.clone() };
                    return Ok((id.to_owned(), Some(place), Vec::new()));
                }
                None => return Err(self.failed("GetRecords", chain(&e))),
            },
        };
        let records = answer.records.unwrap_or_default();
        let number = |it: &Record| it.dynamodb.as_ref().and_then(|it| it.sequence_number.clone());
        let last = records.last().and_then(number).or_else(|| place.last.clone());
        let place = answer.next_shard_iterator.map(|iterator| Place { iterator, last });
        Ok((id.to_owned(), place, records))
    }

    async fn shards(&self, stream: &str) -> Result<Vec<Shard>, Failure> {
        let (mut shards, mut after) = (Vec::new(), None);
        loop {
            let call = self.streams.describe_stream().stream_arn(stream);
            let answer = call.set_exclusive_start_shard_id(after.take()).send().await;
            let answer = answer.map_err(|e| self.failed("DescribeStream", chain(&e)))?;
            let Some(found) = answer.stream_description else { return Ok(shards) };
            shards.extend(found.shards.unwrap_or_default());
            after = found.last_evaluated_shard_id;
            if after.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn iterator(
        &self,
        stream: &str,
        shard: &str,
        start: Start,
        number: Option<String>,
    ) -> Result<String, Failure> {
        let call = self.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
        let call = call.shard_iterator_type(start).set_sequence_number(number);
        let answer = call.send().await.map_err(|e| self.failed("GetShardIterator", chain(&e)))?;
        let none = || self.failed("GetShardIterator", "there is none".into());
        answer.shard_iterator.ok_or_else(none)
    }

    fn failed(&self, call: &str, why: String) -> Failure {
        Failure::transient("streams", format!("{call} of table {}: {why}", self.table))
    }
}

/// Where to begin again after an iterator that is not served any more: where it stood, or, if that
/// is trimmed, at what is left, which is all newer. (DynamoDB Local numbers the records of all its
/// tables in one row, and takes the first record of a shard for one after a trimmed one.)
fn again(error: &GetRecordsError, place: &Place) -> Option<(Start, Option<String>)> {
    match error {
        GetRecordsError::ExpiredIteratorException(_) if place.last.is_some() => {
            Some((Start::AfterSequenceNumber, place.last.clone()))
        }
        GetRecordsError::ExpiredIteratorException(_) => Some((Start::Latest, None)),
        GetRecordsError::TrimmedDataAccessException(_) => Some((Start::TrimHorizon, None)),
        _ => None,
    }
}

fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range.as_ref().is_none_or(|it| it.ending_sequence_number.is_none())
}

/// A problem that opened, changed, or is gone. What only its evidence tells is not told here.
pub(super) fn problem(record: &Record) -> Option<Value> {
    let change = record.dynamodb.as_ref()?;
    let read = |image: &Option<Image>| image.as_ref().and_then(problem_in);
    let (old, new) = (read(&change.old_image), read(&change.new_image));
    match (old, new) {
        (old, Some(new)) => (old.as_ref() != Some(&new)).then(|| json!(new)),
        (Some(old), None) => {
            let problem_status = Status::Retracted.name().to_owned();
            Some(json!(Problem { problem_status, ..old }))
        }
        (None, None) => None,
    }
}

fn problem_in(image: &Image) -> Option<Problem> {
    Problem::from_fields(|name| match image.get(name)? {
        Attr::S(text) | Attr::N(text) => Some(text.clone()),
        _ => None,
    })
}

/// A reading that is OK, or has nothing to be compared with.
pub(super) fn reading(record: &Record) -> Option<Value> {
    let new = record.dynamodb.as_ref()?.new_image.as_ref()?;
    let first = record.event_name == Some(Operation::Insert);
    let said = new.get("said").filter(|_| first)?.as_s().ok()?;
    said_in(said).map(|said| json!({ "message": said.name() }))
}
