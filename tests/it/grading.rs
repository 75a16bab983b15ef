//! A submission lands in the bucket, and its verdict comes out.

use std::time::Duration;

use flotilla_tests::{World, eventually, s3_event};
use serde_json::json;

const ADD: &str = "import sys\nprint(sum(map(int, sys.argv[1:])))\n";

async fn world_with_sums() -> World {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n10 20 30\n", "3\n60\n").await;
    world
}

#[tokio::test]
async fn every_verdict_comes_out_of_a_real_run() {
    let world = world_with_sums().await;
    let limits = json!({ "cpu_ms": 500, "wall_ms": 8000, "output_bytes": 65536 });
    world.limits("ada/labs/sums", limits).await;
    let mut worker = world.grading_worker().ready().await;
    let programs = [
        ("correct", ADD, "AC"),
        ("wrong", "print(4)", "WA"),
        ("spins", "while True: pass", "TLE"),
        ("sleeps", "import time\ntime.sleep(1e9)", "WTLE"),
        ("hoards", "x = bytearray(1 << 30)", "MLE"),
        ("floods", "while True: print('x' * 9999)", "OLE"),
        ("crashes", "import ctypes\nctypes.string_at(0)", "RTE"),
        ("raises", "raise ValueError(7)", "RTE"),
        ("silent", "pass", "NO-OUTPUT"),
        ("forks", "import os\nwhile True: os.fork()", "RTE or TLE"),
        ("late-wrong", "import sys\nprint(3)", "WA"),
    ];
    let mut submissions = Vec::new();
    for (id, program, expected) in programs {
        submissions.push((id, world.submit("ada/labs/sums", id, program).await, expected));
    }
    for (id, submission, expected) in submissions {
        let verdict = world.verdict(&submission).await;
        assert!(expected.split(" or ").any(|e| e == verdict), "{id}: {verdict}, not {expected}");
    }
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_result_is_a_row_a_json_and_a_csv_that_agree() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let program = "import sys\nprint('3 \\n') if len(sys.argv) == 3 else print('a,\"b\"')";
    let submission = world.submit("ada/labs/sums", "one", program).await;
    let results = world.results(&submission).await;
    assert_eq!((&results["verdict"], &results["passed"]), (&json!("WA"), &json!(1)));
    let first = &results["tests"][0];
    assert_eq!((&first["input"], &first["expected"]), (&json!("1 2"), &json!("3")));
    assert_eq!((&first["actual"], &first["pass"]), (&json!("3"), &json!(true)));

    let csv = world.get(&submission.output("one.out")).await.unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let header = "input,expected output,actual output,pass/fail";
    let rows = format!("{header}\r\n1 2,3,3,Pass\r\n10 20 30,60,\"a,\"\"b\"\"\",Fail\r\n");
    assert_eq!(csv, rows);

    let row = world.row("one").await.unwrap();
    assert_eq!(row["verdict"].as_s().unwrap(), "WA");
    assert_eq!(row["passed"].as_n().unwrap(), "1");
    for (row_key, fixed) in [("results_key", "results.json"), ("output_key", "one.out")] {
        let run = row[row_key].as_s().unwrap();
        assert!(run.starts_with(&submission.output("runs/")), "{run}");
        assert_eq!(world.get(run).await, world.get(&submission.output(fixed)).await);
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_three_shapes_of_a_message_lead_to_the_same_submission() {
    let world = world_with_sums().await;
    let submission = world.submit("ada/labs/sums", "shapes", ADD).await;
    let key = submission.key("json");
    world.send(&json!({ "subdata": "shapes.json" }).to_string()).await;
    world.send(&json!({ "subdata": key }).to_string()).await;
    world.send(&json!({ "subdata": format!("/{key}") }).to_string()).await;
    let bucket = &world.outputs().submissions_bucket_name;
    world.send(&s3_event(bucket, &key, &submission.json_version)).await;
    let mut worker = world.grading_worker().ready().await;
    assert_eq!(world.verdict(&submission).await, "AC");
    world.until_queue_is_empty().await;
    // Five messages, with the bucket's own, and one effect.
    assert_eq!(world.ledger().await.len(), 1);
    assert_eq!(world.keys(&submission.output("runs/")).await.len(), 2);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_event_of_several_records_grades_each() {
    let world = world_with_sums().await;
    let one = world.submit("ada/labs/sums", "one", ADD).await;
    let two = world.submit("ada/labs/sums", "two", "print(1)").await;
    let bucket = &world.outputs().submissions_bucket_name;
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let mut event = parse(s3_event(bucket, &one.key("json"), &one.json_version));
    let other = parse(s3_event(bucket, &two.key("json"), &two.json_version));
    event["Records"].as_array_mut().unwrap().push(other["Records"][0].clone());
    world.send(&event.to_string()).await;
    let mut worker = world.grading_worker().ready().await;
    assert_eq!(world.verdict(&one).await, "AC");
    assert_eq!(world.verdict(&two).await, "WA");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_older_submission_never_replaces_the_result_of_a_newer_one() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let older = world.submit("ada/labs/sums", "again", "print('old')").await;
    assert_eq!(world.verdict(&older).await, "WA");
    let newer = world.submit("ada/labs/sums", "again", ADD).await;
    assert_eq!(world.verdict(&newer).await, "AC");
    // The old version again, against tests that make its effect a new one.
    world.problem("ada/labs/sums", "1 2\n10 20 30\n1\n", "3\n60\n1\n").await;
    let bucket = &world.outputs().submissions_bucket_name;
    world.send(&s3_event(bucket, &older.key("json"), &older.json_version)).await;
    world.until_queue_is_empty().await;
    assert_eq!(world.verdict(&newer).await, "AC");
    assert_eq!(world.results(&newer).await["verdict"], "AC");
    assert_eq!(world.ledger().await.len(), 3);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn one_id_in_two_places_has_a_result_in_each() {
    let world = world_with_sums().await;
    world.problem("ada/labs/other", "1 1\n", "2\n").await;
    let mut worker = world.grading_worker().ready().await;
    let there = world.submit("ada/labs/other", "shared", ADD).await;
    assert_eq!(world.results(&there).await["total"], 1);
    let here = world.submit("ada/labs/sums", "shared", ADD).await;
    assert_eq!(world.results(&here).await["total"], 2);
    // The older one again, against tests that make its effect a new one.
    world.problem("ada/labs/other", "1 1\n2 2\n3 3\n", "2\n4\n6\n").await;
    world.send(&json!({ "subdata": there.key("json") }).to_string()).await;
    world.until_queue_is_empty().await;
    assert_eq!(world.results(&there).await["total"], 3);
    assert_eq!(world.results(&here).await["total"], 2);
    // By its id alone it is ambiguous now.
    world.send(&json!({ "subdata": "shared.json" }).to_string()).await;
    world.until_queue_is_empty().await;
    assert_eq!(world.rows("shared").await.len(), 3);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_new_json_waits_for_its_program_and_is_not_graded_with_the_old_one() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().ready().await;
    let first = world.submit("ada/labs/sums", "twice", "print('old')").await;
    assert_eq!(world.verdict(&first).await, "WA");
    // S3 tells whole seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let json_first = world.submit_json("ada/labs/sums", "twice").await;
    eventually("the worker looked for it", Duration::from_secs(20), async || {
        worker.log().contains("program_missing").then_some(())
    })
    .await;
    world.put(&json_first.key("py"), ADD).await;
    assert_eq!(world.verdict(&json_first).await, "AC");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn ids_and_tokens_that_follow_no_rule_are_recorded_and_not_fatal() {
    let world = world_with_sums().await;
    world
        .put(
            "problems/ada/labs/event.json",
            json!({
                "event": { "name": "labs", "admin": "ada", "emails": ["ada@example.org"] }
            })
            .to_string(),
        )
        .await;
    let mut worker = world.grading_worker().ready().await;
    let submission = world.submit("ada/labs/sums", "no-rule", ADD).await;
    let results = world.results(&submission).await;
    assert_eq!(results["verdict"], "AC");
    let identity = json!({ "id_matches": false, "names_match": true, "tokens_known": false });
    assert_eq!(results["identity"], identity);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn both_isolations_judge_alike() {
    let world = world_with_sums().await;
    let mut worker = world.grading_worker().env("FLOTILLA_ISOLATION", "container").ready().await;
    for (id, program, verdict) in [
        ("right", ADD, "AC"),
        ("fork", "import os\nwhile True: os.fork()", "RTE"),
        ("hoard", "x = bytearray(1 << 30)", "MLE"),
        ("leave", "import os\nopen('/tmp/left', 'x')\nprint(3)", "WA"),
    ] {
        let submission = world.submit("ada/labs/sums", id, program).await;
        assert_eq!(world.verdict(&submission).await, verdict, "{id}");
    }
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}
