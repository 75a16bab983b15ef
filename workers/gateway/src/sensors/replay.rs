//! What was missed: the streams read again from a position on, up to what is told live.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_sdk_dynamodbstreams::types::{Record, Shard};
use flotilla_runtime::Failure;

use super::{
    event::Event,
    position::{Mark, Place, Position},
    stream::{NotRead, Read, Stream, number},
    tail::label,
};

/// The most records that are read for one listener.
const RECORDS: usize = 200_000;
/// How often a shard must say in a row that it has nothing more, and the pause between: one may
/// have nothing at a place, and more behind it.
const EMPTY: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// Why not all that was missed can be told.
#[derive(Debug)]
pub(super) enum Lost {
    /// The streams do not keep it any more.
    TooOld,
    /// It is more than is told so.
    TooMuch,
    /// It cannot be read now.
    Failed(Failure),
}

impl Lost {
    /// For the listener.
    pub(super) fn why(&self) -> String {
        match self {
            Self::TooOld => "the position is too old: what came after it is not kept any more (a \
                             day is); read /v1/problems, and go on from now"
                .to_owned(),
            Self::TooMuch => format!(
                "more than {RECORDS} changes came after the position: read /v1/problems, and go \
                 on from now"
            ),
            Self::Failed(failure) => {
                tracing::warn!("a position cannot be replayed: {failure}");
                "what was missed cannot be read now: come back later".to_owned()
            }
        }
    }
}

impl From<NotRead> for Lost {
    fn from(why: NotRead) -> Self {
        match why {
            NotRead::Trimmed | NotRead::Expired => Self::TooOld,
            NotRead::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// A reader from a position on.
#[derive(Debug)]
pub(super) struct Replay<'s> {
    streams: &'s [Stream; 2],
    arns: [String; 2],
    shards: [Vec<Shard>; 2],
    /// Shards that are read, by stream and id.
    open: BTreeMap<(usize, String), At>,
    position: Position,
    read: usize,
}

#[derive(Debug)]
struct At {
    iterator: String,
    empty: u32,
}

/// An event that was missed, and the position after it.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) event: Event,
    pub(super) position: String,
}

impl<'s> Replay<'s> {
    /// From a position on.
    pub(super) async fn from(streams: &'s [Stream; 2], position: Position) -> Result<Self, Lost> {
        let (mut arns, mut shards) = (Vec::new(), Vec::new());
        for (stream, place) in streams.iter().zip(&position.places) {
            let arn = stream.arn().await.map_err(Lost::Failed)?;
            if label(&arn) != place.stream {
                return Err(Lost::TooOld);
            }
            shards.push(stream.shards(&arn).await.map_err(Lost::Failed)?);
            arns.push(arn);
        }
        let none = |_| Lost::TooOld;
        let mut replay = Self {
            streams,
            arns: arns.try_into().map_err(none)?,
            shards: shards.try_into().map_err(|_| Lost::TooOld)?,
            open: BTreeMap::new(),
            position,
            read: 0,
        };
        for number in 0..streams.len() {
            let Place { marks, .. } = replay.position.places[number].clone();
            for (id, mark) in marks {
                replay.begin(number, id, mark).await?;
            }
        }
        Ok(replay)
    }

    async fn begin(&mut self, stream: usize, id: String, mark: Mark) -> Result<(), Lost> {
        if !self.shards[stream].iter().any(|it| it.shard_id.as_ref() == Some(&id)) {
            return Err(Lost::TooOld);
        }
        // What was there before the position was first taken is told by the records' times.
        let from = if mark == Mark::Then { &Mark::Begin } else { &mark };
        let iterator = self.streams[stream].at(&self.arns[stream], &id, from).await?;
        self.position.places[stream].marks.insert(id.clone(), mark);
        self.open.insert((stream, id), At { iterator, empty: 0 });
        Ok(())
    }

    /// The next that were missed; `None` once there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Missed>>, Lost> {
        let mut found = Vec::new();
        let keys: Vec<_> = self.open.keys().cloned().collect();
        for key in keys {
            let records = self.read(&key).await?;
            found.extend(records.into_iter().map(|record| (key.clone(), record)));
        }
        self.read += found.len();
        if self.read > RECORDS {
            return Err(Lost::TooMuch);
        }
        if found.is_empty() {
            if self.open.values().all(|at| at.empty >= EMPTY) {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
        found.sort_by_key(|(_, record)| seconds(record));
        Ok(Some(found.iter().filter_map(|(key, record)| self.missed(key, record)).collect()))
    }

    fn missed(&mut self, (stream, shard): &(usize, String), record: &Record) -> Option<Missed> {
        let fresh = self.position.places[*stream].marks.get(shard) == Some(&Mark::Then);
        let is_before = made_by(record) < self.position.since.div_euclid(1000);
        if fresh && is_before {
            return None;
        }
        self.position.read(*stream, shard, number(record)?);
        let event = Event::of(*stream, record)?;
        Some(Missed { event, position: self.position.text() })
    }

    /// One read of a shard. At its end the shards that came of it take its place.
    async fn read(&mut self, key: &(usize, String)) -> Result<Vec<Record>, Lost> {
        let (stream, id) = key;
        let Some(at) = self.open.get_mut(key) else { return Ok(Vec::new()) };
        let Read { records, next } = self.streams[*stream].read(&at.iterator).await?;
        at.empty = if records.is_empty() { at.empty + 1 } else { 0 };
        match next {
            Some(next) => at.iterator = next,
            None => {
                self.open.remove(key);
                let arn = &self.arns[*stream];
                self.shards[*stream] =
                    self.streams[*stream].shards(arn).await.map_err(Lost::Failed)?;
                for child in self.children(*stream, id) {
                    self.begin(*stream, child, Mark::Begin).await?;
                }
            }
        }
        Ok(records)
    }

    fn children(&self, stream: usize, id: &str) -> Vec<String> {
        let shards = self.shards[stream].iter();
        let ours = shards.filter(|it| it.parent_shard_id.as_deref() == Some(id));
        ours.filter_map(|it| it.shard_id.clone()).collect()
    }

    /// The number of the last record that was read, by stream and shard.
    pub(super) fn ends(&self) -> HashMap<(usize, String), String> {
        let places = self.position.places.iter().enumerate();
        let marks = places.flat_map(|(stream, place)| {
            place.marks.iter().filter_map(move |(id, mark)| {
                Some(((stream, id.clone()), mark.number()?.to_owned()))
            })
        });
        marks.collect()
    }

    /// For one who reads on without end: what was read until now does not count.
    pub(super) fn forget_count(&mut self) {
        self.read = 0;
    }

    /// Where it is.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }
}

/// When a record was made at the latest, in Unix seconds. Its time has no more than whole seconds,
/// with DynamoDB Local whole minutes: better told twice than not.
fn made_by(record: &Record) -> i64 {
    match seconds(record) {
        minute if minute % 60 == 0 => minute + 59,
        second => second,
    }
}

/// When a record was made, in Unix seconds.
fn seconds(record: &Record) -> i64 {
    let at = record.dynamodb.as_ref().and_then(|it| it.approximate_creation_date_time);
    at.map_or(0, |at| at.secs())
}
