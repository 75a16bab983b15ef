//! One listener at `/ws`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{
        State,
        ws::{Message as Frame, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Sensors,
    ask::{Params, Refused},
    hub::Seat,
    listener::{Listener, Message, error},
    position::Position,
    replay::Replay,
    subscription::{Asked, Subscription, Wanted, position, read},
};

/// How long a listener waits for the streams.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Who takes no message for so long is let go.
const SENDING: Duration = Duration::from_secs(10);
/// What a listener may say.
const SAYING: usize = 128 * 1024;

/// What may be asked for when the listener comes: the same as by its messages.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AtOnce {
    from: Option<String>,
    device: Option<String>,
    zone: Option<String>,
    prefix: Option<String>,
    kind: Option<String>,
    status: Option<String>,
    event: Option<String>,
}

impl AtOnce {
    /// What is asked for, if anything is.
    ///
    /// # Errors
    /// Says why it cannot be asked.
    pub(super) fn read(self) -> Result<Option<(Subscription, Option<Position>)>, Refused> {
        let from = self.from.as_deref().map(position).transpose().map_err(Refused::Bad)?;
        let list = |it: Option<String>| it.into_iter().collect::<Vec<_>>();
        let wanted = Wanted {
            devices: list(self.device),
            zones: list(self.zone),
            prefixes: list(self.prefix),
            kinds: list(self.kind),
            statuses: list(self.status),
            events: list(self.event),
        };
        if from.is_none() && wanted == Wanted::default() {
            return Ok(None);
        }
        Ok(Some((Subscription::new(wanted).map_err(Refused::Bad)?, from)))
    }
}

/// `/ws`: all events from now on as the original told them, or what the listener subscribes to.
pub(super) async fn listen(
    State(sensors): State<Arc<Sensors>>,
    Params(asked): Params<AtOnce>,
    request: WebSocketUpgrade,
) -> Response {
    let asked = match asked.read() {
        Ok(asked) => asked,
        Err(why) => return why.into_response(),
    };
    match sensors.hub.seat(PATIENCE).await {
        Ok(seat) => request
            .max_message_size(SAYING)
            .on_upgrade(move |socket| serve(sensors, socket, seat, asked)),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": why }))).into_response()
        }
    }
}

type Wish = Option<(Subscription, Option<Position>)>;

/// Until the listener goes, or is gone.
async fn serve(sensors: Arc<Sensors>, mut socket: WebSocket, seat: Seat, wish: Wish) {
    let mut listener = Listener::new(seat, &sensors.zones);
    if let Some((subscription, from)) = wish
        && !subscribe(&sensors, &mut socket, &mut listener, subscription, from).await
    {
        return;
    }
    let every = sensors.config.ping;
    let mut ping = interval(every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let frame = tokio::select! {
            told = listener.next() => match told {
                Some(message) => Frame::text(message.text),
                None => return,
            },
            said = socket.recv() => {
                match said {
                    Some(Ok(Frame::Text(text))) => {
                        if !hear(&sensors, &mut socket, &mut listener, &text).await {
                            return;
                        }
                    }
                    Some(Ok(Frame::Binary(_))) => {
                        if !send(&mut socket, error("say it in text")).await {
                            return;
                        }
                    }
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                }
                heard = Instant::now();
                continue;
            }
            _ = ping.tick() => {
                if heard.elapsed() > every * 2 {
                    return tracing::info!("a listener is gone");
                }
                Frame::Ping(Default::default())
            }
        };
        if !matches!(timeout(SENDING, socket.send(frame)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Does what a listener said; `false` when it is gone.
async fn hear(
    sensors: &Sensors,
    socket: &mut WebSocket,
    listener: &mut Listener,
    text: &str,
) -> bool {
    match read(text) {
        Ok(Asked::Subscribe(subscription, from)) => {
            subscribe(sensors, socket, listener, *subscription, from).await
        }
        Ok(Asked::Unsubscribe) => {
            listener.unsubscribe();
            let text = json!({ "unsubscribed": true }).to_string();
            send(socket, Message { text, position: None }).await
        }
        Err(why) => send(socket, error(&why)).await,
    }
}

/// Confirms, and tells what was missed; `false` when the listener is gone.
async fn subscribe(
    sensors: &Sensors,
    socket: &mut WebSocket,
    listener: &mut Listener,
    subscription: Subscription,
    from: Option<Position>,
) -> bool {
    let confirmation = listener.subscribe(subscription, from.as_ref());
    if !send(socket, confirmation).await {
        return false;
    }
    let Some(from) = from else { return true };
    let mut replay = match Replay::from(&sensors.streams, from).await {
        Ok(replay) => replay,
        Err(lost) => return send(socket, error(&lost.why())).await,
    };
    loop {
        match listener.missed(&mut replay).await {
            Ok(Some(messages)) => {
                for message in messages {
                    if !send(socket, message).await {
                        return false;
                    }
                }
            }
            Ok(None) => return true,
            Err(lost) => return send(socket, error(&lost.why())).await,
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SENDING, socket.send(Frame::text(message.text))).await, Ok(Ok(())))
}
