//! One table's stream: its shards, and what they hold.

use aws_sdk_dynamodbstreams::{
    Client as Streams,
    operation::get_records::GetRecordsError,
    types::{Record, Shard, ShardIteratorType as Start},
};
use flotilla_runtime::{Failure, failure::chain};

use super::position::Mark;

/// A table's stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    dynamo: aws_sdk_dynamodb::Client,
    streams: Streams,
    table: String,
}

/// What a read of a shard gave.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) records: Vec<Record>,
    /// Where to read on, unless the shard ends here.
    pub(super) next: Option<String>,
}

/// Why a shard was not read.
#[derive(Debug)]
pub(super) enum NotRead {
    /// The iterator is not served any more.
    Expired,
    /// What was there is not kept any more.
    Trimmed,
    /// It could not be read now.
    Failed(Failure),
}

impl Stream {
    pub(super) fn new(dynamo: &aws_sdk_dynamodb::Client, streams: &Streams, table: &str) -> Self {
        Self { dynamo: dynamo.clone(), streams: streams.clone(), table: table.to_owned() }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The stream's ARN, as it is now.
    pub(super) async fn arn(&self) -> Result<String, Failure> {
        let answer = self.dynamo.describe_table().table_name(&self.table).send().await;
        let answer = answer.map_err(|e| self.failed("DescribeTable", chain(&e)))?;
        let arn = answer.table.and_then(|table| table.latest_stream_arn);
        arn.ok_or_else(|| self.failed("DescribeTable", "it has no stream".into()))
    }

    /// All shards that are listed.
    pub(super) async fn shards(&self, arn: &str) -> Result<Vec<Shard>, Failure> {
        let (mut shards, mut after) = (Vec::new(), None);
        loop {
            let call = self.streams.describe_stream().stream_arn(arn);
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

    /// An iterator at a mark; [`Mark::Then`] is the end, as it is now.
    pub(super) async fn at(&self, arn: &str, shard: &str, mark: &Mark) -> Result<String, NotRead> {
        let start = match mark {
            Mark::Begin => Start::TrimHorizon,
            Mark::Then => Start::Latest,
            Mark::After(_) => Start::AfterSequenceNumber,
        };
        let call = self.streams.get_shard_iterator().stream_arn(arn).shard_id(shard);
        let call = call.set_sequence_number(mark.number().map(str::to_owned));
        let answer = call.shard_iterator_type(start).send().await;
        let answer = answer.map_err(|e| match e.as_service_error() {
            Some(it) if it.is_trimmed_data_access_exception() => NotRead::Trimmed,
            Some(it) if it.is_resource_not_found_exception() => NotRead::Trimmed,
            _ => NotRead::Failed(self.failed("GetShardIterator", chain(&e))),
        })?;
        let none = || NotRead::Failed(self.failed("GetShardIterator", "there is none".into()));
        answer.shard_iterator.ok_or_else(none)
    }

    /// What there is at an iterator.
    pub(super) async fn read(&self, iterator: &str) -> Result<Read, NotRead> {
        let answer = self.streams.get_records().shard_iterator(iterator).send().await;
        let answer = answer.map_err(|e| match e.as_service_error() {
            Some(GetRecordsError::ExpiredIteratorException(_)) => NotRead::Expired,
            Some(GetRecordsError::TrimmedDataAccessException(_)) => NotRead::Trimmed,
            _ => NotRead::Failed(self.failed("GetRecords", chain(&e))),
        })?;
        let records = answer.records.unwrap_or_default();
        Ok(Read { records, next: answer.next_shard_iterator })
    }

    fn failed(&self, call: &str, why: String) -> Failure {
        Failure::transient("streams", format!("{call} of table {}: {why}", self.table))
    }
}

/// Whether more may come in a shard.
pub(super) fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range.as_ref().is_none_or(|it| it.ending_sequence_number.is_none())
}

/// The number of a record.
pub(super) fn number(record: &Record) -> Option<&str> {
    record.dynamodb.as_ref()?.sequence_number.as_deref()
}
