//! How much is on the queue, asked of SQS seldom enough to cost nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Meter,
    queue::{Depths, Queue},
};

/// After so many silent turns it is asked anyway: others may have filled a queue that nobody
/// receives from, the dead-letter queue above all.
const SILENT_TURNS: u32 = 30;

/// Asks for the depths of a queue in turns, and skips a turn while nothing can have changed:
/// nothing was there at the last look, and nothing has come since. An idle queue pays for its
/// long polls and no more.
#[derive(Debug)]
pub(crate) struct Watch {
    queue: Queue,
    meter: Meter,
    turn: Duration,
    stirred: AtomicBool,
}

impl Watch {
    pub(crate) fn new(queue: Queue, meter: Meter, turn: Duration) -> Arc<Self> {
        Arc::new(Self { queue, meter, turn, stirred: AtomicBool::new(true) })
    }

    /// Notes that a message came or went: the next turn is not skipped.
    pub(crate) fn stir(&self) {
        self.stirred.store(true, Ordering::Relaxed);
    }

    /// Looks in turns until the token is cancelled.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut silent = 0;
        loop {
            let stirred = self.stirred.swap(false, Ordering::Relaxed);
            silent = if stirred || silent >= SILENT_TURNS { 0 } else { silent + 1 };
            if silent == 0 {
                self.look().await;
            }
            // Jittered, so that a fleet that was started at once does not ask at once.
            let pause = self.turn.mul_f64(0.8 + 0.4 * rand::rng().random::<f64>());
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn look(&self) {
        match self.queue.depths().await {
            Ok(depths) => self.show(&depths),
            Err(failure) => {
                tracing::debug!(%failure, "the depth of the queue is not known");
                self.stir();
            }
        }
    }

    fn show(&self, depths: &Depths) {
        self.meter.messages("visible", depths.visible);
        self.meter.messages("in_flight", depths.in_flight);
        self.meter.messages("delayed", depths.delayed);
        self.meter.messages("dead", depths.dead);
        if *depths != Depths::default() {
            self.stir();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::FakeAws;

    async fn looks_in_an_hour(visible: u64) -> usize {
        let fake = FakeAws::new(
            move |_, _| json!({ "Attributes": { "ApproximateNumberOfMessages": visible.to_string() } }),
        );
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let watch = Watch::new(queue, Meter::new("http://q/main"), Duration::from_secs(60));
        let stop = CancellationToken::new();
        let running = tokio::spawn(watch.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        stop.cancel();
        running.await.unwrap();
        let main = |(_, body): &&(String, Value)| body["QueueUrl"] == "http://q/main";
        fake.calls().iter().filter(main).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_looked_at_once_a_minute_while_something_is_on_it() {
        let looks = looks_in_an_hour(3).await;
        assert!((50..=76).contains(&looks), "{looks} looks in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_queue_is_hardly_ever_looked_at() {
        let looks = looks_in_an_hour(0).await;
        assert!(looks <= 3, "{looks} looks in an hour");
    }
}
