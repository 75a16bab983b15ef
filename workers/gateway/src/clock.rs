//! The time of the server, in the shape of the original time service, and of any zone.

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::{Timestamp, tz::TimeZone};
use schedule_executor::schedule::{ScheduleError, zone};
use serde_json::{Value, json};

use crate::{
    cors,
    throttle::{Rate, Throttle},
};

/// `GET /time`, at most at this rate; with `?zone=` the local time of an IANA zone, and its next
/// change of the clock.
pub fn router(rate: Rate) -> Router {
    let throttle = Arc::new(Throttle::new(rate));
    let router = Router::new().route("/time", get(time)).with_state(throttle);
    router.layer(middleware::from_fn(cors::allow))
}

async fn time(
    State(throttle): State<Arc<Throttle>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Err(wait) = throttle.take(Instant::now()) {
        let seconds = wait.as_secs_f64().ceil().to_string();
        let body = json!({ "message": "Too Many Requests" });
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds)], Json(body))
            .into_response();
    }
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    match query.get("zone") {
        None => Json(answer(now)).into_response(),
        Some(name) => match said(name) {
            Ok(zone) => Json(local(now, name, &zone)).into_response(),
            Err(why) => {
                let body = json!({ "error": why.to_string() });
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
        },
    }
}

/// The zone of a name in an address, where an unescaped plus (`Etc/GMT+5`) arrives as a space.
fn said(name: &str) -> Result<TimeZone, ScheduleError> {
    zone(&name.replace(' ', "+"))
}

fn answer(now: Timestamp) -> Value {
    json!({ "server_epoch_time": now.as_second(), "server_time_zone": "UTC" })
}

fn local(now: Timestamp, name: &str, zone: &TimeZone) -> Value {
    let mut body = answer(now);
    let wall = now.to_zoned(zone.clone());
    body["zone"] = json!(zone.iana_name().unwrap_or(name));
    body["local_time"] = json!(wall.datetime());
    body["utc_offset_seconds"] = json!(wall.offset().seconds());
    body["abbreviation"] = json!(zone.to_offset_info(now).abbreviation());
    body["next_clock_change"] = next_change(now, zone);
    body
}

/// The next instant at which the wall clock jumps; null where none is foreseen.
fn next_change(now: Timestamp, zone: &TimeZone) -> Value {
    let offset = zone.to_offset(now);
    // A zone may change its name alone, for which no clock is set.
    let change = zone.following(now).take(16).find(|change| change.offset() != offset);
    change.map_or(Value::Null, |change| {
        json!({
            "at": change.timestamp(),
            "epoch_time": change.timestamp().as_second(),
            "utc_offset_seconds": change.offset().seconds(),
            "abbreviation": change.abbreviation(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_whole_seconds_and_says_utc() {
        let now = Timestamp::from_millisecond(1_658_274_939_999).unwrap();
        let shape = r#"{"server_epoch_time":1658274939,"server_time_zone":"UTC"}"#;
        assert_eq!(answer(now).to_string(), shape);
    }

    #[test]
    fn every_zone_is_found_by_its_name_with_its_plus_raw_or_escaped() {
        let mut names = 0;
        for name in jiff::tz::TimeZoneDatabase::bundled().available() {
            let name = name.as_str();
            let Ok(expected) = zone(name) else { continue };
            for uri in
                [format!("/time?zone={name}"), format!("/time?zone={}", name.replace('+', "%2B"))]
            {
                let uri = uri.parse().unwrap();
                let Query(query) = Query::<HashMap<String, String>>::try_from_uri(&uri).unwrap();
                let found = said(&query["zone"]).unwrap();
                assert_eq!(found.iana_name(), expected.iana_name(), "{uri}");
            }
            names += 1;
        }
        assert!(names > 500, "{names}");
    }

    #[test]
    fn a_zone_tells_its_local_time_and_its_next_clock_change() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let berlin = local(now, "Europe/Berlin", &zone("Europe/Berlin").unwrap());
        assert_eq!(berlin["local_time"], "2026-03-01T13:00:00");
        assert_eq!(berlin["utc_offset_seconds"], 3600);
        assert_eq!(berlin["next_clock_change"]["at"], "2026-03-29T01:00:00Z");
        assert_eq!(berlin["next_clock_change"]["utc_offset_seconds"], 7200);
        let tokyo = local(now, "Asia/Tokyo", &zone("Asia/Tokyo").unwrap());
        assert_eq!(
            (&tokyo["abbreviation"], &tokyo["next_clock_change"]),
            (&json!("JST"), &Value::Null)
        );
    }
}
