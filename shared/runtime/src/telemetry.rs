//! Logs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::tail;

/// Starts logging to standard error: lines for a person at a terminal, JSON elsewhere.
/// `FLOTILLA_LOG` filters (`info` unless told), `FLOTILLA_LOG_FORMAT` is `text` or `json`.
pub fn init() {
    let filter = EnvFilter::try_from_env("FLOTILLA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let text = match std::env::var("FLOTILLA_LOG_FORMAT").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => terminal,
    };
    let logs = if text { logs.boxed() } else { logs.json().boxed() };
    tracing_subscriber::registry().with(filter).with(tail::Keep).with(logs).init();
}
