//! What the gateway counts and times of its requests, under OpenTelemetry's names for HTTP.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};

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

/// One request that is being answered, also where its client goes away before the answer.
struct Active;

impl Active {
    fn begin() -> Self {
        ::metrics::gauge!(ACTIVE).increment(1.0);
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ::metrics::gauge!(ACTIVE).decrement(1.0);
    }
}

/// Counts and times a request.
pub(crate) async fn measured(request: Request, next: Next) -> Response {
    let known = METHODS.into_iter().find(|it| *it == request.method());
    let method = known.map_or("_OTHER", Method::as_str);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (_active, begun) = (Active::begin(), Instant::now());
    let answer = next.run(request).await;
    let labels = [
        ("http_request_method", method.to_owned()),
        ("http_route", route.map_or_else(|| "none".to_owned(), |it| it.as_str().to_owned())),
        ("http_response_status_code", answer.status().as_str().to_owned()),
    ];
    ::metrics::histogram!(ANSWERED, &labels).record(begun.elapsed());
    answer
}
