//! The trace of a request, for the messages that it leads to.

use axum::{extract::Request, middleware::Next, response::Response};
use flotilla_runtime::trace::{TRACEPARENT, Traceparent};

/// Answers a request within the trace that it says it belongs to, or within a new one.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let given = request.headers().get(TRACEPARENT).and_then(|it| it.to_str().ok());
    let trace = given.and_then(Traceparent::given).unwrap_or_else(Traceparent::begun);
    trace.scope(next.run(request)).await
}
