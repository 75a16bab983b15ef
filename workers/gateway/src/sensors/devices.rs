//! `/v1/devices`: all of them, one, and what one measured.

use std::sync::Arc;

use anomaly_worker::{
    reading::check_id,
    tables::{LateReading, Row, Span, StoredReading},
};
use axum::{Json, extract::State};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Sensors,
    ask::{DeviceId, Params, Refused, cursor, limit, place, time},
    buckets::{Bucket, Buckets, period},
    filter::Filter,
    problems::{BUDGET, LIMIT, MOST, PAGE},
    view,
};

/// Devices whose readings are asked for at a time.
const AT_A_TIME: usize = 16;
/// Readings that are read at a time for buckets, and for one answer.
const ROWS: i32 = 1000;
const ALL_ROWS: usize = 10_000;
/// After all times.
const END: i64 = 999_999_999_999_999;

type Answer = Result<Json<Value>, Refused>;

/// What may be asked of the list of devices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    zone: Option<String>,
    prefix: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterDevice {
    device: String,
}

/// `GET /v1/devices`: those that are meant, by pages as those of problems.
pub(super) async fn list(State(it): State<Arc<Sensors>>, Params(asked): Params<Asked>) -> Answer {
    let limit = limit(asked.limit, LIMIT, MOST)?;
    let mut after = match asked.cursor.as_deref().map(place::<AfterDevice>).transpose()? {
        Some(AfterDevice { device }) => {
            Some(check_id(&device).map(|()| device).map_err(Refused::Bad)?)
        }
        None => None,
    };
    let filter = Filter {
        zones: asked.zone.into_iter().collect(),
        prefixes: asked.prefix.into_iter().collect(),
        ..Filter::default()
    };
    let (mut found, mut read) = (Vec::new(), 0);
    let next = 'pages: loop {
        let (rows, last) = it.devices.rows(after.as_deref(), PAGE).await?;
        read += rows.len();
        let count = rows.len();
        for (number, row) in rows.into_iter().enumerate() {
            let Some(id) = view::id(&row).map(str::to_owned) else { continue };
            if filter.admits_devices(std::slice::from_ref(&id), &it.zones) {
                found.push(row);
            }
            if found.len() == limit && (number + 1 < count || last.is_some()) {
                break 'pages Some(id);
            }
        }
        after = last;
        if after.is_none() || read >= BUDGET {
            break after;
        }
    };
    let devices: Vec<_> = found.iter().map(|row| it.device_with_last(row)).collect();
    let devices: Vec<Value> = stream::iter(devices).buffered(AT_A_TIME).try_collect().await?;
    let next = next.map(|device| cursor(&AfterDevice { device }));
    Ok(Json(json!({ "devices": devices, "next": next })))
}

/// `GET /v1/devices/{id}`.
pub(super) async fn one(State(it): State<Arc<Sensors>>, DeviceId(id): DeviceId) -> Answer {
    let row = it.devices.row(&id).await?.ok_or_else(|| unheard(&id))?;
    it.device_with_last(&row).await.map(Json)
}

fn unheard(id: &str) -> Refused {
    Refused::Missing(format!("device {id} was never heard"))
}

impl Sensors {
    async fn device_with_last(&self, row: &Row) -> Result<Value, Refused> {
        let mut shown = view::device(row, &self.zones);
        let newest = match view::id(row) {
            Some(id) => self.readings.newest(id, 1, self.config.lateness).await?,
            None => Vec::new(),
        };
        shown.insert("last_value".to_owned(), json!(newest.last().map(|it| it.filling)));
        shown.insert("last_update".to_owned(), json!(newest.last().map(|it| it.at)));
        Ok(Value::Object(shown))
    }
}

/// What may be asked of a device's readings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measurements {
    from: Option<String>,
    to: Option<String>,
    every: Option<String>,
    order: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterReading {
    reading: String,
    /// The bucket that is not full yet.
    bucket: Option<Bucket>,
}

/// `GET /v1/devices/{id}/measurements`: what was said from one time to before another, in order of
/// time or, with `order=desc`, the newest first; with `every`, one bucket for each such period.
pub(super) async fn measurements(
    State(it): State<Arc<Sensors>>,
    DeviceId(id): DeviceId,
    Params(asked): Params<Measurements>,
) -> Answer {
    let limit = limit(asked.limit, LIMIT, MOST)?;
    let after = asked.cursor.as_deref().map(place::<AfterReading>).transpose()?;
    let (after, bucket) = after.map_or((None, None), |it| (Some(it.reading), it.bucket));
    let span = span(&asked, after)?;
    let every = asked.every.as_deref().map(period).transpose().map_err(Refused::Bad)?;
    if every.is_some() && span.newest_first {
        return Err(Refused::Bad("buckets come in order of time: leave order out".to_owned()));
    }
    it.devices.row(&id).await?.ok_or_else(|| unheard(&id))?;
    match every {
        Some(every) => it.buckets(&id, span, Buckets::new(every, limit, bucket)).await,
        None => it.plain(&id, &span, limit).await,
    }
}

fn span(asked: &Measurements, after: Option<String>) -> Result<Span, Refused> {
    let at = |name, text: &Option<String>, default| match text {
        Some(text) => time(name, text),
        None => Ok(default),
    };
    let (from, to) = (at("from", &asked.from, 0)?, at("to", &asked.to, END)?);
    if from >= to {
        return Err(Refused::Bad("from must be before to".to_owned()));
    }
    let newest_first = match asked.order.as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(other) => {
            return Err(Refused::Bad(format!("order is {other:.40?}: it can be asc or desc")));
        }
    };
    let span = Span { from, to, after, newest_first };
    match span.after.as_ref().is_none_or(|key| span.holds(key)) {
        true => Ok(span),
        false => Err(Refused::Bad("this cursor is of another from and to".to_owned())),
    }
}

impl Sensors {
    async fn plain(&self, id: &str, span: &Span, limit: usize) -> Answer {
        let (mut rows, more) = self.readings.span(id, span, limit as i32).await?;
        let last = rows.last().filter(|_| more).map(|it| it.key.clone());
        let next = last.map(|reading| cursor(&AfterReading { reading, bucket: None }));
        if span.newest_first {
            rows.reverse();
        }
        let mut rows = self.readings.counted(id, rows, self.config.lateness).await?;
        if span.newest_first {
            rows.reverse();
        }
        let rows: Vec<_> = rows.iter().map(measurement).collect();
        Ok(Json(json!({ "device": id, "measurements": rows, "next": next })))
    }

    async fn buckets(&self, id: &str, mut span: Span, mut buckets: Buckets) -> Answer {
        let every = buckets.every();
        let (mut absorb, mut read) = (None, 0);
        let next = 'pages: loop {
            let (rows, more) = self.readings.span(id, &span, ROWS).await?;
            read += rows.len();
            let Some(first) = rows.first() else { break None };
            let absorb = match &mut absorb {
                Some(absorb) => absorb,
                None => {
                    let lateness = self.config.lateness;
                    let before = self.readings.before(id, first, lateness, |_| true).await?;
                    absorb.insert(before)
                }
            };
            for StoredReading { key, reading, .. } in rows {
                if absorb.is_new(&reading) && !buckets.add(reading.at, reading.filling) {
                    break 'pages span.after.map(|reading| AfterReading { reading, bucket: None });
                }
                span.after = Some(key);
            }
            if !more {
                break None;
            }
            if read >= ALL_ROWS {
                let bucket = buckets.take_open();
                break span.after.map(|reading| AfterReading { reading, bucket });
            }
        };
        let next = next.map(|it| cursor(&it));
        let found = buckets.finish();
        Ok(Json(json!({ "device": id, "every": every, "buckets": found, "next": next })))
    }
}

/// What may be asked of the late list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Late {
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `GET /v1/late`: readings that came too late to be compared, in order of their time, by pages.
pub(super) async fn late(State(it): State<Arc<Sensors>>, Params(asked): Params<Late>) -> Answer {
    let limit = limit(asked.limit, LIMIT, MOST)?;
    let after = asked.cursor.as_deref().map(place::<AfterReading>).transpose()?;
    let Late { from, to, .. } = asked;
    let asked = Measurements { from, to, every: None, order: None, limit: None, cursor: None };
    let span = span(&asked, after.map(|it| it.reading))?;
    let (rows, more) = it.readings.late(&span, limit as i32).await?;
    let last = rows.last().filter(|_| more).map(|it| it.key.clone());
    let next = last.map(|reading| cursor(&AfterReading { reading, bucket: None }));
    let shown = |it: &LateReading| {
        json!({
            "device": it.device, "at": it.reading.at, "filling": it.reading.filling,
            "seq": it.reading.seq, "stored_at": it.stored_at,
        })
    };
    Ok(Json(json!({ "late": rows.iter().map(shown).collect::<Vec<_>>(), "next": next })))
}

fn measurement(it: &StoredReading) -> Value {
    let mut shown = json!({ "at": it.reading.at, "filling": it.reading.filling });
    if let Some(seq) = it.reading.seq {
        shown["seq"] = json!(seq);
    }
    if !it.late.is_empty() {
        shown["late"] = json!(true);
    }
    shown
}
