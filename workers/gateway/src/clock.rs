//! The time of the server, in the shape of the original time service.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json, Router, http::header::ACCESS_CONTROL_ALLOW_ORIGIN, response::IntoResponse, routing::get,
};
use serde_json::{Value, json};

/// `GET /time`.
pub fn router() -> Router {
    Router::new().route("/time", get(time))
}

async fn time() -> impl IntoResponse {
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(answer(SystemTime::now())))
}

fn answer(now: SystemTime) -> Value {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({ "server_epoch_time": seconds, "server_time_zone": "UTC" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_answer_has_whole_seconds_and_says_utc() {
        let now = UNIX_EPOCH + Duration::from_millis(1_658_274_939_999);
        let shape = r#"{"server_epoch_time":1658274939,"server_time_zone":"UTC"}"#;
        assert_eq!(answer(now).to_string(), shape);
    }
}
