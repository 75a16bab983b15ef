//! Workers that are killed at every step of the build of a crate.

use std::time::Duration;

use flotilla_tests::{Crates, eventually};
use serde_json::json;

use crate::{
    packages_crates::{farm, scripted},
    packages_hostile::{artifacts, nothing_dangles},
};

/// Kills a worker with SIGKILL at each of these steps, each time in the build of another crate.
async fn killed_at(steps: &[&str]) {
    let crates = Crates::new().await;
    let mut farm = farm(&crates, &[]).await;
    for step in steps {
        let name = format!("at-{step}");
        scripted(&crates, &name, "fn main() {}\n");
        assert!(farm.worker.stop().await.success());
        let victim = farm.world.crates_worker(&farm.index, &crates);
        farm.worker = victim.env("FLOTILLA_PAUSE_AT", step).ready().await;
        let order = json!({"ecosystem": "crates", "package": name, "version": "1.0.0"});
        let told = farm.order(order).await;
        let key = told["key"].as_str().unwrap().to_owned();
        eventually(&format!("a pause at {step}"), Duration::from_secs(90), async || {
            farm.worker.log().contains("paused").then_some(())
        })
        .await;
        assert!(!farm.worker.kill().await.success());
        nothing_dangles(&farm, &key).await;
        farm.worker = farm.world.crates_worker(&farm.index, &crates).ready().await;
        let told = farm.ended(&key).await;
        assert_eq!(told["build"]["state"], "done", "killed at {step}: {told}");
        nothing_dangles(&farm, &key).await;
        assert_eq!(artifacts(&farm, &name, ".tar.zst").await, 1, "killed at {step}");
        farm.world.until_built().await;
    }
    farm.end().await;
}

#[tokio::test]
async fn a_kill_before_the_container_of_a_crate_loses_no_request() {
    killed_at(&["claimed", "fetched", "resolved", "locked"]).await;
}

#[tokio::test]
async fn a_kill_after_the_container_of_a_crate_leaves_one_artifact() {
    killed_at(&["built", "checked", "logged"]).await;
}

#[tokio::test]
async fn a_kill_around_the_commit_of_a_crate_leaves_no_row_that_points_nowhere() {
    killed_at(&["stored", "committed"]).await;
}
