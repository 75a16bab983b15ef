//! HTTP for Flotilla: turns requests into messages, and rows into answers.
//!
//! One module per domain, each with its own router and state; [`router`] puts them together. The
//! same router runs as a process here and could on Lambda. Workers do not know the gateway.
//! Until it has keys and roles, it listens on loopback only.

pub mod clock;
pub mod config;
pub mod packages;

use axum::{Router, routing::get};

pub use config::GatewayConfig;

/// All that the gateway serves.
pub fn router() -> Router {
    let ok = || get(|| std::future::ready("ok\n"));
    Router::new().route("/healthz", ok()).route("/readyz", ok()).merge(clock::router())
}
