//! The table of readings: an item for each, by device and time.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    operation::{
        query::builders::QueryFluentBuilder, transact_write_items::TransactWriteItemsError,
    },
    types::{AttributeValue as Attr, Put, PutRequest, TransactWriteItem, WriteRequest},
};
use flotilla_runtime::{Failure, failure::chain, retry::RetryPolicy};
use futures::future::try_join_all;

use super::{Row, now_ms, number, number_of, text, text_of, unavailable, unbuilt};
use crate::{engine::Kind, reading::Reading};

/// The most items of a call.
const BATCH: usize = 25;
/// How often what is put off is written again, and how long to wait before.
const ATTEMPTS: u32 = 8;
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(20), Duration::from_secs(2));

/// A reading that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// The device.
    pub device: &'a str,
    /// What it measured.
    pub reading: &'a Reading,
    /// What was said of it as it came.
    pub said: Said,
}

/// The table of readings. Clones share the client.
#[derive(Debug, Clone)]
pub struct Readings {
    client: Client,
    table: String,
}

/// What the comparison with the following sensor said when a reading came: the original service's
/// message of the moment. What holds in the end is in the table of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing is wrong.
    Ok,
    /// Something is.
    Wrong(Kind),
    /// No sensor follows.
    LastSensor,
}

impl Said {
    /// What was found beside the following sensors, if there is one.
    pub fn of(found: Option<Option<Kind>>) -> Self {
        match found {
            None => Self::LastSensor,
            Some(None) => Self::Ok,
            Some(Some(kind)) => Self::Wrong(kind),
        }
    }

    /// As the original service wrote it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Wrong(kind) => kind.name(),
            Self::LastSensor => "LAST SENSOR",
        }
    }
}

/// What was said of a reading, by the name of [`Said`], in a row or a row's image.
pub fn said_in(said: &str) -> Option<Said> {
    [Said::Ok, Said::LastSensor].into_iter().find(|it| it.name() == said)
}

/// What came of a reading that was to be stored with what its machines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is stored.
    New,
    /// It was there before, and stays as it was.
    There,
    /// Another wrote one of the rows: nothing is stored.
    Outrun,
}

/// A stretch of a device's readings.
#[derive(Debug, Clone)]
pub struct Span {
    /// From this event time on, in Unix milliseconds; not negative.
    pub from: i64,
    /// Before this one; after `from`.
    pub to: i64,
    /// Beyond the reading of this key, which is [within](Self::holds) the stretch.
    pub after: Option<String>,
    /// Whether the newest comes first.
    pub newest_first: bool,
}

impl Span {
    /// Whether this can be the key of a reading of the stretch.
    pub fn holds(&self, key: &str) -> bool {
        let (first, last) = self.ends();
        key.len() <= KEY && first.as_str() <= key && key <= last.as_str()
    }

    fn ends(&self) -> (String, String) {
        (format!("{:015}", self.from), Reading::key_after(self.to - 1))
    }
}

/// A reading as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReading {
    /// Its key among its device's.
    pub key: String,
    /// What was said.
    pub reading: Reading,
    /// The keys of the subjects that it came too late for, to be compared.
    pub late: Vec<String>,
}

/// A reading that came too late, as the late list has it.
#[derive(Debug, Clone, PartialEq)]
pub struct LateReading {
    /// Its key in the list: in order of time.
    pub key: String,
    /// The device.
    pub device: String,
    /// What was said.
    pub reading: Reading,
    /// When it was stored, in Unix milliseconds of processing time.
    pub stored_at: i64,
}

/// The longest key that DynamoDB sorts by, in bytes.
const KEY: usize = 1024;

/// What the late list has in place of a device. Ids have no slash.
const LATE: &str = "/late";

impl Readings {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// Stores a reading, for so long; `false` if it was there.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn store(
        &self,
        New { device, reading, said }: New<'_>,
        keep: Duration,
    ) -> Result<bool, Failure> {
        let mut row = self.row(reading, said, keep);
        row.extend(key(device, reading));
        let call = self.client.put_item().table_name(&self.table).set_item(Some(row));
        match call.condition_expression("attribute_not_exists(device)").send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(unavailable("PutItem", device, &self.table, chain(&e))),
        }
    }

    /// Stores readings in calls of up to 25, over what is there under their keys: the same. No key
    /// may be there twice.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take them all.
    pub async fn store_all(&self, new: &[New<'_>], keep: Duration) -> Result<(), Failure> {
        let mut requests = Vec::with_capacity(new.len());
        for New { device, reading, said } in new {
            let mut row = self.row(reading, *said, keep);
            row.extend(key(device, reading));
            let put = PutRequest::builder().set_item(Some(row)).build();
            let put = put.map_err(|e| unbuilt("a row of readings", e))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let calls = requests.chunks(BATCH).map(|chunk| self.write(chunk.to_vec()));
        try_join_all(calls).await.map(drop)
    }

    /// Writes again what DynamoDB puts off.
    async fn write(&self, mut left: Vec<WriteRequest>) -> Result<(), Failure> {
        for attempt in 0..ATTEMPTS {
            let call = self.client.batch_write_item().request_items(&self.table, left);
            let failed = |e| unavailable("BatchWriteItem", "readings", &self.table, e);
            let answer = call.send().await.map_err(|e| failed(chain(&e)))?;
            left = answer.unprocessed_items.into_iter().flatten().flat_map(|it| it.1).collect();
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE.delay(attempt + 1)).await;
        }
        let what = format!("{} of them were put off {ATTEMPTS} times", left.len());
        Err(unavailable("BatchWriteItem", "readings", &self.table, what))
    }

    fn row(&self, reading: &Reading, said: Said, keep: Duration) -> Row {
        let now = now_ms();
        let mut row = Row::from([
            ("at".to_owned(), number(reading.at)),
            ("filling".to_owned(), text(reading.filling.to_string())),
            ("said".to_owned(), text(said.name())),
            ("stored_at".to_owned(), number(now)),
            ("expires_at".to_owned(), number(now / 1000 + keep.as_secs() as i64)),
        ]);
        row.extend(reading.seq.map(|seq| ("seq".to_owned(), number(seq))));
        row
    }

    /// Stores a reading that is nearly too late, or is: then for these subjects, and it is on the late
    /// list. All of it or nothing, with what writes the rows of its machines [again](super::Edges::again):
    /// so nobody's base passes it unseen, whenever its worker is gone.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn store_with(
        &self,
        New { device, reading, said }: New<'_>,
        late: Vec<String>,
        keep: Duration,
        machines: Vec<TransactWriteItem>,
    ) -> Result<Kept, Failure> {
        let (mut row, is_late) = (self.row(reading, said, keep), !late.is_empty());
        row.extend(key(device, reading));
        row.extend(is_late.then(|| ("late".to_owned(), Attr::Ss(late))));
        let is_new = Some("attribute_not_exists(device)".to_owned());
        let entry = is_late.then(|| (self.late_entry(device, reading, keep), None));
        let items = [(row, is_new)].into_iter().chain(entry).map(|(row, condition)| {
            let put = Put::builder().table_name(&self.table).set_item(Some(row));
            let put = put.set_condition_expression(condition).build();
            let put = put.map_err(|e| unbuilt("a row of readings", e))?;
            Ok(TransactWriteItem::builder().put(put).build())
        });
        let mut items: Vec<_> = items.collect::<Result<_, Failure>>()?;
        items.extend(machines);
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        match call.send().await {
            Ok(_) => Ok(Kept::New),
            Err(e) => {
                let kept = e.as_service_error().and_then(refused);
                kept.ok_or_else(|| {
                    unavailable("TransactWriteItems", device, &self.table, chain(&e))
                })
            }
        }
    }

    fn late_entry(&self, device: &str, reading: &Reading, keep: Duration) -> Row {
        let mut entry = self.row(reading, Said::Ok, keep);
        entry.remove("said");
        entry.extend([
            ("device".to_owned(), text(LATE)),
            ("reading".to_owned(), text(format!("{}.{device}", reading.key()))),
            ("of".to_owned(), text(device)),
        ]);
        entry
    }

    /// Notes that a reading came too late to be compared in these subjects, and puts it on the late
    /// list for so long.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn mark_late(
        &self,
        device: &str,
        reading: &Reading,
        subjects: Vec<String>,
        keep: Duration,
    ) -> Result<(), Failure> {
        let entry = self.late_entry(device, reading, keep);
        let listed = self.client.put_item().table_name(&self.table).set_item(Some(entry)).send();
        listed.await.map_err(|e| unavailable("PutItem", device, &self.table, chain(&e)))?;
        let call = self.client.update_item().table_name(&self.table);
        let call = call.set_key(Some(key(device, reading))).update_expression("SET late = :late");
        let sent = call.expression_attribute_values(":late", Attr::Ss(subjects)).send().await;
        sent.map(drop).map_err(|e| unavailable("UpdateItem", device, &self.table, chain(&e)))
    }

    /// At most `limit` readings of the late list, of a stretch of time; and whether there may be
    /// more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn late(&self, span: &Span, limit: i32) -> Result<(Vec<LateReading>, bool), Failure> {
        let (rows, more) = self.rows(LATE, span, limit).await?;
        let late = |row: &Row| {
            Some(LateReading {
                key: text_of(row, "reading")?,
                device: text_of(row, "of")?,
                reading: read(row)?,
                stored_at: number_of(row, "stored_at")?,
            })
        };
        Ok((rows.iter().filter_map(late).collect(), more))
    }

    /// All readings of a device after this time (Unix milliseconds), duplicates and all; without
    /// those that came too late for all of these subjects.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn after(
        &self,
        device: &str,
        after: i64,
        subjects: &[String],
    ) -> Result<Vec<Reading>, Failure> {
        let out = |row: &Row| {
            let late = row.get("late").and_then(|it| it.as_ss().ok());
            late.is_some_and(|late| subjects.iter().all(|it| late.contains(it)))
        };
        let call = self.of(device, "device = :device AND #key > :after");
        // Keys begin with a digit.
        let from = if after < 0 { " ".to_owned() } else { Reading::key_after(after) };
        let call = call.expression_attribute_names("#key", "reading");
        let call = call.expression_attribute_values(":after", text(from));
        let mut pages = call.into_paginator().items().send();
        let mut readings = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| unavailable("Query", device, &self.table, chain(&e)))?;
            readings.extend(Some(&item).filter(|it| !out(it)).and_then(read));
        }
        Ok(readings)
    }

    /// The newest reading of a device, be it a duplicate or not.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn last(&self, device: &str) -> Result<Option<Reading>, Failure> {
        let call = self.of(device, "device = :device").scan_index_forward(false).limit(1);
        let answer = call.send().await;
        let answer = answer.map_err(|e| unavailable("Query", device, &self.table, chain(&e)))?;
        Ok(answer.items().first().and_then(read))
    }

    /// At most `limit` readings of a stretch, duplicates and all; and whether there may be more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn span(
        &self,
        device: &str,
        span: &Span,
        limit: i32,
    ) -> Result<(Vec<StoredReading>, bool), Failure> {
        let (rows, more) = self.rows(device, span, limit).await?;
        Ok((rows.iter().filter_map(stored).collect(), more))
    }

    async fn rows(
        &self,
        device: &str,
        span: &Span,
        limit: i32,
    ) -> Result<(Vec<Row>, bool), Failure> {
        let (first, last) = span.ends();
        let call = self.of(device, "device = :device AND #key BETWEEN :first AND :last");
        let call = call.expression_attribute_names("#key", "reading").limit(limit);
        let call = call.expression_attribute_values(":first", text(first));
        let call = call.expression_attribute_values(":last", text(last));
        let start = |key: &String| {
            let device = ("device".to_owned(), text(device));
            Row::from([device, ("reading".to_owned(), text(key))])
        };
        let call = call.set_exclusive_start_key(span.after.as_ref().map(start));
        let answer = call.scan_index_forward(!span.newest_first).send().await;
        let answer = answer.map_err(|e| unavailable("Query", device, &self.table, chain(&e)))?;
        let more = answer.last_evaluated_key.is_some();
        Ok((answer.items.unwrap_or_default(), more))
    }

    fn of(&self, device: &str, condition: &str) -> QueryFluentBuilder {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression(condition);
        call.expression_attribute_values(":device", text(device))
    }
}

/// Why a transaction was refused whose first item is its reading, if it is known.
fn refused(error: &TransactWriteItemsError) -> Option<Kept> {
    match error {
        TransactWriteItemsError::TransactionCanceledException(e) => {
            let codes: Vec<_> = e.cancellation_reasons().iter().map(|it| it.code()).collect();
            let failed = |code: &Option<&str>| *code == Some("ConditionalCheckFailed");
            let passing =
                |code: &Option<&str>| failed(code) || *code == Some("TransactionConflict");
            match codes.first().is_some_and(failed) {
                true => Some(Kept::There),
                false => codes.iter().any(passing).then_some(Kept::Outrun),
            }
        }
        TransactWriteItemsError::TransactionInProgressException(_) => Some(Kept::Outrun),
        _ => None,
    }
}

fn key(device: &str, reading: &Reading) -> Row {
    Row::from([("device".to_owned(), text(device)), ("reading".to_owned(), text(reading.key()))])
}

fn stored(row: &Row) -> Option<StoredReading> {
    let late = row.get("late").and_then(|it| it.as_ss().ok()).cloned().unwrap_or_default();
    Some(StoredReading { key: text_of(row, "reading")?, reading: read(row)?, late })
}

fn read(row: &Row) -> Option<Reading> {
    Some(Reading {
        at: number_of(row, "at")?,
        filling: text_of(row, "filling")?.parse().ok()?,
        seq: number_of(row, "seq"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_dynamodb::types::{CancellationReason, error::TransactionCanceledException};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_no_reading_can_have_is_no_place_in_a_stretch() {
        let span = Span { from: 5, to: 900, after: None, newest_first: false };
        let reading = |at| Reading { at, filling: f64::from_bits(1), seq: Some(u64::MAX) };
        assert!(span.holds(&reading(5).key()) && span.holds(&reading(899).key()));
        assert!(!span.holds(&reading(4).key()) && !span.holds(&reading(900).key()));
        assert!(!span.holds(&format!("{:015}{}", 7, "x".repeat(1024))));
    }

    /// How storing so many readings ends where so many of each of the first calls are put off; and how
    /// many were asked for, call by call.
    async fn stored(count: i64, put_off: &'static [usize]) -> (bool, Vec<usize>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let sdk = crate::fake::sdk(move |request| {
            let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let all = body["RequestItems"]["readings"].as_array().unwrap().clone();
            let mut asked = heard.lock().unwrap();
            let left = put_off.get(asked.len()).map_or(0, |it| all.len() - it);
            let left = if put_off.len() > asked.len() { &all[left..] } else { &[] };
            asked.push(all.len());
            let left = if left.is_empty() { json!({}) } else { json!({ "readings": left }) };
            (200, json!({ "UnprocessedItems": left }).to_string().into_bytes())
        });
        let table = Readings::new(flotilla_runtime::aws::dynamo_client(&sdk), "readings");
        let all: Vec<_> = (0..count).map(|at| Reading { at, filling: 1.0, seq: None }).collect();
        let new = all.iter().map(|reading| New { device: "a", reading, said: Said::Ok });
        let done = table.store_all(&new.collect::<Vec<_>>(), Duration::from_secs(60)).await;
        let asked = asked.lock().unwrap().clone();
        (done.is_ok(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn what_dynamodb_puts_off_is_stored_again_until_it_takes_it_and_else_not_done() {
        assert_eq!(stored(20, &[]).await, (true, vec![20]));
        assert_eq!(stored(20, &[20, 7, 1]).await, (true, vec![20, 20, 7, 1]));
        assert_eq!(stored(3, &[3; 20]).await, (false, vec![3; ATTEMPTS as usize]));
    }

    #[test]
    fn a_reading_that_was_there_is_told_from_a_row_that_another_wrote() {
        let kept = |codes: &[&str]| {
            let reasons = codes.iter().map(|it| CancellationReason::builder().code(*it).build());
            let reasons = Some(reasons.collect());
            let why = TransactionCanceledException::builder().set_cancellation_reasons(reasons);
            refused(&TransactWriteItemsError::TransactionCanceledException(why.build()))
        };
        let failed = "ConditionalCheckFailed";
        assert_eq!(kept(&[failed, "None", failed]), Some(Kept::There));
        assert_eq!(kept(&["None", failed]), Some(Kept::Outrun));
        assert_eq!(kept(&["TransactionConflict", "None"]), Some(Kept::Outrun));
        assert_eq!(kept(&["None", "ThrottlingError"]), None);
    }
}
