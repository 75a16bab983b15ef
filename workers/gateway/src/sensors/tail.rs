//! The streams of the tables, followed as long as somebody listens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anomaly_worker::tables::now_ms;
use aws_sdk_dynamodbstreams::types::Record;
use flotilla_runtime::Failure;
use futures::future::try_join_all;

use super::{
    event::Event,
    hub::{Hub, Told},
    position::{Mark, Place, Position},
    stream::{NotRead, Stream, is_open, number},
};

/// How long to wait between two looks, and after a look that failed.
const LOOK: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);
/// How often to ask for new shards.
const SHARDS: Duration = Duration::from_secs(5);

/// A reader of a stream, from a time on.
#[derive(Debug)]
struct Tail<'s> {
    stream: &'s Stream,
    arn: String,
    shards: HashMap<String, At>,
    /// Shards that were read to their end, as long as they are listed.
    ended: HashSet<String>,
    /// When it asked for shards last; none where it is to ask at once.
    asked: Option<Instant>,
}

/// Where it is in a shard.
#[derive(Debug, Clone)]
struct At {
    iterator: String,
    mark: Mark,
}

/// Follows the streams whenever somebody listens, for ever.
pub(super) async fn follow(hub: Arc<Hub>, streams: Arc<[Stream; 2]>) {
    loop {
        hub.until_wanted().await;
        if let Err(failure) = follow_while_wanted(&hub, &streams).await {
            tracing::warn!("the streams cannot be followed: {failure}");
            hub.tell_error("events may be missing: the tables' streams cannot be read");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Until nobody listens. After a failure the places are taken up where they were left.
async fn follow_while_wanted(hub: &Hub, streams: &[Stream; 2]) -> Result<(), Failure> {
    let since = now_ms();
    let mut tails = try_join_all(streams.iter().map(Tail::now)).await?;
    let mut position = Position { since, places: [tails[0].place(), tails[1].place()] };
    hub.begin(&position);
    let mut well = true;
    while !hub.ends_unwanted() {
        for (number, tail) in tails.iter_mut().enumerate() {
            match tail.look().await {
                Ok(records) => {
                    well = true;
                    for (shard, record) in records {
                        tell(hub, &mut position, number, &shard, &record);
                    }
                    position.places[number] = tail.place();
                    hub.moved(&position);
                }
                Err(failure) => {
                    tracing::warn!(
                        "the stream of {} cannot be read: {failure}",
                        tail.stream.table()
                    );
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

fn tell(hub: &Hub, position: &mut Position, stream: usize, shard: &str, record: &Record) {
    let Some(number) = number(record) else { return };
    position.read(stream, shard, number);
    if let Some(event) = Event::of(stream, record) {
        hub.tell(Told {
            event,
            position: position.text(),
            stream,
            shard: shard.into(),
            number: number.into(),
        });
    }
}

/// The end of the stream of problems, as it is now; nothing of the other.
pub(super) async fn problems_from_now(streams: &[Stream; 2]) -> Result<Position, Failure> {
    let since = now_ms();
    let [problems, readings] = streams;
    let problems = Tail::now(problems).await?.place();
    let stream = label(&readings.arn().await?).to_owned();
    Ok(Position { since, places: [problems, Place { stream, marks: BTreeMap::new() }] })
}

impl<'s> Tail<'s> {
    /// At the end of the stream, as it is now.
    async fn now(stream: &'s Stream) -> Result<Self, Failure> {
        let arn = stream.arn().await?;
        let listed = stream.shards(&arn).await?;
        let (open, ended): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_open);
        let ended = ended.into_iter().filter_map(|shard| shard.shard_id).collect();
        let asked = Some(Instant::now());
        let mut tail = Self { stream, arn, shards: HashMap::new(), ended, asked };
        for id in open.into_iter().filter_map(|shard| shard.shard_id) {
            tail.begin(id, Mark::Then).await?;
        }
        Ok(tail)
    }

    async fn begin(&mut self, shard: String, mark: Mark) -> Result<(), Failure> {
        let iterator = self.stream.at(&self.arn, &shard, &mark).await;
        let iterator = iterator.map_err(|why| self.not_read(&shard, why))?;
        self.shards.insert(shard, At { iterator, mark });
        Ok(())
    }

    fn not_read(&self, shard: &str, why: NotRead) -> Failure {
        match why {
            NotRead::Failed(failure) => failure,
            NotRead::Expired | NotRead::Trimmed => {
                let what = format!("shard {shard} of table {} is gone", self.stream.table());
                Failure::transient("streams", what)
            }
        }
    }

    /// Where it is.
    fn place(&self) -> Place {
        let marks = self.shards.iter().map(|(id, at)| (id.clone(), at.mark.clone())).collect();
        Place { stream: label(&self.arn).to_owned(), marks }
    }

    /// What has come since, with its shards.
    async fn look(&mut self) -> Result<Vec<(String, Record)>, Failure> {
        if self.asked.is_none_or(|asked| asked.elapsed() > SHARDS) {
            self.find_shards().await?;
        }
        let looks = self.shards.iter().map(|(id, at)| self.read(id, at));
        let mut found = Vec::new();
        for (id, at, records) in try_join_all(looks).await? {
            found.extend(records.into_iter().map(|record| (id.clone(), record)));
            match at {
                Some(at) => drop(self.shards.insert(id, at)),
                None => {
                    self.shards.remove(&id);
                    self.ended.insert(id);
                    // What was read is told first, whatever comes of that.
                    self.asked = None;
                }
            }
        }
        Ok(found)
    }

    /// The shards that came are read from their beginning.
    async fn find_shards(&mut self) -> Result<(), Failure> {
        let listed = self.stream.shards(&self.arn).await?;
        let listed: HashSet<_> = listed.into_iter().filter_map(|shard| shard.shard_id).collect();
        self.ended.retain(|id| listed.contains(id));
        for id in listed {
            if !self.shards.contains_key(&id) && !self.ended.contains(&id) {
                self.begin(id, Mark::Begin).await?;
            }
        }
        self.asked = Some(Instant::now());
        Ok(())
    }

    /// What a shard has, and the place after it, unless that is its end.
    async fn read(&self, id: &str, at: &At) -> Result<(String, Option<At>, Vec<Record>), Failure> {
        let read = match self.stream.read(&at.iterator).await {
            Ok(read) => read,
            Err(NotRead::Failed(failure)) => return Err(failure),
            Err(why) => {
                let iterator = self.again(id, at, &why).await?;
                let at = At { iterator, mark: at.mark.clone() };
                return Ok((id.to_owned(), Some(at), Vec::new()));
            }
        };
        let mark = read.records.last().and_then(number).map(|it| Mark::After(it.to_owned()));
        let mark = mark.unwrap_or_else(|| at.mark.clone());
        let at = read.next.map(|iterator| At { iterator, mark });
        Ok((id.to_owned(), at, read.records))
    }

    /// Begins again where an iterator stood, or, if that is trimmed, at what is left, which is all
    /// newer. (DynamoDB Local numbers the records of all its tables in one row, and takes the
    /// first record of a shard for one after a trimmed one.)
    async fn again(&self, id: &str, at: &At, why: &NotRead) -> Result<String, Failure> {
        let mark = if matches!(why, NotRead::Trimmed) { &Mark::Begin } else { &at.mark };
        let iterator = self.stream.at(&self.arn, id, mark).await;
        iterator.map_err(|why| self.not_read(id, why))
    }
}

/// What tells a stream from the one that a table of the same name had before.
pub(super) fn label(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
