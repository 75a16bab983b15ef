//! Logs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging to standard error: lines for a person at a terminal, JSON elsewhere.
/// `FLOTILLA_LOG` filters (`info` unless told), `FLOTILLA_LOG_FORMAT` is `text` or `json`.
pub fn init() {
    let filter = EnvFilter::try_from_env("FLOTILLA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let text = match std::env::var("FLOTILLA_LOG_FORMAT").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stderr().is_terminal(),
    };
    if text { logs.init() } else { logs.json().init() }
}
