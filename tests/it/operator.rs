//! What an operator can do about dead letters and running workers, and what ends an instance.

mod cancel;
mod dead_letters;
mod instance;
mod pause;

use std::time::Duration;

use flotilla_tests::{Submission, Worker, World, eventually};
use serde_json::json;

/// Orders are looked for often, so that a test need not wait.
const QUICK: (&str, &str) = ("FLOTILLA_CONTROL_SECONDS", "0.2");

/// Waits until a worker obeys an order to pause.
async fn until_paused(worker: &Worker) {
    eventually("a paused worker", Duration::from_secs(30), async || {
        worker.page("/readyz").await.filter(|(_, why)| why.contains("paused by the operator"))
    })
    .await;
}

/// Hands in a program that sleeps.
async fn hand_in(world: &World, id: &str, seconds: f64) -> Submission {
    world.problem("ada/labs/sleep", "1\n", "1\n").await;
    world.limits("ada/labs/sleep", json!({ "wall_ms": 60_000 })).await;
    let program = format!("import time\ntime.sleep({seconds})\nprint(1)\n");
    world.submit("ada/labs/sleep", id, &program).await
}
