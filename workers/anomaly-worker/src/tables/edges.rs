//! The table of edges: where each edge stands, and each device that is looked at alone, under a
//! version.
//!
//! A row is `edge` (the key: `current/following`, or `device/`), `version`, and `state`, the JSON of
//! a [`State`]. Beside them are the rows of [`Topologies`](super::Topologies), and the row `workers`.

use aws_sdk_dynamodb::{
    Client,
    operation::transact_write_items::TransactWriteItemsError,
    types::{Put, TransactWriteItem},
};
use flotilla_runtime::{Failure, failure::chain};

use serde::{Serialize, de::DeserializeOwned};

use super::{Problems, Row, now_ms, number, number_of, text, text_of, unavailable, unbuilt};
use crate::engine::{DeviceStand, EdgeStand, Kind, Machine, Review, State, Told};

/// The row that tells which workers there are.
const WORKERS: &str = "workers";

/// The table of edges. Clones share the client.
#[derive(Debug, Clone)]
pub struct Edges {
    client: Client,
    table: String,
}

/// What a row is about: two neighbours, or a device alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An edge.
    Edge {
        /// The sensor that it leads from.
        current: String,
        /// The sensor that it leads to.
        following: String,
    },
    /// A device, beside its neighbours.
    Device(String),
}

impl Subject {
    /// The key of the row. Ids have no slash.
    pub fn key(&self) -> String {
        match self {
            Self::Edge { current, following } => format!("{current}/{following}"),
            Self::Device(id) => format!("{id}/"),
        }
    }

    /// The subject of a key, if it is one.
    pub fn from_key(key: &str) -> Option<Self> {
        let (current, following) = key.split_once('/')?;
        Some(match following {
            "" => Self::Device(current.to_owned()),
            _ => Self::Edge { current: current.to_owned(), following: following.to_owned() },
        })
    }

    /// The id of a problem of this kind: as in the original service, the ids of the two sensors
    /// one after the other; of a device alone its id, a slash, and the kind.
    pub fn problem_id(&self, kind: Kind) -> String {
        match self {
            Self::Edge { current, following } => format!("{current}{following}"),
            Self::Device(id) => format!("{id}/{}", kind.name()),
        }
    }

    /// The sensor that an edge leads from, or the device.
    pub fn current(&self) -> &str {
        match self {
            Self::Edge { current, .. } | Self::Device(current) => current,
        }
    }

    /// The sensor that an edge leads to.
    pub fn following(&self) -> Option<&str> {
        match self {
            Self::Edge { following, .. } => Some(following),
            Self::Device(_) => None,
        }
    }
}

impl Edges {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// A state and its version, where there is a row.
    ///
    /// # Errors
    /// Transient when DynamoDB does not answer; permanent for a row that cannot be read.
    pub async fn load<M>(&self, subject: &Subject) -> Result<Option<(u64, State<M>)>, Failure>
    where
        M: Machine + DeserializeOwned,
    {
        let name = subject.key();
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("edge", text(&name)).send().await;
        let answer = answer.map_err(|e| unavailable("GetItem", &name, &self.table, chain(&e)))?;
        let Some(row) = answer.item else { return Ok(None) };
        let bad = |why: &str| {
            let what = format!("the row {name} in table {}: {why}", self.table);
            Failure::permanent("edge_row", what)
        };
        let state = text_of(&row, "state").ok_or_else(|| bad("it has no state"))?;
        let state = serde_json::from_str(&state).map_err(|e| bad(&e.to_string()))?;
        let version = number_of(&row, "version").ok_or_else(|| bad("it has no version"))?;
        Ok(Some((version, state)))
    }

    /// Writes what a review led to, unless the row was written since this version (0 where there
    /// was none): then `false`, and nothing is written.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn write<M: Machine + Serialize>(
        &self,
        problems: &Problems,
        subject: &Subject,
        version: u64,
        review: &Review<M>,
    ) -> Result<bool, Failure> {
        let now = now_ms();
        let mut items = vec![self.item(subject, version, &review.next)?];
        items.extend(problems.items(subject, review, now).await?);
        self.at_once(subject, items).await
    }

    /// The subjects of some rows, from after this key on, of which something lasts; and the last
    /// key, where there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn lasting(
        &self,
        after: Option<&str>,
    ) -> Result<(Vec<Subject>, Option<String>), Failure> {
        let lasts = |it: &Told| it.resolved.is_none();
        let (found, last) = self.telling(after, lasts).await?;
        Ok((found.into_iter().map(|it| it.0).collect(), last))
    }

    /// The subjects of some rows, from after this key on, of which something that was told is not final,
    /// with their versions; and the last key, where there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn provisional(
        &self,
        after: Option<&str>,
    ) -> Result<(Vec<(Subject, u64)>, Option<String>), Failure> {
        self.telling(after, |it| !it.settled).await
    }

    /// The subjects of which such was told, with their versions.
    async fn telling(
        &self,
        after: Option<&str>,
        such: impl Fn(&Told) -> bool,
    ) -> Result<(Vec<(Subject, u64)>, Option<String>), Failure> {
        let start = after.map(|key| Row::from([("edge".to_owned(), text(key))]));
        let call = self.client.scan().table_name(&self.table).consistent_read(true);
        let answer = call.set_exclusive_start_key(start).send().await;
        let answer = answer.map_err(|e| unavailable("Scan", "edges", &self.table, chain(&e)))?;
        let found = answer.items().iter().filter_map(|row| {
            let subject = Subject::from_key(&text_of(row, "edge")?)?;
            let (state, version) = (text_of(row, "state")?, number_of(row, "version")?);
            let told = match subject {
                Subject::Edge { .. } => told::<EdgeStand>(&state),
                Subject::Device(_) => told::<DeviceStand>(&state),
            };
            told.iter().any(&such).then_some((subject, version))
        });
        let found = found.collect();
        Ok((found, answer.last_evaluated_key.and_then(|key| text_of(&key, "edge"))))
    }

    /// Ends what lasts of a subject that no topology has any more, at `now` (Unix milliseconds), with
    /// the state [as it is then](State::ended_at); `false` where another write came before.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn end<M: Machine + Serialize>(
        &self,
        problems: &Problems,
        subject: &Subject,
        version: u64,
        (before, next): (&State<M>, &State<M>),
        now: i64,
    ) -> Result<bool, Failure> {
        let mut items = vec![self.item(subject, version, next)?];
        for told in before.told().iter().filter(|it| it.resolved.is_none()) {
            let id = subject.problem_id(told.kind);
            let update = problems.ending(&id, told.opened, now)?;
            items.push(TransactWriteItem::builder().update(update).build());
        }
        self.at_once(subject, items).await
    }

    /// Writes all of it or nothing: false where the row has another version by now.
    async fn at_once(
        &self,
        subject: &Subject,
        items: Vec<TransactWriteItem>,
    ) -> Result<bool, Failure> {
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(outrun) => Ok(false),
            Err(e) => {
                Err(unavailable("TransactWriteItems", &subject.key(), &self.table, chain(&e)))
            }
        }
    }

    /// What the row `workers` says, and its version.
    ///
    /// # Errors
    /// Transient when DynamoDB does not answer. What cannot be read says nothing.
    pub async fn roll<R: DeserializeOwned + Default>(&self) -> Result<(u64, R), Failure> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("edge", text(WORKERS)).send().await;
        let answer = answer.map_err(|e| unavailable("GetItem", WORKERS, &self.table, chain(&e)))?;
        let row = answer.item.unwrap_or_default();
        let roll = text_of(&row, "state").and_then(|it| serde_json::from_str(&it).ok());
        Ok((number_of(&row, "version").unwrap_or(0), roll.unwrap_or_default()))
    }

    /// Writes the row `workers`, unless it was written since this version: then `false`.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn write_roll(&self, version: u64, roll: &impl Serialize) -> Result<bool, Failure> {
        let state = serde_json::to_string(roll).map_err(|e| unbuilt("the row of workers", e))?;
        let call = self.client.put_item().table_name(&self.table).item("edge", text(WORKERS));
        let call = call.item("version", number(version + 1)).item("state", text(state));
        let call = match version {
            0 => call.condition_expression("attribute_not_exists(edge)"),
            version => call
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(version)),
        };
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(unavailable("PutItem", WORKERS, &self.table, chain(&e))),
        }
    }

    /// What writes a row as it is under its next version, unless it was written since this one: so
    /// whoever read it before and has not written yet reads again.
    ///
    /// # Errors
    /// Permanent, for a state that cannot be written.
    pub fn again<M: Machine + Serialize>(
        &self,
        subject: &Subject,
        version: u64,
        state: &State<M>,
    ) -> Result<TransactWriteItem, Failure> {
        self.item(subject, version, state)
    }

    fn item(
        &self,
        name: &Subject,
        version: u64,
        state: &impl Serialize,
    ) -> Result<TransactWriteItem, Failure> {
        let state = serde_json::to_string(state).map_err(|e| unbuilt("a row of edges", e))?;
        let put = Put::builder()
            .table_name(&self.table)
            .item("edge", text(name.key()))
            .item("version", number(version + 1))
            .item("state", text(state));
        let put = match version {
            0 => put.condition_expression("attribute_not_exists(edge)"),
            version => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(version)),
        };
        let put = put.build().map_err(|e| unbuilt("a row of edges", e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

/// What was told by a state; nothing where it cannot be read.
fn told<M: Machine + DeserializeOwned>(state: &str) -> Box<[Told]> {
    let state = serde_json::from_str::<State<M>>(state);
    state.map_or_else(|_| Box::default(), |it| it.told().into())
}

/// Whether another write came before, or is at the same rows.
fn outrun(error: &TransactWriteItemsError) -> bool {
    match error {
        TransactWriteItemsError::TransactionCanceledException(e) => {
            let codes = e.cancellation_reasons().iter().filter_map(|reason| reason.code());
            codes
                .into_iter()
                .any(|it| matches!(it, "ConditionalCheckFailed" | "TransactionConflict"))
        }
        TransactWriteItemsError::TransactionInProgressException(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use flotilla_runtime::aws;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        engine::{Limits, Rule},
        reading::Reading,
    };

    /// Whether a review of what opens a problem was written over a row of this version, where DynamoDB
    /// answers so; and what was asked.
    async fn written(version: u64, answer: (u16, Value)) -> (Option<bool>, Vec<Value>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let sdk = crate::fake::sdk(move |request| {
            let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            heard.lock().unwrap().push(body);
            (answer.0, answer.1.to_string().into_bytes())
        });
        let edges = Edges::new(aws::dynamo_client(&sdk), "edges");
        let problems = Problems::new(aws::dynamo_client(&sdk), "problems");
        let (current, following) = ("01".to_owned(), "02".to_owned());
        let reading = |at, filling| vec![Reading { at, filling, seq: None }];
        let state = State::<EdgeStand>::default();
        let (first, second) = (reading(1, 100.0), reading(2, 50.0));
        let review = state.review(&Rule::default(), &Limits::default(), first, second);
        let subject = Subject::Edge { current, following };
        let written = edges.write(&problems, &subject, version, &review).await.ok();
        let asked = asked.lock().unwrap().clone();
        (written, asked)
    }

    fn cancelled(code: &str) -> (u16, Value) {
        let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        let reasons = json!([{ "Code": code }, { "Code": "None" }]);
        (400, json!({ "__type": kind, "CancellationReasons": reasons }))
    }

    #[tokio::test]
    async fn a_state_and_its_problems_are_written_at_once_over_the_version_that_was_read() {
        let (done, asked) = written(7, (200, json!({}))).await;
        assert_eq!((done, asked.len()), (Some(true), 1));
        let items = asked[0]["TransactItems"].as_array().unwrap();
        assert_eq!(items.len(), 2, "{items:?}");
        let (put, told) = (&items[0]["Put"], &items[1]["Update"]);
        assert_eq!(put["ConditionExpression"], "version = :version");
        assert_eq!(put["ExpressionAttributeValues"], json!({ ":version": { "N": "7" } }));
        assert_eq!(put["Item"]["version"], json!({ "N": "8" }));
        assert_eq!(
            (&told["TableName"], &told["Key"]["opened"]["N"]),
            (&json!("problems"), &json!("2"))
        );
        let (_, first) = written(0, (200, json!({}))).await;
        let put = &first[0]["TransactItems"][0]["Put"];
        assert_eq!(put["ConditionExpression"], "attribute_not_exists(edge)");
    }

    #[tokio::test]
    async fn who_is_outrun_is_told_so_and_any_other_refusal_is_a_failure() {
        for code in ["ConditionalCheckFailed", "TransactionConflict"] {
            assert_eq!(written(7, cancelled(code)).await.0, Some(false), "{code}");
        }
        assert_eq!(written(7, cancelled("ItemCollectionSizeLimitExceeded")).await.0, None);
        let denied = json!({ "__type": "AccessDeniedException" });
        assert_eq!(written(7, (400, denied)).await.0, None);
    }
}
