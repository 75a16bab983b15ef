//! A stack of its own for a test, and what must be true of it at the end.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::types::QueueAttributeName as Queue;
use flotilla_cli::{
    aws::Clients,
    stack::{Outputs, Stack, Template},
};
use serde_json::Value;

use crate::{docker::containers, queues::Queues, wait::eventually, worker::WorkerBuilder};

/// A stack, and the workers on it.
#[derive(Debug)]
pub struct World {
    /// Clients of its endpoint.
    pub aws: Clients,
    stack: Stack,
    folder: tempfile::TempDir,
    workers: Mutex<Vec<String>>,
    /// Queues beside the stack's.
    more: Mutex<Vec<Queues>>,
    count: AtomicU32,
}

/// A message on the dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The body, as it was sent.
    pub body: String,
    /// The attribute `flotilla`: why it is there.
    pub why: Value,
    /// The other attributes, as they were sent.
    pub attributes: HashMap<String, String>,
}

impl World {
    /// Creates the stack. That it is what the template says has a test of its own: to look takes
    /// hundreds of requests, which every test would make again.
    ///
    /// # Panics
    /// Without an endpoint, or when there is no such stack to be had.
    pub async fn new() -> Self {
        let url = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
        assert!(!url.is_empty(), "AWS_ENDPOINT_URL is not set: run the tests with `make test`");
        let aws = Clients::from_env().await;
        let name = format!("it-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let template = Template::data()
            .expect("the template")
            .with("Protect", "false")
            .with("Clock", "DISABLED");
        let stack = Stack::create_unseen(&aws, &name, &template).await.expect("the stack");
        let folder = tempfile::tempdir().expect("a folder");
        take_test_events(&aws, &stack.outputs().grading_queue_url).await;
        let (workers, more) = (Mutex::default(), Mutex::default());
        Self { aws, stack, folder, workers, more, count: AtomicU32::new(0) }
    }

    /// The names of the stack's resources.
    pub fn outputs(&self) -> &Outputs {
        self.stack.outputs()
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Creates a FIFO queue and its dead-letter queue, for the time of this world.
    pub async fn fifo_queues(&self) -> Queues {
        self.more_queues(".fifo").await
    }

    /// Creates a queue and its dead-letter queue, for the time of this world.
    pub async fn queues(&self) -> Queues {
        self.more_queues("").await
    }

    async fn more_queues(&self, suffix: &str) -> Queues {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let name = format!("{}-more-{number}", self.stack.name());
        let made = Queues::create(&self.aws, name, suffix).await;
        self.more.lock().expect("no panic before").push(made.clone());
        made
    }

    /// A grading worker, not started yet, with quick leases and polls.
    pub fn grading_worker(&self) -> WorkerBuilder {
        let outputs = self.outputs();
        self.worker("grading-worker")
            .env("FLOTILLA_QUEUE_URL", &outputs.grading_queue_url)
            .env("FLOTILLA_SUBMISSIONS_BUCKET", &outputs.submissions_bucket_name)
            .env("FLOTILLA_SUBMISSIONS_TABLE", &outputs.submissions_table_name)
    }

    /// A program of the fleet, not started yet, with what all of them need to know.
    pub(crate) fn worker(&self, program: &str) -> WorkerBuilder {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let id = format!("{}-{number}", self.stack.name());
        self.workers.lock().expect("no panic before").push(id.clone());
        let outputs = self.outputs();
        let log = self.folder.path().join(format!("{id}.log"));
        let builder = WorkerBuilder::new(program, id, log)
            .env("FLOTILLA_LEDGER_TABLE", &outputs.ledger_table_name)
            .env("FLOTILLA_PAYLOADS_BUCKET", &outputs.payloads_bucket_name)
            .env("FLOTILLA_VISIBILITY_SECONDS", "6")
            // A stop waits for one.
            .env("FLOTILLA_WAIT_SECONDS", "1")
            .env("FLOTILLA_RETRY_FIRST_SECONDS", "1");
        self.aws.environment().into_iter().fold(builder, |b, (name, value)| b.env(name, value))
    }

    /// Sends a message to the grading queue.
    pub async fn send(&self, body: &str) {
        let call = self.aws.sqs.send_message().queue_url(&self.outputs().grading_queue_url);
        call.message_body(body).send().await.expect("SendMessage");
    }

    /// Waits for `count` dead letters and takes them off the queue.
    pub async fn dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        self.dead_letters_on(&self.outputs().grading_dead_letter_queue_url, count).await
    }

    /// The same of this dead-letter queue.
    pub async fn dead_letters_on(&self, url: &str, count: usize) -> Vec<DeadLetter> {
        let mut letters = Vec::new();
        let what = format!("{count} dead letters");
        eventually(&what, Duration::from_secs(60), async || {
            letters.extend(self.take_dead_letters(url).await);
            (letters.len() >= count).then_some(())
        })
        .await;
        letters
    }

    async fn take_dead_letters(&self, url: &str) -> Vec<DeadLetter> {
        let call = self.aws.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let answer = call.message_attribute_names("All").wait_time_seconds(1).send().await;
        let messages = answer.expect("ReceiveMessage").messages.unwrap_or_default();
        let mut letters = Vec::new();
        for message in messages {
            let handle = message.receipt_handle().expect("a handle").to_owned();
            let delete = self.aws.sqs.delete_message().queue_url(url).receipt_handle(handle);
            delete.send().await.expect("DeleteMessage");
            let all = message.message_attributes.unwrap_or_default().into_iter();
            let text = all.map(|(name, value)| (name, value.string_value.unwrap_or_default()));
            let mut attributes: HashMap<_, _> = text.collect();
            let why = attributes.remove("flotilla").unwrap_or_else(|| "null".to_owned());
            letters.push(DeadLetter {
                body: message.body.unwrap_or_default(),
                why: serde_json::from_str(&why).expect("JSON"),
                attributes,
            });
        }
        letters
    }

    /// Waits until the grading queue holds nothing, visible or not.
    pub async fn until_queue_is_empty(&self) {
        eventually("an empty queue", Duration::from_secs(60), async || {
            (self.left_on(&self.outputs().grading_queue_url).await == 0).then_some(())
        })
        .await;
    }

    /// Waits until the grading queue holds `count` messages.
    pub async fn until_messages(&self, count: u64) {
        eventually("the messages", Duration::from_secs(20), async || {
            (self.left_on(&self.outputs().grading_queue_url).await == count).then_some(())
        })
        .await;
    }

    /// Messages on a queue: visible, in flight and delayed.
    pub async fn left_on(&self, url: &str) -> u64 {
        // An endpoint that moves a message from one of its lists to another may for a moment have it on
        // none of them: that there is nothing is believed at the second look.
        match self.counted_on(url).await {
            0 => self.counted_on(url).await,
            some => some,
        }
    }

    async fn counted_on(&self, url: &str) -> u64 {
        let call = self.aws.sqs.get_queue_attributes().queue_url(url).attribute_names(Queue::All);
        let all = call.send().await.expect("GetQueueAttributes").attributes.unwrap_or_default();
        [
            Queue::ApproximateNumberOfMessages,
            Queue::ApproximateNumberOfMessagesNotVisible,
            Queue::ApproximateNumberOfMessagesDelayed,
        ]
        .iter()
        .filter_map(|name| all.get(name)?.parse::<u64>().ok())
        .sum()
    }

    /// Messages of a queue that are received and not deleted.
    pub async fn in_flight(&self, url: &str) -> u64 {
        let name = Queue::ApproximateNumberOfMessagesNotVisible;
        let call = self.aws.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone());
        let all = call.send().await.expect("GetQueueAttributes").attributes.unwrap_or_default();
        all.get(&name).and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    /// What is left and should not be.
    async fn leftovers(&self) -> Vec<String> {
        let outputs = self.outputs();
        let mut left = Vec::new();
        let more = self.more.lock().expect("no panic before").clone();
        let more = more.iter().flat_map(|it| [&it.url, &it.dead_url]);
        let own = [
            &outputs.grading_queue_url,
            &outputs.grading_dead_letter_queue_url,
            &outputs.compile_queue_url,
            &outputs.compile_refresh_queue_url,
            &outputs.compile_dead_letter_queue_url,
            &outputs.schedule_queue_url,
            &outputs.schedule_dead_letter_queue_url,
            &outputs.anomaly_queue_url,
            &outputs.anomaly_dead_letter_queue_url,
        ];
        for url in own.into_iter().chain(more) {
            let count = self.left_on(url).await;
            if count > 0 {
                left.push(format!("{count} message(s) on {url}"));
            }
        }
        for id in self.workers.lock().expect("no panic before").iter() {
            left.extend(containers(id).into_iter().map(|c| format!("container {c} of {id}")));
        }
        left
    }
}

impl Drop for World {
    /// Fails the test if a message or a container is left, and removes the stack.
    fn drop(&mut self) {
        let left = apart(async {
            let left = self.leftovers().await;
            self.stack.clone().delete().await.expect("the stack can be deleted");
            let more = std::mem::take(&mut *self.more.lock().expect("no panic before"));
            for queues in more {
                queues.delete(&self.aws).await;
            }
            left
        });
        if std::thread::panicking() {
            eprintln!("left behind: {left:?}");
        } else {
            assert!(left.is_empty(), "the test left behind: {left:?}");
        }
    }
}

/// Takes off the queue what S3 sends when a notification is set up (endpoints send it once or
/// twice), so that a test finds only its own messages.
async fn take_test_events(aws: &Clients, url: &str) {
    // MiniStack sends it before the stack is complete, so that it need not be waited for.
    let wait = if aws.endpoint.name == "ministack" { 0 } else { 1 };
    loop {
        let call = aws.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let answer = call.wait_time_seconds(wait).send().await.expect("ReceiveMessage");
        let messages = answer.messages.unwrap_or_default();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            let handle = message.receipt_handle().expect("a handle");
            let call = aws.sqs.delete_message().queue_url(url).receipt_handle(handle);
            call.send().await.expect("DeleteMessage");
        }
    }
}

/// Runs a future to its end on a thread of its own: a drop cannot await.
fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work)
        });
        thread.join().expect("the end of the world")
    })
}
