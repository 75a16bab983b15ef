//! Topologies, in rows of the table of edges.
//!
//! The row `topologies` tells which there are: `version`, which grows with every change, and
//! `names`, a map from name to `{"parts", "format", "at", "stored", "first", "later"}`: the number of
//! parts of the text, how it is written, since when (Unix milliseconds) the topology of that name holds,
//! and the version that its parts are stored under; since when its devices are expected, and the number
//! of parts after those of the text that name the devices which are so since another time; and `before`,
//! where the one is that it replaced, whose parts stay until it is replaced itself. A part is a
//! row `topologies:NAME:TAG:PART` with its piece of the `text`; the tag is the version with `nonce`, which
//! tells those apart that come at one time. Keys of edges have a slash, these have none.
//!
//! Parts are written before the row that names them, which is written on the condition that nobody
//! else changed it: so a reader of the row finds all parts. Workers look at the row every few
//! seconds, and at the parts only when the version is another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    ops::Range,
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use flotilla_runtime::{Failure, failure::chain, retry::RetryPolicy};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::{number, number_of, text, text_of, unavailable};
use crate::{
    engine::Rule,
    reading::check_id,
    topology::{Format, Plan, Topology, TopologyError},
};

/// The row that tells which topologies there are.
const INDEX: &str = "topologies";
/// The most bytes of a text in a row; DynamoDB takes 400 KB.
const PART: usize = 300_000;
/// The most topologies: the index row stays small.
const TOPOLOGIES: usize = 100;
/// How often a change is tried when others change something at the same time.
const ATTEMPTS: u32 = 20;
/// How long to wait before the next, at first and at most.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(1));

/// The topologies. Clones share the client.
#[derive(Debug, Clone)]
pub struct Topologies {
    client: Client,
    table: String,
}

/// How a topology is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// In how many rows its text is.
    pub parts: usize,
    /// How it is written: `toml` or `json`.
    pub format: String,
    /// Since when it holds, in Unix milliseconds.
    pub at: i64,
    /// The version that it came with.
    pub stored: u64,
    /// Since when the devices that it names are expected, in Unix milliseconds; since it holds, where that
    /// was not noted.
    #[serde(default)]
    pub first: Option<i64>,
    /// In how many rows more the devices are that are expected since another time.
    #[serde(default)]
    pub later: usize,
    /// What tells its rows from those of another that came at the same time.
    #[serde(default)]
    nonce: u64,
    /// The rows of the one that it replaced, which whoever had begun to may still read.
    #[serde(default)]
    before: Option<Rows>,
}

/// The rows that a topology is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rows {
    tag: String,
    count: usize,
}

impl Stored {
    fn tag(&self) -> String {
        match self.nonce {
            0 => self.stored.to_string(),
            nonce => format!("{}-{nonce:x}", self.stored),
        }
    }

    fn rows(&self) -> Rows {
        Rows { tag: self.tag(), count: self.parts + self.later }
    }
}

/// What the index row says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Grows with every change; 0 where there never was a topology.
    pub version: u64,
    /// The topologies by name.
    pub names: BTreeMap<String, Stored>,
}

/// Why a topology was not stored.
#[derive(Debug)]
pub enum NotStored {
    /// It is not valid, alone or beside the others.
    Refused(TopologyError),
    /// The table did not take it.
    Failed(Failure),
}

impl From<Failure> for NotStored {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<TopologyError> for NotStored {
    fn from(error: TopologyError) -> Self {
        Self::Refused(error)
    }
}

impl Topologies {
    /// The topologies in this table, which is that of the edges.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// Which topologies there are.
    ///
    /// # Errors
    /// Transient when DynamoDB does not answer; permanent for a row that cannot be read.
    pub async fn index(&self) -> Result<Index, Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("edge", text(INDEX)).send().await;
        let answer = answer.map_err(|e| unavailable("GetItem", INDEX, &self.table, chain(&e)))?;
        let Some(row) = answer.item else { return Ok(Index::default()) };
        let names = text_of(&row, "names").and_then(|it| serde_json::from_str(&it).ok());
        match (number_of(&row, "version"), names) {
            (Some(version), Some(names)) => Ok(Index { version, names }),
            _ => Err(self.bad(INDEX)),
        }
    }

    /// The text of a topology.
    ///
    /// # Errors
    /// As of [`index`](Self::index).
    pub async fn text(&self, name: &str, stored: &Stored) -> Result<String, Failure> {
        self.read_parts(name, stored, 0..stored.parts).await
    }

    async fn read_parts(
        &self,
        name: &str,
        stored: &Stored,
        parts: Range<usize>,
    ) -> Result<String, Failure> {
        let tag = stored.tag();
        let parts = parts.map(async |part| {
            let key = part_key(name, &tag, part);
            let call = self.client.get_item().table_name(&self.table).consistent_read(true);
            let answer = call.key("edge", text(&key)).send().await;
            let answer =
                answer.map_err(|e| unavailable("GetItem", &key, &self.table, chain(&e)))?;
            answer.item.and_then(|row| text_of(&row, "text")).ok_or_else(|| self.bad(&key))
        });
        Ok(try_join_all(parts).await?.concat())
    }

    /// Since when the devices are expected that these topologies of an index name, in Unix milliseconds:
    /// since one of them named the device first, however often topologies were stored again since.
    ///
    /// # Errors
    /// As of [`index`](Self::index).
    pub async fn since(
        &self,
        index: &Index,
        topologies: &[(String, Topology)],
    ) -> Result<HashMap<String, i64>, Failure> {
        let named =
            topologies.iter().filter_map(|(name, it)| Some((name, it, index.names.get(name)?)));
        let named = named.map(async |(name, topology, stored)| {
            let later = self.later(name, stored).await?;
            let first = stored.first.unwrap_or(stored.at);
            let since = |id: &str| later.get(id).copied().unwrap_or(first);
            let since: Vec<_> = topology.ids().map(|id| (id.to_owned(), since(id))).collect();
            Ok::<_, Failure>(since)
        });
        let mut since = HashMap::new();
        for (id, at) in try_join_all(named).await?.into_iter().flatten() {
            since.entry(id).and_modify(|first: &mut i64| *first = at.min(*first)).or_insert(at);
        }
        Ok(since)
    }

    /// The devices of a topology that are expected since another time than the others.
    async fn later(&self, name: &str, stored: &Stored) -> Result<HashMap<String, i64>, Failure> {
        if stored.later == 0 {
            return Ok(HashMap::new());
        }
        let parts = stored.parts..stored.parts + stored.later;
        let text = self.read_parts(name, stored, parts).await?;
        let later: BTreeMap<i64, Vec<String>> =
            serde_json::from_str(&text).map_err(|_| self.bad(name))?;
        Ok(later
            .into_iter()
            .flat_map(|(at, ids)| ids.into_iter().map(move |id| (id, at)))
            .collect())
    }

    /// All topologies of an index.
    async fn load(&self, index: &Index) -> Result<Vec<(String, Topology)>, Failure> {
        let all = index.names.iter().map(async |(name, stored)| {
            let format = Format::from_name(&stored.format).ok_or_else(|| self.bad(name))?;
            let topology = Topology::parse(&self.text(name, stored).await?, format);
            topology.map(|it| (name.clone(), it)).map_err(|e| {
                Failure::permanent("topology", format!("the stored topology {name}: {e}"))
            })
        });
        try_join_all(all).await
    }

    /// All topologies, and the index that they are of: this one, or a newer one where it was outdated before
    /// all were read.
    ///
    /// # Errors
    /// As of [`index`](Self::index).
    pub async fn load_newest(
        &self,
        mut index: Index,
    ) -> Result<(Index, Vec<(String, Topology)>), Failure> {
        loop {
            match self.load(&index).await {
                Ok(all) => return Ok((index, all)),
                Err(failure) => {
                    let newer = self.index().await?;
                    if newer.version == index.version {
                        return Err(failure);
                    }
                    index = newer;
                }
            }
        }
    }

    /// The same, without the one of a name where that cannot be read: so it can be replaced.
    async fn load_beside(&self, name: &str) -> Result<(Index, Vec<(String, Topology)>), Failure> {
        let index = self.index().await?;
        match self.load_newest(index.clone()).await {
            Err(_) if index.names.contains_key(name) => {
                let mut others = index.clone();
                others.names.remove(name);
                Ok((index, self.load(&others).await?))
            }
            loaded => loaded,
        }
    }

    /// Stores a topology under a name, in place of the one of that name; gives the new version.
    /// `now` is in Unix milliseconds.
    ///
    /// # Errors
    /// Where it is not valid, alone or beside the others, or DynamoDB does not take it.
    pub async fn put(
        &self,
        name: &str,
        body: &str,
        format: Format,
        now: i64,
    ) -> Result<u64, NotStored> {
        check_name(name)?;
        let topology = Topology::parse(body, format)?;
        for attempt in 1..=ATTEMPTS {
            if let Some(version) = self.try_put(name, (body, format), &topology, now).await? {
                return Ok(version);
            }
            tokio::time::sleep(PAUSE.delay(attempt)).await;
        }
        let what = format!("topology {name}: others changed topologies at the same time");
        Err(Failure::transient("topology_conflict", what).into())
    }

    /// None where others changed something meanwhile.
    async fn try_put(
        &self,
        name: &str,
        (body, format): (&str, Format),
        topology: &Topology,
        now: i64,
    ) -> Result<Option<u64>, NotStored> {
        let (mut index, mut all) = self.load_beside(name).await?;
        let since = self.since(&index, &all).await?;
        let (before, replaced) = (index.version, index.names.get(name).cloned());
        all.retain(|it| it.0 != name);
        all.push((name.to_owned(), topology.clone()));
        check(&all)?;
        let first = replaced.as_ref().map_or(now, |it| it.first.unwrap_or(it.at));
        let later = named_later(topology, &since, first, now);
        let later = serde_json::to_string(&later).map_err(|e| super::unbuilt("devices", e))?;
        let later = if later == "{}" { Vec::new() } else { pieces(&later) };
        let text = pieces(body);
        let stored = Stored {
            parts: text.len(),
            format: format.name().to_owned(),
            at: now,
            stored: before + 1,
            first: Some(first),
            later: later.len(),
            nonce: RandomState::new().hash_one(now) | 1,
            before: replaced.as_ref().map(Stored::rows),
        };
        let rows = stored.rows();
        self.write_parts(name, &[text, later].concat(), &rows.tag).await?;
        index.names.insert(name.to_owned(), stored);
        let is_written = self.write_index(before, &index.names).await?;
        let unread = if is_written { replaced.and_then(|it| it.before) } else { Some(rows) };
        self.forget_rows(name, unread).await;
        Ok(is_written.then_some(before + 1))
    }

    /// Removes a topology; `false` where there is none of this name.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn remove(&self, name: &str) -> Result<bool, Failure> {
        for attempt in 1..=ATTEMPTS {
            let mut index = self.index().await?;
            let Some(stored) = index.names.remove(name) else { return Ok(false) };
            if self.write_index(index.version, &index.names).await? {
                self.forget_rows(name, [stored.rows()].into_iter().chain(stored.before)).await;
                return Ok(true);
            }
            tokio::time::sleep(PAUSE.delay(attempt)).await;
        }
        let what = format!("topology {name}: others changed topologies at the same time");
        Err(Failure::transient("topology_conflict", what))
    }

    async fn write_parts(&self, name: &str, pieces: &[&str], tag: &str) -> Result<(), Failure> {
        let writes = pieces.iter().enumerate().map(async |(part, piece)| {
            let key = part_key(name, tag, part);
            let call = self.client.put_item().table_name(&self.table).item("edge", text(&key));
            let sent = call.item("text", text(*piece)).send().await;
            sent.map(drop).map_err(|e| unavailable("PutItem", &key, &self.table, chain(&e)))
        });
        try_join_all(writes).await.map(drop)
    }

    /// Removes rows that nobody reads; those that the table does not let go stay.
    async fn forget_rows(&self, name: &str, all: impl IntoIterator<Item = Rows>) {
        if let Err(failure) = self.remove_rows(name, all).await {
            tracing::warn!("rows of topology {name} that nobody reads stay: {failure}");
        }
    }

    async fn remove_rows(
        &self,
        name: &str,
        all: impl IntoIterator<Item = Rows>,
    ) -> Result<(), Failure> {
        let keys = |it: Rows| (0..it.count).map(move |part| part_key(name, &it.tag, part));
        let removals = all.into_iter().flat_map(keys).map(async |key| {
            let call = self.client.delete_item().table_name(&self.table).key("edge", text(&key));
            let sent = call.send().await;
            sent.map(drop).map_err(|e| unavailable("DeleteItem", &key, &self.table, chain(&e)))
        });
        try_join_all(removals).await.map(drop)
    }

    async fn write_index(
        &self,
        before: u64,
        names: &BTreeMap<String, Stored>,
    ) -> Result<bool, Failure> {
        let names = serde_json::to_string(names).map_err(|e| super::unbuilt("topologies", e))?;
        let call = self.client.put_item().table_name(&self.table).item("edge", text(INDEX));
        let call = call.item("version", number(before + 1)).item("names", text(names));
        let call = match before {
            0 => call.condition_expression("attribute_not_exists(edge)"),
            _ => call
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(before)),
        };
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(unavailable("PutItem", INDEX, &self.table, chain(&e))),
        }
    }

    fn bad(&self, row: &str) -> Failure {
        let what = format!("the row {row} of table {} cannot be read as a topology's", self.table);
        Failure::permanent("topology_row", what)
    }
}

/// Refuses topologies that are too many, or do not go together.
fn check(all: &[(String, Topology)]) -> Result<(), TopologyError> {
    Plan::of(all, Rule::default())?;
    if all.len() > TOPOLOGIES {
        let what = format!("{} topologies are more than {TOPOLOGIES}", all.len());
        return Err(TopologyError { faults: vec![what] });
    }
    Ok(())
}

/// The devices that a topology names which are expected since another time than the first, by that time.
fn named_later(
    topology: &Topology,
    since: &HashMap<String, i64>,
    first: i64,
    now: i64,
) -> BTreeMap<i64, BTreeSet<String>> {
    let mut later: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for id in topology.ids() {
        let at = since.get(id).copied().unwrap_or(now);
        if at != first {
            later.entry(at).or_default().insert(id.to_owned());
        }
    }
    later
}

fn part_key(name: &str, tag: &str, part: usize) -> String {
    format!("{INDEX}:{name}:{tag}:{part}")
}

fn check_name(name: &str) -> Result<(), TopologyError> {
    let check = check_id(name).map_err(|why| why.replacen("the id", "the name", 1));
    check.map_err(|why| TopologyError { faults: vec![why] })
}

/// The text in pieces that a row can hold.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > PART {
        let cut = (0..=PART).rev().find(|cut| text.is_char_boundary(*cut)).unwrap_or(0);
        let (piece, rest) = text.split_at(cut);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_expected_since_it_was_named_first() {
        let text = "[[chains]]\nsensors = ['a', 'b', 'c']\n";
        let topology = Topology::parse(text, Format::Toml).unwrap();
        let since = HashMap::from([("a".to_owned(), 5), ("b".to_owned(), 7)]);
        let later = named_later(&topology, &since, 5, 9);
        let ids = |id: &str| BTreeSet::from([id.to_owned()]);
        assert_eq!(later, BTreeMap::from([(7, ids("b")), (9, ids("c"))]));
        let text = serde_json::to_string(&later).unwrap();
        let read: BTreeMap<i64, Vec<String>> = serde_json::from_str(&text).unwrap();
        assert_eq!(read[&9], ["c"]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_whole_again() {
        let text = "ä".repeat(PART);
        let cut = pieces(&text);
        assert_eq!(cut.len(), 2);
        assert!(cut.iter().all(|piece| piece.len() <= PART));
        assert!(cut.concat() == text && pieces("") == [""]);
    }
}
