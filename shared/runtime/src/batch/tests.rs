use std::sync::Mutex;

use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::{
    tail::{self, Tail},
    telemetry::tests::Written,
};

/// Notes its batches, and does as each message says.
#[derive(Default)]
struct Scripted(Arc<Mutex<Vec<usize>>>);

impl BatchJob for Scripted {
    const NAME: &'static str = "scripted";
    type Message = String;

    fn tenant(message: &String) -> Option<String> {
        Some(format!("of {message}"))
    }

    fn image(&self, message: Option<&String>) -> Option<String> {
        message.map(|message| format!("sha256:{message}"))
    }

    async fn run(&self, batch: &[(String, Delivery)]) -> Vec<Result<(), Failure>> {
        self.0.lock().unwrap().push(batch.len());
        assert!(!batch.iter().any(|(message, _)| message == "panic"), "as ordered");
        tracing::info!("stored");
        let outcome = |(message, _): &(String, Delivery)| match message.as_str() {
            "bad" => Err(Failure::permanent("ordered", "as ordered")),
            _ => Ok(()),
        };
        batch.iter().take_while(|(message, _)| message != "forget").map(outcome).collect()
    }
}

#[tokio::test]
async fn a_batch_job_says_as_any_job_whose_a_message_is_and_what_its_containers_are_made_of() {
    let job = Batched::new(Scripted::default());
    let message = "a".to_owned();
    assert_eq!(<Batched<Scripted> as Job>::tenant(&message).as_deref(), Some("of a"));
    assert_eq!(job.image(Some(&message)).as_deref(), Some("sha256:a"));
    assert_eq!(job.image(None), None);
}

async fn outcomes(messages: &[&str]) -> (Vec<Option<&'static str>>, Vec<usize>) {
    let batches = Arc::default();
    let job = Batched::new(Scripted(Arc::clone(&batches)));
    let lease = crate::lease::tests::idempotent();
    let runs = messages.iter().map(|message| job.run((*message).to_owned(), &lease));
    let kinds = join_all(runs).await.into_iter().map(|it| it.err().map(|e| e.kind()));
    let sizes = batches.lock().unwrap().clone();
    (kinds.collect(), sizes)
}

/// What is kept of the logs of messages that are worked on together, the `n`th of which has this trace.
async fn logs(messages: &[&str], trace: impl Fn(usize) -> String) -> (Vec<String>, String) {
    let written = Written::default();
    let writer = written.clone();
    let logs = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(tail::Keep).with(logs);
    let _default = tracing::subscriber::set_default(subscriber);
    let job = Batched::new(Scripted::default());
    let tails: Vec<_> = messages.iter().map(|_| Tail::default()).collect();
    let runs = messages.iter().zip(&tails).enumerate().map(|(n, (message, tail))| {
        let mut lease = crate::lease::tests::idempotent();
        Arc::make_mut(&mut lease.delivery).traceparent =
            Some(format!("00-{}-b7ad6b7169203331-01", trace(n)));
        let job = &job;
        let run = async move { job.run((*message).to_owned(), &lease).await };
        run.instrument(tail.of(|| tracing::error_span!("message", n)))
    });
    join_all(runs).await;
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    (tails.iter().map(Tail::text).collect(), written)
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_logs_is_in_the_log_of_each_of_its_messages_and_of_their_trace() {
    let (one, two) = (format!("{:032x}", 1), format!("{:032x}", 2));
    let (kept, written) = logs(&["a", "b"], |_| one.clone()).await;
    assert!(kept.iter().all(|log| log.matches("stored").count() == 1), "{kept:?}");
    assert!(written.contains(&one), "{written}");
    let (kept, written) = logs(&["a", "b"], |n| [&one, &two][n].clone()).await;
    assert!(kept.iter().all(|log| log.contains("stored")), "{kept:?}");
    assert!(!written.contains(&one) && !written.contains(&two), "{written}");
}

#[tokio::test(start_paused = true)]
async fn what_a_message_that_is_tried_alone_logs_is_in_its_own_log() {
    let (kept, _) = logs(&["a", "panic", "b"], |n| format!("{:032x}", n + 1)).await;
    let stored = kept.iter().map(|log| log.matches("stored").count());
    assert_eq!(stored.collect::<Vec<_>>(), [1, 0, 1]);
    assert!(kept.iter().all(|log| log.contains("a batch panicked")), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_batch_has_an_outcome_of_its_own() {
    let (kinds, sizes) = outcomes(&["a", "bad", "c"]).await;
    assert_eq!((kinds, sizes), (vec![None, Some("ordered"), None], vec![3]));
}

#[tokio::test(start_paused = true)]
async fn no_batch_is_larger_than_ten_messages_unless_the_job_says_so() {
    let (kinds, sizes) = outcomes(&["a"; 23]).await;
    assert_eq!((kinds, sizes), (vec![None; 23], vec![10, 10, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_panics_fails_alone_and_no_other_of_its_batch() {
    let mut messages = ["a"; 10];
    (messages[3], messages[7]) = ("panic", "bad");
    let (kinds, sizes) = outcomes(&messages).await;
    let mut wanted = vec![None; 10];
    (wanted[3], wanted[7]) = (Some("panic"), Some("ordered"));
    assert_eq!(kinds, wanted);
    assert_eq!(sizes, [10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_missing_outcome_are_transient_failures() {
    assert_eq!(outcomes(&["panic"]).await, (vec![Some("panic")], vec![1]));
    let (kinds, _) = outcomes(&["a", "forget", "c"]).await;
    assert_eq!(kinds, [None, Some("batch"), Some("batch")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_lease_has_left_behind_is_in_no_batch() {
    let (batches, lease) = (Arc::default(), crate::lease::tests::idempotent());
    let job = Batched::new(Scripted(Arc::clone(&batches)));
    assert!(job.run("gone".to_owned(), &lease).now_or_never().is_none());
    job.run("a".to_owned(), &lease).await.unwrap();
    assert_eq!(*batches.lock().unwrap(), [1]);
}
