//! The stop signal, from wherever it comes.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when the process is asked to stop (SIGTERM, SIGINT).
///
/// Further signals change nothing: a supervisor and a terminal may both ask, and the drain has its budget
/// from the first of them. Whoever cannot wait for it kills the process (SIGKILL); its messages come
/// back when their visibility ends.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
        stop.cancel();
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn a_second_signal_while_the_process_drains_changes_nothing() {
        for first in [Signal::SIGINT, Signal::SIGTERM] {
            let (stop, other) = (on_signals().unwrap(), on_signals().unwrap());
            assert!(!stop.is_cancelled());
            raise(first).unwrap();
            stop.cancelled().await;
            for again in [Signal::SIGTERM, Signal::SIGINT] {
                raise(again).unwrap();
            }
            // The process lives, and whoever was asked has heard of it.
            other.cancelled().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
