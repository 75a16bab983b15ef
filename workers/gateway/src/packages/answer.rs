//! Refusals, in words that pip and uv show to their user.

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use compile_worker::{builds::Failed, options::BadOptions};
use flotilla_runtime::Failure;
use hyper::ext::ReasonPhrase;
use serde_json::json;

/// How long a reason phrase may be.
const PHRASE: usize = 600;

/// When to ask again for what failed by our fault, in seconds.
const OURS: u64 = 5;

/// Why a request is not served.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// The request itself is wrong.
    Bad(String),
    /// There is no such thing.
    Absent(String),
    /// Not in a form that the client takes.
    Unacceptable(String),
    /// It cannot be made, whoever asks again.
    Impossible(String),
    /// Not now.
    Later(String, u64),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        tracing::warn!(kind = failure.kind(), "{failure}");
        Self::Later(failure.to_string(), 5)
    }
}

impl From<BadOptions> for Refusal {
    fn from(why: BadOptions) -> Self {
        Self::Impossible(why.to_string())
    }
}

impl Refusal {
    /// The refusal of a build that failed, with the address of its log.
    pub(super) fn failed(failed: &Failed, log: Option<String>) -> Self {
        let log = log.map(|url| format!("; log: {url}")).unwrap_or_default();
        let why = format!("{}{log}", failed.reason);
        if failed.ours { Self::Later(why, OURS) } else { Self::Impossible(why) }
    }

    /// The reason.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Bad(why)
            | Self::Absent(why)
            | Self::Unacceptable(why)
            | Self::Impossible(why)
            | Self::Later(why, _) => why,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Absent(_) => StatusCode::NOT_FOUND,
            Self::Unacceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Impossible(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Later(..) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The refusal with a body of its own.
    pub(super) fn with(&self, body: impl IntoResponse) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        if let Self::Later(_, seconds) = self {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from(*seconds));
        }
        if let Self::Unacceptable(_) = self {
            headers.insert(header::VARY, header::HeaderValue::from_static("Accept"));
        }
        let mut response = (self.status(), headers, body).into_response();
        // pip and uv print no body, but this.
        if let Ok(phrase) = ReasonPhrase::try_from(phrase(self.why())) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.with(Json(json!({ "error": self.why() })))
    }
}

/// What may stand in the first line of an answer: visible ASCII.
fn phrase(why: &str) -> String {
    let plain = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let tail = why.rfind("; log: ").unwrap_or(why.len());
    let (words, log) = why.split_at(tail);
    let room = PHRASE.saturating_sub(log.len());
    words.chars().take(room).chain(log.chars()).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_does_wrong_is_a_422_with_its_log_and_what_we_do_is_to_be_asked_for_again() {
        let failed = |ours| {
            let failed = Failed { reason: "no".into(), ours, log: None, retry_at: 0 };
            Refusal::failed(&failed, Some("http://h/l".into())).into_response()
        };
        let phrase = |it: &Response| it.extensions().get::<ReasonPhrase>().unwrap().clone();
        let theirs = failed(false);
        assert_eq!(theirs.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(phrase(&theirs).as_bytes(), b"no; log: http://h/l");
        assert!(!theirs.headers().contains_key(header::RETRY_AFTER));
        let ours = failed(true);
        assert_eq!(ours.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ours.headers()[header::RETRY_AFTER], "5");
    }

    #[test]
    fn a_reason_phrase_is_one_line_and_keeps_the_log() {
        let long = format!("ä\n{}; log: http://h/l", "x".repeat(1000));
        let phrase = phrase(&long);
        assert!(phrase.starts_with("??xxx") && phrase.ends_with("; log: http://h/l"));
        assert!(phrase.len() <= PHRASE && ReasonPhrase::try_from(phrase).is_ok());
    }
}
