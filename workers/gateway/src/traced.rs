//! The trace of a request, for the messages that it leads to.

use axum::{extract::Request, middleware::Next, response::Response};
use flotilla_runtime::trace::{TRACEPARENT, Traceparent};

/// Answers a request within the trace that it says it belongs to, or within a new one.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let given = request.headers().get(TRACEPARENT).and_then(|it| it.to_str().ok());
    match given.and_then(Traceparent::given) {
        Some(trace) => trace.scope(next.run(request)).await,
        None => Traceparent::begun_within(next.run(request)).await,
    }
}
