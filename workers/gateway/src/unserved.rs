//! What is not served, in words.

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A path that there is not.
pub(crate) async fn path(uri: Uri) -> Response {
    refused(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

/// A method that a path does not take; the header `Allow` says which it takes.
pub(crate) async fn method(method: Method, uri: Uri) -> Response {
    let what = format!("{} does not take {method}; the header Allow has what it takes", uri.path());
    refused(StatusCode::METHOD_NOT_ALLOWED, what)
}

fn refused(status: StatusCode, what: String) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}
