//! What is asked for under `/v1`: ids, times, numbers and cursors, and what is said of bad ones.

use anomaly_worker::{
    engine::Kind,
    message,
    reading::{ID_LIMIT, check_id},
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, Query},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flotilla_runtime::Failure;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The longest cursor, in characters: a position in the streams has some dozen per shard.
const CURSOR: usize = 64 * 1024;

/// Why something is not served.
#[derive(Debug)]
pub(super) enum Refused {
    /// 400: it cannot be asked so.
    Bad(String),
    /// 404: there is no such thing.
    Missing(String),
    /// This status, for this reason, with more to it.
    Other(StatusCode, Value),
    /// 503: a table or a queue does not answer; 500: what is stored cannot be read.
    Down(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Down(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Bad(why) => (StatusCode::BAD_REQUEST, json!({ "error": why })),
            Self::Missing(what) => (StatusCode::NOT_FOUND, json!({ "error": what })),
            Self::Other(status, body) => (status, body),
            Self::Down(failure) => {
                tracing::error!(kind = failure.kind(), "{failure}");
                let why = "the tables cannot be reached now: try again";
                match failure {
                    Failure::Permanent(_) => {
                        let why = failure.to_string();
                        (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": why }))
                    }
                    _ => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": why })),
                }
            }
        };
        (status, Json(body)).into_response()
    }
}

/// The id of a device in a path, such as one may have.
#[derive(Debug)]
pub(super) struct DeviceId(pub(super) String);

/// The id of a problem in a path, such as one may have.
#[derive(Debug)]
pub(super) struct ProblemId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for DeviceId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let id = path(parts, state).await?;
        check_id(&id).map(|()| Self(id)).map_err(Refused::Bad)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ProblemId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let id = path(parts, state).await?;
        check_problem_id(&id).map(|()| Self(id)).map_err(Refused::Bad)
    }
}

async fn path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Refused> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(id)| id).map_err(|why| Refused::Bad(why.body_text()))
}

/// Refuses what can be neither the ids of two devices, one after the other, nor that of a device, a
/// slash and what is told of it alone.
pub(super) fn check_problem_id(id: &str) -> Result<(), String> {
    if let Some((device, kind)) = id.rsplit_once('/')
        && Kind::from_name(kind).is_some_and(Kind::is_of_a_device)
    {
        return check_id(device);
    }
    let limit = 2 * ID_LIMIT;
    let why = match id {
        "" => "is empty".to_owned(),
        _ if id.len() > limit => format!("is over {limit} bytes"),
        _ if id.contains('/') => "has a slash".to_owned(),
        _ if id.contains(char::is_control) => "has a control character".to_owned(),
        _ => return Ok(()),
    };
    let shown: String = id.chars().take(40).collect();
    Err(format!("the problem's id {shown:?} {why}"))
}

/// What follows the `?`, with every mistake told.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|why| Refused::Bad(why.body_text()))
    }
}

/// A time in Unix milliseconds, from Unix seconds, Unix milliseconds or RFC 3339.
pub(super) fn time(name: &str, text: &str) -> Result<i64, Refused> {
    // In a query a plus sign that is not encoded is a space.
    let value = match text.trim().parse::<f64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text.trim().replace(' ', "+")),
    };
    message::time(&value).map_err(|why| Refused::Bad(format!("{name}: {why}")))
}

/// How many, from one to a limit.
pub(super) fn limit(asked: Option<u32>, default: usize, most: usize) -> Result<usize, Refused> {
    match asked.map_or(default, |it| it as usize) {
        it if (1..=most).contains(&it) => Ok(it),
        it => Err(Refused::Bad(format!("limit is {it}: from 1 to {most} can be asked for"))),
    }
}

/// A place as an opaque text.
pub(super) fn cursor(place: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// The place of a cursor.
pub(super) fn place<T: DeserializeOwned>(cursor: &str) -> Result<T, Refused> {
    let read = || {
        let bytes = Some(cursor).filter(|it| it.len() <= CURSOR)?;
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(bytes).ok()?).ok()
    };
    read().ok_or_else(|| {
        let why = "this cursor is none of these: take it from `next` of the page before, unchanged";
        Refused::Bad(why.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_every_spelling() {
        for text in [
            "1700000000",
            "1700000000000",
            "2023-11-14T22:13:20Z",
            "2023-11-15T00:13:20 02:00",
            " 1.7e9 ",
        ] {
            assert_eq!(time("from", text).unwrap(), 1_700_000_000_000, "{text}");
        }
        for text in ["", "nan", "inf", "-1", "1e400", "yesterday", "9999-12-31T23:59:60Z"] {
            assert!(matches!(time("from", text), Err(Refused::Bad(_))), "{text}");
        }
    }

    #[test]
    fn who_asks_for_what_cannot_be_read_is_not_told_to_try_again() {
        let what = "the stored topology town: TOML parse error";
        let status = |why: Failure| Refused::Down(why).into_response().status();
        assert_eq!(status(Failure::permanent("topology", what)), 500);
        assert_eq!(status(Failure::transient("dynamodb", what)), 503);
    }

    #[test]
    fn ids_of_problems_are_those_of_two_devices() {
        let long = "x".repeat(2 * ID_LIMIT);
        for id in ["0102", "1", "ä1ä2", long.as_str()] {
            assert_eq!(check_problem_id(id), Ok(()), "{id}");
        }
        for id in ["", "01/02", "01\u{0}02", "0102\n", &format!("{long}x")] {
            assert!(check_problem_id(id).is_err(), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_its_place_and_nothing_else_is_one(text in ".{0,30}", number: i64, junk in ".{0,60}") {
            let place_ = (text, number);
            prop_assert_eq!(place::<(String, i64)>(&cursor(&place_)).unwrap(), place_);
            let _ = place::<(String, i64)>(&junk);
        }
    }
}
