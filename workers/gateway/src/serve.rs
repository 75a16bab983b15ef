//! Connections: none may take its time with what it asks, and all end in order.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long to wait after a connection could not be accepted: there may be too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until it is to stop, and then until the last has its answer. A connection
/// that does not send the whole head of a request within `head` is closed; so is one that asks
/// nothing for so long.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    head: Duration,
    stop: &CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), head, stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, router: Router, head: Duration, stop: CancellationToken) {
    // Answers are written at once; a failure of this only delays them.
    stream.set_nodelay(true).ok();
    let service = TowerToHyperService::new(router);
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
