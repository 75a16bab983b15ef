//! What the gateway counts and times of its requests, under OpenTelemetry's names for HTTP.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use ::metrics::{Gauge, Histogram};
use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};

use crate::traced::traced;

flotilla_runtime::describe_metrics! {
    /// Time from a request to the head of its answer, by method, route (none where no route is
    /// meant) and status. A wheel that is being built is held for up to 12 s on purpose.
    histogram ANSWERED = "http_server_request_duration_seconds";
    /// Requests whose answer has not begun.
    gauge ACTIVE = "http_server_active_requests";
}

/// Any word can be a method; the series must stay few.
const METHODS: [&Method; 6] =
    [&Method::GET, &Method::HEAD, &Method::POST, &Method::PUT, &Method::DELETE, &Method::OPTIONS];

/// The times of the answers with a method and a status at a route, by all three.
type Series = HashMap<String, HashMap<(&'static str, u16), Histogram>>;

thread_local! {
    /// What was looked up before: to make the labels of a series and find it takes as long as to find
    /// a page. There are as many as there are routes.
    static KNOWN: RefCell<Series> = RefCell::default();
    static REQUESTS: Gauge = ::metrics::gauge!(ACTIVE);
}

/// One request that is being answered, also where its client goes away before the answer.
struct Active;

impl Active {
    fn begin() -> Self {
        REQUESTS.with(|requests| requests.increment(1.0));
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        REQUESTS.with(|requests| requests.decrement(1.0));
    }
}

/// Counts and times a request.
pub(crate) async fn measured(request: Request, next: Next) -> Response {
    let known = METHODS.into_iter().find(|it| *it == request.method());
    let method = known.map_or("_OTHER", Method::as_str);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (_active, begun) = (Active::begin(), Instant::now());
    let answer = traced(request, next).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    answered(method, route, answer.status(), begun.elapsed());
    answer
}

fn answered(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    KNOWN.with_borrow_mut(|known| {
        let one = (method, status.as_u16());
        if let Some(series) = known.get(route).and_then(|of_route| of_route.get(&one)) {
            return series.record(took);
        }
        let series = series(method, route, status);
        series.record(took);
        known.entry(route.to_owned()).or_default().insert(one, series);
    });
}

fn series(method: &'static str, route: &str, status: StatusCode) -> Histogram {
    let labels = [
        ("http_request_method", method.to_owned()),
        ("http_route", route.to_owned()),
        ("http_response_status_code", status.as_str().to_owned()),
    ];
    ::metrics::histogram!(ANSWERED, &labels)
}
