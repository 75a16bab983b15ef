//! Workers die and engines go away; nothing is lost, nothing happens twice, nothing is left.

use std::time::Duration;

use flotilla_tests::{Gate, World, containers, eventually};
use nix::sys::signal::Signal;

const SLOW: &str = "import sys, time\ntime.sleep(2)\nprint(sum(map(int, sys.argv[1:])))\n";

async fn world_with_sums() -> World {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n3 4\n", "3\n7\n").await;
    world
}

/// Waits until a submission's effect is claimed: its tests run, or are about to.
async fn until_running(world: &World) {
    eventually("a running submission", Duration::from_secs(30), async || {
        let claimed = world.ledger().await.pop()?["state"].as_s().ok()? == "claimed";
        claimed.then_some(())
    })
    .await;
}

fn number(
    row: &std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>,
    name: &str,
) -> u64 {
    row[name].as_n().unwrap().parse().unwrap()
}

#[tokio::test]
async fn kill_9_in_the_middle_of_a_submission_leaves_one_result_and_no_container() {
    let world = world_with_sums().await;
    let mut first = world.grading_worker().ready().await;
    let submission = world.submit("ada/labs/sums", "killed", SLOW).await;
    until_running(&world).await;
    assert!(!containers(first.id()).is_empty());
    assert!(!first.kill().await.success());
    eventually("no container of the dead", Duration::from_secs(20), async || {
        containers(first.id()).is_empty().then_some(())
    })
    .await;
    // The lease is 6 s long, and renewed every second or two of it.
    let mut second = world.grading_worker().ready().await;
    eventually("another worker's claim", Duration::from_secs(12), async || {
        (number(&world.ledger().await[0], "generation") == 2).then_some(())
    })
    .await;
    assert_eq!(world.verdict(&submission).await, "AC");
    world.until_queue_is_empty().await;
    assert!(second.stop().await.success());
    assert_eq!(world.keys(&submission.output("runs/")).await.len(), 2);
    let ledger = world.ledger().await;
    assert_eq!(ledger.len(), 1);
    assert_eq!((number(&ledger[0], "generation"), number(&ledger[0], "attempts")), (2, 2));
}

#[tokio::test]
async fn a_submission_that_is_given_up_has_a_result_and_a_redrive_grades_it() {
    let world = world_with_sums().await;
    let mut first = world.grading_worker().env("FLOTILLA_MAX_ATTEMPTS", "1").ready().await;
    let submission = world.submit("ada/labs/sums", "given-up", SLOW).await;
    until_running(&world).await;
    assert!(!first.kill().await.success());
    let mut second = world.grading_worker().env("FLOTILLA_MAX_ATTEMPTS", "1").ready().await;
    let results = world.results(&submission).await;
    assert_eq!(results["verdict"], "IE");
    assert!(results["reason"].as_str().unwrap().contains("the worker died"), "{results}");
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!(letter.why["kind"], "attempts_exhausted");
    world.until_queue_is_empty().await;
    world.send(&letter.body).await;
    eventually("the verdict after a redrive", Duration::from_secs(60), async || {
        (world.verdict(&submission).await == "AC").then_some(())
    })
    .await;
    world.until_queue_is_empty().await;
    assert!(second.stop().await.success());
    eventually("no container of the dead", Duration::from_secs(20), async || {
        containers(first.id()).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_a_running_submission_finish() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let submission = world.submit("ada/labs/sums", "finishes", SLOW).await;
    until_running(&world).await;
    assert!(worker.stop().await.success());
    assert_eq!(world.row("finishes").await.unwrap()["verdict"].as_s().unwrap(), "AC");
    assert_eq!(world.results(&submission).await["verdict"], "AC");
    assert_eq!(world.left_on(&world.outputs().grading_queue_url).await, 0);
}

#[tokio::test]
async fn a_second_sigterm_while_a_worker_drains_changes_nothing() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let submission = world.submit("ada/labs/sums", "asked-twice", SLOW).await;
    until_running(&world).await;
    worker.signal(Signal::SIGTERM);
    eventually("a drain", Duration::from_secs(30), async || {
        worker.page("/readyz").await.filter(|(_, why)| why.contains("draining"))
    })
    .await;
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGINT);
    assert!(worker.end().await.success());
    assert_eq!(world.results(&submission).await["verdict"], "AC");
    assert_eq!(world.left_on(&world.outputs().grading_queue_url).await, 0);
}

#[tokio::test]
async fn a_stop_hands_back_what_does_not_finish_in_the_grace_and_counts_no_attempt() {
    let world = world_with_sums().await;
    let mut first = world.grading_worker().env("FLOTILLA_GRACE_SECONDS", "0").ready().await;
    let submission = world.submit("ada/labs/sums", "handed-back", SLOW).await;
    until_running(&world).await;
    assert!(first.stop().await.success());
    let row = &world.ledger().await[0];
    assert_eq!((row["state"].as_s().unwrap().as_str(), number(row, "attempts")), ("free", 0));
    let mut second = world.grading_worker().ready().await;
    assert_eq!(world.verdict(&submission).await, "AC");
    world.until_queue_is_empty().await;
    assert!(second.stop().await.success());
}

#[tokio::test]
async fn a_lost_lease_ends_the_job_and_makes_its_result_impossible() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let submission = world.submit("ada/labs/sums", "fenced", SLOW).await;
    until_running(&world).await;
    let before = containers(worker.id());
    // Another worker's claim, as it looks in the ledger.
    let row =
        eventually("a claim", Duration::from_secs(10), async || world.ledger().await.pop()).await;
    let table = &world.outputs().ledger_table_name;
    let update =
        world.aws.dynamo.update_item().table_name(table).key("effect", row["effect"].clone());
    let one = aws_sdk_dynamodb::types::AttributeValue::N("1".into());
    let update = update.update_expression("ADD generation :one");
    update.expression_attribute_values(":one", one).send().await.unwrap();
    eventually("the lease is lost", Duration::from_secs(15), async || {
        let (_, metrics) = worker.page("/metrics").await?;
        let lost = |line: &&str| {
            line.starts_with("flotilla_dispositions_total") && line.contains("\"lost\"")
        };
        metrics.lines().filter(lost).any(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
    assert!(world.row("fenced").await.is_none());
    eventually("the container of the lost job is gone", Duration::from_secs(10), async || {
        let left = containers(worker.id());
        before.iter().any(|id| !left.contains(id)).then_some(())
    })
    .await;
    // The claim that was made up runs out, and the submission is graded after all.
    assert_eq!(world.verdict(&submission).await, "AC");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn while_docker_does_not_answer_nothing_is_lost_and_the_worker_says_so() {
    let world = world_with_sums().await;
    let mut gate = Gate::new(world.folder().join("docker.sock"));
    let mut worker = world.grading_worker().env("DOCKER_HOST", gate.docker_host()).start();
    let submission = world.submit("ada/labs/sums", "patient", SLOW).await;
    let unhealthy = async || {
        let (status, why) = worker.page("/healthz").await?;
        (status == 503 && why.contains("Docker")).then_some(())
    };
    eventually("healthz fails", Duration::from_secs(30), unhealthy).await;
    assert_eq!(world.left_on(&world.outputs().grading_queue_url).await, 1);
    gate.open();
    assert_eq!(world.verdict(&submission).await, "AC");
    gate.shut().await;
    eventually("healthz fails again", Duration::from_secs(60), unhealthy).await;
    let again = world.submit("ada/labs/sums", "patient-2", SLOW).await;
    gate.open();
    assert_eq!(world.verdict(&again).await, "AC");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
    gate.shut().await;
}
