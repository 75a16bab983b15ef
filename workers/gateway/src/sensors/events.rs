//! `GET /v1/events`: what a subscription tells, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event as Sent, KeepAlive},
    },
};
use futures::stream;
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{
    Sensors,
    ask::{Params, Refused},
    hub::Seat,
    listener::{Listener, Message, error},
    position::Position,
    replay::Replay,
    socket::{AtOnce, PATIENCE},
    subscription::{Subscription, Wanted, position},
};

/// Events on their way to one listener.
const WAITING: usize = 16;
/// Who takes no event for so long is let go.
const TAKING: Duration = Duration::from_secs(10);
/// How often a silent line says that it is there.
const ALIVE: Duration = Duration::from_secs(15);

/// The same as a subscription at `/ws`; the id of each event is its position, so that a browser
/// that lost its line goes on where it was.
pub(super) async fn listen(
    State(sensors): State<Arc<Sensors>>,
    Params(asked): Params<AtOnce>,
    headers: HeaderMap,
) -> Response {
    match begin(&sensors, asked, &headers).await {
        Ok((seat, subscription, from)) => {
            let (to, out) = mpsc::channel(WAITING);
            tokio::spawn(serve(sensors, seat, subscription, from, to));
            let events = stream::unfold(out, async |mut out| {
                out.recv().await.map(|message| (Ok::<_, Infallible>(sent(message)), out))
            });
            Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
        }
        Err(why) => why.into_response(),
    }
}

async fn begin(
    sensors: &Sensors,
    asked: AtOnce,
    headers: &HeaderMap,
) -> Result<(Seat, Subscription, Option<Position>), Refused> {
    let (subscription, mut from) = match asked.read()? {
        Some(asked) => asked,
        None => (Subscription::new(Wanted::default()).map_err(Refused::Bad)?, None),
    };
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().unwrap_or_default();
        from = Some(position(last).map_err(Refused::Bad)?);
    }
    let seat =
        sensors.hub.seat(PATIENCE).await.map_err(|why| {
            Refused::Other(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": why }))
        })?;
    Ok((seat, subscription, from))
}

async fn serve(
    sensors: Arc<Sensors>,
    seat: Seat,
    subscription: Subscription,
    from: Option<Position>,
    to: mpsc::Sender<Message>,
) {
    let mut listener = Listener::new(seat, &sensors.zones);
    let confirmation = listener.subscribe(subscription, from.as_ref());
    if !take(&to, confirmation).await {
        return;
    }
    if let Some(from) = from
        && !tell_missed(&sensors, &mut listener, from, &to).await
    {
        return;
    }
    loop {
        tokio::select! {
            () = to.closed() => return,
            message = listener.next() => match message {
                Some(message) => if !take(&to, message).await { return },
                None => return,
            },
        }
    }
}

/// `false` when the listener is gone.
async fn tell_missed(
    sensors: &Sensors,
    listener: &mut Listener,
    from: Position,
    to: &mpsc::Sender<Message>,
) -> bool {
    let mut replay = match Replay::from(&sensors.streams, from).await {
        Ok(replay) => replay,
        Err(lost) => return take(to, error(&lost.why())).await,
    };
    loop {
        match listener.missed(&mut replay).await {
            Ok(Some(messages)) => {
                for message in messages {
                    if !take(to, message).await {
                        return false;
                    }
                }
            }
            Ok(None) => return true,
            Err(lost) => return take(to, error(&lost.why())).await,
        }
    }
}

async fn take(to: &mpsc::Sender<Message>, message: Message) -> bool {
    matches!(timeout(TAKING, to.send(message)).await, Ok(Ok(())))
}

fn sent(message: Message) -> Sent {
    let sent = Sent::default().data(message.text);
    match message.position {
        Some(position) => sent.id(position),
        None => sent,
    }
}
