//! One listener at `/ws`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Sensors, hub::Seat};

/// How long a listener waits for the streams.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who takes no message for so long is let go.
const SENDING: Duration = Duration::from_secs(10);
/// What a listener may say.
const SAYING: usize = 16 * 1024;

/// `/ws`: all events from now on.
pub(super) async fn listen(
    State(sensors): State<Arc<Sensors>>,
    request: WebSocketUpgrade,
) -> Response {
    match sensors.hub.seat(PATIENCE).await {
        Ok(seat) => {
            let ping = sensors.config.ping;
            request.max_message_size(SAYING).on_upgrade(move |socket| serve(socket, seat, ping))
        }
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": why }))).into_response()
        }
    }
}

/// Until the listener goes, or is gone.
async fn serve(mut socket: WebSocket, mut seat: Seat, every: Duration) {
    let mut ping = interval(every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            event = seat.events.recv() => match event {
                Ok(event) => Message::Text(event),
                Err(RecvError::Lagged(count)) => error(&format!("{count} events were missed: too slow")),
                Err(RecvError::Closed) => return,
            },
            said = socket.recv() => {
                heard = Instant::now();
                match said {
                    Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                        error("nothing can be asked here: this socket tells events")
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > every * 2 {
                    return tracing::info!("a listener is gone");
                }
                Message::Ping(Default::default())
            }
        };
        if !matches!(timeout(SENDING, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn error(what: &str) -> Message {
    Message::text(json!({ "error": what }).to_string())
}
