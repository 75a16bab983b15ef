//! What `make bench` prints, and how it ends.

use std::process::Stdio;

use flotilla_tests::binary;
use serde_json::Value;
use tokio::process::Command;

/// In eighteen seconds there is a receive, which is more than three in a minute.
#[tokio::test]
async fn a_figure_that_misses_its_target_is_printed_as_such_and_the_bench_ends_well() {
    let name = "queue.idle_requests_per_minute";
    let mut bench = Command::new(binary("bench"));
    bench.arg("queue").env("FLOTILLA_BENCH_ONLY", name).env("FLOTILLA_BENCH_IDLE_SECONDS", "18");
    let output = bench.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let figures = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let figure = figures.into_iter().find(|figure| figure["bench"] == name).expect("the figure");
    assert!(figure["value"].as_f64() > figure["target"].as_f64(), "{figure}");
    assert_eq!(figure["detail"]["target_missed"], true, "{figure}");
    assert!(figure["detail"]["all_calls"]["AmazonSQS.ReceiveMessage"].as_u64() > Some(0));
    assert!(said.contains(name), "{said}");
}
