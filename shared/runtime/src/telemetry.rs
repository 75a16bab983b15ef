//! Logs.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter},
    fmt,
    layer::{Filter, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::tail;

/// Starts logging to standard error: lines for a person at a terminal, JSON elsewhere.
/// `FLOTILLA_LOG` filters (`info` unless told), `FLOTILLA_LOG_FORMAT` is `text` or `json`.
pub fn init() {
    let told = std::env::var("FLOTILLA_LOG").unwrap_or_default();
    let terminal = std::io::stderr().is_terminal();
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let text = match std::env::var("FLOTILLA_LOG_FORMAT").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => terminal,
    };
    let logs = if text { logs.boxed() } else { logs.json().boxed() };
    let logs = logs.with_filter(logged(&told));
    tracing_subscriber::registry().with(tail::Keep.with_filter(kept(&told))).with(logs).init();
}

/// What is logged. A filter that is none is reported with the other mistakes of the configuration.
fn logged(told: &str) -> EnvFilter {
    let told = if told.is_empty() { "info" } else { told };
    EnvFilter::try_new(told).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// What is kept for dead letters: what is logged, and never less than by default. Who wants a quiet log
/// wants to know all the same what a message died of. Only where nothing is logged at all, no message pays
/// for a span.
fn kept<S: Subscriber>(told: &str) -> impl Filter<S> + use<S> + 'static {
    let logged = logged(told);
    let least = match logged.max_level_hint() {
        Some(LevelFilter::OFF) => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    };
    FilterExt::<S>::or(logged, least)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{error, error_span, info};

    use super::*;
    use crate::tail::Tail;

    /// What was written to a log.
    #[derive(Clone, Default)]
    pub(crate) struct Written(pub(crate) Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn where_nothing_is_logged_no_message_has_a_span() {
        let subscriber = tracing_subscriber::registry()
            .with(tail::Keep.with_filter(kept("off")))
            .with(fmt::layer().with_filter(logged("off")));
        tracing::subscriber::with_default(subscriber, || {
            assert!(error_span!("message", id = "m-1").is_disabled());
        });
    }

    #[test]
    fn a_message_has_its_log_and_its_lines_have_its_id_however_little_is_logged() {
        for level in ["warn", "error"] {
            let (written, tail) = (Written::default(), Tail::default());
            let writer = written.clone();
            let logs = fmt::layer().json().with_writer(move || writer.clone());
            let subscriber = tracing_subscriber::registry()
                .with(tail::Keep.with_filter(kept(level)))
                .with(logs.with_filter(logged(level)));
            tracing::subscriber::with_default(subscriber, || {
                let span = tail.of(|| error_span!("message", id = "m-1"));
                span.in_scope(|| {
                    info!("ran");
                    error!("died");
                });
            });
            let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(log.contains("died") && log.contains("m-1"), "{level}: {log}");
            assert!(!log.contains("ran"), "{level}: {log}");
            let kept = tail.text();
            assert!(kept.contains("ran") && kept.contains("died"), "{level}: {kept}");
        }
    }
}
