use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::json;

use super::*;
use crate::{fake::FakeAws, queue::Queue};

/// What the exporter shows after `work`, on a recorder of this thread alone.
fn exposition(work: impl FnOnce()) -> String {
    let recorder = builder("job").unwrap().build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        describe();
        work();
    });
    recorder.handle().render()
}

fn everything() -> String {
    exposition(|| {
        let meter = Meter::new("http://sqs/1/main");
        super::slots(4);
        super::prices(true);
        meter.attempted(7);
        meter.waited(Duration::from_secs(1));
        meter.messages("visible", 3);
        super::sent("http://sqs/1/main", None);
        meter.disposed(&Disposition::Done, Duration::from_secs(1));
        called(Call {
            service: "SQS",
            operation: "ReceiveMessage",
            queue: Some("main"),
            code: "200".into(),
            error: None,
            took: Duration::from_secs(1),
        });
        super::scraped(true);
    })
}

#[test]
fn every_metric_has_its_help_text_and_type() {
    let text = everything();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = names.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.len(), 20, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text");
        let ours = name.starts_with("flotilla_") || name.starts_with("messaging_");
        assert!(ours, "{name} has no known prefix");
    }
}

#[test]
fn what_has_not_happened_is_zero_and_not_absent() {
    let text = exposition(|| {
        super::prices(true);
        drop(Meter::new("http://sqs/1/main.fifo"));
    });
    for line in [
        r#"flotilla_leases_lost_total{worker="job",queue="main.fifo",reason="expired"} 0"#,
        r#"flotilla_receives_total{worker="job",queue="main.fifo",result="empty"} 0"#,
        r#"flotilla_duplicate_deliveries_total{worker="job",queue="main.fifo",reason="done"} 0"#,
        r#"flotilla_dispositions_total{worker="job",queue="main.fifo",disposition="released",kind="none"} 0"#,
        r#"flotilla_dispositions_total{worker="job",queue="main.fifo",disposition="dead",kind="unparsable"} 0"#,
        r#"flotilla_dispositions_total{worker="job",queue="main.fifo",disposition="retry",kind="panic"} 0"#,
        r#"flotilla_queue_wait_seconds_count{worker="job",queue="main.fifo"} 0"#,
        r#"flotilla_jobs_in_flight{worker="job",queue="main.fifo"} 0"#,
        r#"flotilla_empty_receive_ratio{worker="job",queue="main.fifo"} 0"#,
        r#"flotilla_sqs_request_price_dollars{worker="job"} 0.0000005"#,
        r#"flotilla_dynamodb_call_price_dollars{worker="job",operation="UpdateItem"} 0.000000625"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// The metrics that are about a process, and not about a queue of it.
const OF_THE_PROCESS: [&str; 7] =
    [API_CALLS, OPERATION, SLOTS, REQUEST_PRICE, CALL_PRICE, DOLLARS, HEALTHY];

#[test]
fn what_is_about_a_queue_says_which_and_two_queues_are_told_apart() {
    let text = exposition(|| {
        for (url, messages) in [("http://sqs/1/urgent", 3), ("http://sqs/1/rest", 5)] {
            let meter = Meter::new(url);
            meter.in_flight().increment(messages as f64);
            meter.messages("visible", messages);
            meter.disposed(&Disposition::Done, Duration::from_secs(1));
            meter.duplicates("held", messages);
        }
        super::slots(4);
    });
    let of_a_queue = |line: &&str| {
        !line.starts_with('#')
            && !line.is_empty()
            && !OF_THE_PROCESS.iter().any(|name| line.starts_with(name))
    };
    for line in text.lines().filter(of_a_queue) {
        let named = ["urgent", "rest"].iter().any(|queue| {
            let label = if line.starts_with("messaging_") { DESTINATION } else { "queue" };
            line.contains(&format!("{label}=\"{queue}\""))
        });
        assert!(named, "{line} names no queue");
    }
    for line in [
        r#"flotilla_jobs_in_flight{worker="job",queue="urgent"} 3"#,
        r#"flotilla_jobs_in_flight{worker="job",queue="rest"} 5"#,
        r#"flotilla_duplicate_deliveries_total{worker="job",queue="rest",reason="held"} 5"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn the_share_of_empty_receives_is_told_by_queue() {
    let text = exposition(|| {
        let meter = Meter::new("http://sqs/1/main");
        for result in ["messages", "empty", "empty", "error"] {
            meter.receives(result, 1);
        }
        drop(Meter::new("http://sqs/1/rest"));
    });
    for line in [
        r#"flotilla_empty_receive_ratio{worker="job",queue="main"} 0.5"#,
        r#"flotilla_empty_receive_ratio{worker="job",queue="rest"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// As many series as there are, with so many messages, each with everything of its own.
fn series_of(messages: u32) -> usize {
    let text = exposition(|| {
        let meter = Meter::new("http://sqs/1/main");
        for n in 0..messages {
            let reason = format!("reason {n}");
            let (took, delay) = (Duration::from_millis(n.into()), Duration::from_secs(n.into()));
            meter.attempted(n + 5);
            meter.waited(took);
            meter.disposed(&Disposition::Done, took);
            meter.disposed(&Disposition::Released { after: delay }, took);
            meter.disposed(&Disposition::Lost, took);
            let (kind, again) = ("ordered", reason.clone());
            meter.disposed(&Disposition::Retry { delay, kind, reason: again }, took);
            meter.disposed(&Disposition::Dead { kind, reason }, took);
            super::sent("http://sqs/1/main", None);
        }
    });
    series(&text).len()
}

#[test]
fn there_are_as_many_series_of_a_thousand_messages_as_of_ten() {
    assert_eq!(series_of(1000), series_of(10));
}

#[test]
fn promtool_has_nothing_to_say_about_the_exposition() {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let promtool = promtool.stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool; deploy/dev/setup-tests installs it");
    promtool.stdin.take().unwrap().write_all(everything().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_attempt_of_a_call_is_counted_by_operation_and_code() {
    let calls = std::sync::Mutex::new(0);
    let fake = FakeAws::new(move |_, _| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        match *calls {
            1 => json!({ "__status": 503 }),
            2 => json!({ "__hang": 600 }),
            _ => json!({}),
        }
    });
    let text = exposition(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        runtime.block_on(queue.send("{}", crate::lease::tests::idempotent().delivery())).unwrap();
    });
    for code in ["503", "timeout", "200"] {
        let labels = format!(r#"worker="job",service="sqs",operation="SendMessage",code="{code}""#);
        let line = format!("flotilla_api_calls_total{{{labels}}} 1");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    let operation = "messaging_client_operation_duration_seconds_count{worker=\"job\",\
                     messaging_system=\"aws_sqs\",messaging_operation_name=\"SendMessage\",\
                     messaging_operation_type=\"send\",messaging_destination_name=\"main\"";
    for error in ["", r#",error_type="503""#, r#",error_type="timeout""#] {
        let line = format!("{operation}{error}}} 1");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

/// Name and labels of every series.
fn series(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_once('{').unwrap();
            let labels = rest.rsplit_once('}').unwrap().0.split(',');
            (name, labels.map(|it| it.split_once('=').unwrap()).collect())
        })
        .collect()
}

#[test]
fn every_metric_of_opentelemetry_has_the_labels_that_its_conventions_require() {
    let failed = |kind| Disposition::Dead { kind, reason: String::new() };
    let retried =
        Disposition::Retry { delay: Duration::ZERO, kind: "sandbox", reason: String::new() };
    let (took, released) =
        (Duration::from_secs(1), Disposition::Released { after: Duration::ZERO });
    let text = everything()
        + &exposition(|| {
            let meter = Meter::new("http://sqs/1/main");
            for what in [failed("unparsable"), retried, released, Disposition::Lost] {
                meter.disposed(&what, took);
            }
        });
    let mut errors = Vec::new();
    for (name, labels) in series(&text) {
        let label = |wanted: &str| labels.iter().find(|(it, _)| *it == wanted).map(|it| it.1);
        let (failure, disposition) = (label("error_type"), label("disposition"));
        if !name.starts_with("messaging_") {
            assert_eq!(failure, None, "{name}");
            continue;
        }
        for required in ["messaging_system", "messaging_operation_name", DESTINATION] {
            assert!(label(required).is_some(), "{name} has no {required}: {labels:?}");
        }
        let went_well = matches!(disposition, None | Some("\"done\"" | "\"released\""));
        assert_eq!(failure.is_none(), went_well, "{name}: {labels:?}");
        errors.extend(failure);
    }
    errors.sort_unstable();
    errors.dedup();
    assert_eq!(errors, ["\"lease_lost\"", "\"sandbox\"", "\"unparsable\""]);
}

#[test]
fn every_call_is_on_the_bill_of_the_jobs_that_are_done() {
    let text = exposition(|| {
        let meter = Meter::new("http://sqs/1/main");
        super::prices(false);
        for (service, operation) in [("SQS", "ReceiveMessage"), ("DynamoDB", "UpdateItem")] {
            let (code, took) = ("200".to_owned(), Duration::ZERO);
            called(Call { service, operation, queue: None, code, error: None, took });
        }
        meter.disposed(&Disposition::Done, Duration::ZERO);
        meter.disposed(&Disposition::Lost, Duration::ZERO);
        super::scraped(true);
    });
    let line = r#"flotilla_dollars_per_million_jobs{worker="job"} 1.025"#;
    assert!(text.contains(line), "{line} is missing in\n{text}");
}

#[test]
fn a_dead_letter_queue_that_two_queues_share_is_counted_once() {
    let text = exposition(|| {
        for url in ["http://sqs/1/builds", "http://sqs/1/refresh"] {
            drop(Meter::new(url));
            Meter::dead("http://sqs/1/builds-dead", 3);
        }
    });
    let dead: Vec<_> = text.lines().filter(|line| line.contains(r#"state="dead""#)).collect();
    let once = r#"flotilla_queue_messages{worker="job",queue="builds-dead",state="dead"} 3"#;
    assert_eq!(dead, [once]);
}

#[test]
fn what_the_runtime_sends_is_counted_by_queue_and_failure() {
    let refused =
        FakeAws::new(|_, _| json!({ "__status": 400, "__type": "InvalidMessageContents" }));
    let taken = FakeAws::new(|_, _| json!({}));
    let text = exposition(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        for fake in [&taken, &taken, &refused] {
            let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
            let lease = crate::lease::tests::idempotent();
            let _ = runtime.block_on(queue.send("{}", lease.delivery()));
        }
    });
    let sent = r#"messaging_client_sent_messages_total{worker="job",messaging_system="aws_sqs",messaging_operation_name="SendMessage",messaging_destination_name="main""#;
    for line in [format!("{sent}}} 2"), format!(r#"{sent},error_type="sqs"}} 1"#)] {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}
