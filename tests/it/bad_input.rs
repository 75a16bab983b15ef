//! Bad input is refused with a clear reason and loses nothing.

use std::time::{Duration, Instant};

use flotilla_tests::{World, eventually};
use serde_json::json;

const ADD: &str = "import sys\nprint(sum(map(int, sys.argv[1:])))\n";

#[tokio::test]
async fn bad_messages_go_whole_to_the_dead_letter_queue_and_the_worker_goes_on() {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n", "3\n").await;
    let messages = [
        ("not json", "unparsable"),
        ("{}", "unparsable"),
        ("[1]", "unparsable"),
        (r#"{"subdata": 7}"#, "unparsable"),
        (r#"{"subdata": "../x.json"}"#, "bad_key"),
        (r#"{"subdata": "submissions/a/../p/s/s.json"}"#, "bad_key"),
        (r#"{"subdata": "elsewhere/a/e/p/s/s.json"}"#, "bad_key"),
        (r#"{"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]}"#, "unparsable"),
        (
            r#"{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "other"},
               "object": {"key": "submissions/a/e/p/s/s.json"}}}]}"#,
            "other_bucket",
        ),
        // Neither its body nor what is said of it may keep it from the dead-letter queue.
        (
            r#"{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "\uffff\u0001"},
               "object": {"key": "submissions/a/e/p/s/s.json"}}}]}"#,
            "other_bucket",
        ),
    ];
    for (message, _) in messages {
        world.send(message).await;
    }
    // Not bad, only nothing to do: what S3 says when its notification is set up.
    world.send(r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}"#).await;
    let mut worker = world.grading_worker().ready().await;
    let letters = world.dead_letters(messages.len()).await;
    for (message, kind) in messages {
        let letter = letters.iter().find(|letter| letter.body == message).expect(message);
        assert_eq!(letter.why["kind"], kind, "{message}: {}", letter.why);
        assert_eq!(letter.why["worker"], worker.id());
        assert!(letter.why["reason"].as_str().is_some_and(|reason| reason.len() > 10));
        let image = letter.why["image"].as_str().unwrap_or_default();
        assert!(image.starts_with("sha256:"), "{}", letter.why);
    }
    let good = world.submit("ada/labs/sums", "good", ADD).await;
    assert_eq!(world.verdict(&good).await, "AC");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_bad_json_in_the_bucket_goes_to_the_dead_letter_queue_with_its_reason() {
    let world = World::new().await;
    let whole = json!({ "subid": "s", "admin": "a", "event": "e", "problem": "p", "tokens": [] });
    let without = |field: &str| {
        let mut json = whole.clone();
        json.as_object_mut().unwrap().remove(field);
        json.to_string()
    };
    let dotted = json!({ "subid": "s", "admin": "..", "event": "e", "problem": "p", "tokens": [] });
    let climbing =
        json!({ "subid": "../s", "admin": "a", "event": "e", "problem": "p", "tokens": [] });
    let large = format!("{}{}", " ".repeat(1024 * 1024), whole);
    let jsons = [
        ("notjson", "{".to_owned(), "bad_json"),
        ("nosubid", without("subid"), "bad_json"),
        ("noadmin", without("admin"), "bad_json"),
        ("notokens", without("tokens"), "bad_json"),
        ("dots", dotted.to_string(), "bad_json"),
        ("climbs", climbing.to_string(), "bad_json"),
        ("large", large, "json_too_large"),
        ("binary", "\u{0}\u{1}".to_owned(), "bad_json"),
    ];
    for (id, json, _) in &jsons {
        world.put(&format!("submissions/a/e/p/{id}/{id}.py"), ADD).await;
        world.put(&format!("submissions/a/e/p/{id}/{id}.json"), json.as_str()).await;
    }
    let mut worker = world.grading_worker().ready().await;
    let letters = world.dead_letters(jsons.len()).await;
    for (id, _, kind) in &jsons {
        let letter = letters.iter().find(|l| l.body.contains(&format!("/{id}.json"))).expect(id);
        assert_eq!(letter.why["kind"], *kind, "{}", letter.why);
        let reason = letter.why["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("{id}.json")), "{reason}");
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_dead_letter_has_its_log_and_its_lines_say_of_which_message_at_any_level() {
    for level in ["warn", "error"] {
        let world = World::new().await;
        let mut worker = world.counter().env("FLOTILLA_LOG", level).ready().await;
        world.send("not json").await;
        let letter = world.dead_letters(1).await.remove(0);
        let place = letter.why["log"].as_str().unwrap_or_default();
        let bucket = &world.outputs().payloads_bucket_name;
        let key = place.strip_prefix(&format!("s3://{bucket}/")).expect(place);
        let call = world.aws.s3.get_object().bucket(bucket).key(key);
        let kept = call.send().await.unwrap().body.collect().await.unwrap().to_vec();
        let kept = String::from_utf8(kept).unwrap();
        assert!(kept.contains("a job failed"), "{level}: {kept}");
        let log = worker.log();
        let failed = log.lines().find(|line| line.contains("a job failed"));
        assert_eq!(failed.is_some(), level == "warn", "{log}");
        assert!(failed.is_none_or(|line| line.contains("message{id=")), "{log}");
        world.until_queue_is_empty().await;
        assert!(worker.stop().await.success());
    }
}

#[tokio::test]
async fn a_program_that_comes_late_is_waited_for() {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n", "3\n").await;
    let mut worker = world.grading_worker().ready().await;
    let submission = world.submit_json("ada/labs/sums", "late").await;
    eventually("the worker looked for it", Duration::from_secs(20), async || {
        worker.log().contains("program_missing").then_some(())
    })
    .await;
    world.put(&submission.key("py"), ADD).await;
    assert_eq!(world.verdict(&submission).await, "AC");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_program_that_never_comes_is_a_stored_result_after_thirty_seconds() {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n", "3\n").await;
    let mut worker = world.grading_worker().ready().await;
    let begin = Instant::now();
    let submission = world.submit_json("ada/labs/sums", "never").await;
    let results = world.results(&submission).await;
    // The bucket's clock tells whole seconds.
    assert!(begin.elapsed() >= Duration::from_secs(28), "after {:?}", begin.elapsed());
    assert_eq!(results["verdict"], "IE");
    assert!(results["reason"].as_str().unwrap().contains("never.py"), "{results}");
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_missing_or_broken_problem_is_a_stored_result_at_once() {
    let world = World::new().await;
    world.problem("ada/labs/uneven", "1\n2\n", "1\n").await;
    let mut worker = world.grading_worker().ready().await;
    for (problem, says) in [("ada/labs/absent", "test.in"), ("ada/labs/uneven", "2 and 1 lines")] {
        let id = problem.rsplit('/').next().unwrap();
        let submission = world.submit(problem, id, ADD).await;
        let results = world.results(&submission).await;
        assert_eq!(results["verdict"], "IE");
        assert!(results["reason"].as_str().unwrap().contains(says), "{results}");
    }
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_id_that_leads_nowhere_or_to_two_places_is_a_stored_result() {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n", "3\n").await;
    world.put("submissions/ada/labs/one/twin/twin.json", "{").await;
    world.put("submissions/ada/labs/two/twin/twin.json", "{").await;
    world.send(r#"{"subdata": "nobody.json"}"#).await;
    world.send(r#"{"subdata": "twin.json"}"#).await;
    let mut worker = world.grading_worker().ready().await;
    for (id, says) in [("nobody", "nobody.json"), ("twin", "ambiguous")] {
        let row = eventually(id, Duration::from_secs(30), async || world.row(id).await).await;
        assert_eq!(row["verdict"].as_s().unwrap(), "IE");
        assert!(row["reason"].as_s().unwrap().contains(says), "{row:?}");
    }
    // The twins' own events are about jsons that are none.
    assert_eq!(world.dead_letters(2).await.len(), 2);
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}
