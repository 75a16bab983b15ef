//! How much is on the queue, asked of SQS seldom enough to cost nothing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Meter,
    queue::{Depths, Queue},
};

/// After so many silent turns it is asked anyway: others may have filled a queue that nobody
/// receives from, the dead-letter queue above all.
const SILENT_TURNS: u32 = 30;

/// How often the age of what waits is told: it grows while nothing is received.
const GROW: Duration = Duration::from_secs(5);

/// Asks for the depths of a queue in turns, and skips a turn while nothing can have changed:
/// nothing was there at the last look, and nothing has come since. An idle queue pays for its
/// long polls and no more. While the worker is paused there are no receives to tell that something
/// has come, so no turn is skipped.
#[derive(Debug)]
pub(crate) struct Watch {
    queue: Queue,
    meter: Meter,
    turn: Duration,
    stirred: AtomicBool,
    oldest: Mutex<Oldest>,
    paused: watch::Receiver<bool>,
}

/// What is known of the oldest message that waits.
#[derive(Debug, Clone, Copy)]
struct Oldest {
    /// How old it was at the last receive, and when that was.
    age: Duration,
    received: Instant,
    /// Whether any message waited at the last look at the depth, and when that was.
    waits: bool,
    looked: Instant,
}

impl Oldest {
    /// How old it is by now. While messages wait and none is received (every slot is busy, the worker
    /// is paused, receives fail), they grow older all the same.
    fn age(&self, now: Instant) -> Duration {
        match self.waits {
            true => self.age + now.saturating_duration_since(self.received),
            false if self.looked >= self.received => Duration::ZERO,
            false => self.age,
        }
    }
}

impl Watch {
    pub(crate) fn new(
        queue: Queue,
        meter: Meter,
        turn: Duration,
        paused: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let now = Instant::now();
        let oldest = Oldest { age: Duration::ZERO, received: now, waits: false, looked: now };
        let (stirred, oldest) = (AtomicBool::new(true), Mutex::new(oldest));
        Arc::new(Self { queue, meter, turn, stirred, oldest, paused })
    }

    /// Notes a receive, and how old the oldest message was that it brought, if it brought any.
    pub(crate) fn received(&self, age: Option<Duration>) {
        let mut oldest = self.oldest();
        oldest.received = Instant::now();
        oldest.age = age.unwrap_or_default();
        // Where nothing comes, nothing waits; a look that was before says nothing against it.
        oldest.waits &= age.is_some();
        self.meter.age(oldest.age);
    }

    fn oldest(&self) -> MutexGuard<'_, Oldest> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_age(&self) {
        self.meter.age(self.oldest().age(Instant::now()));
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
            if silent == 0 || *self.paused.borrow() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.look() => {}
                }
            }
            // Jittered, so that a fleet that was started at once does not ask at once.
            let pause = self.turn.mul_f64(0.8 + 0.4 * rand::rng().random::<f64>());
            if timeout(pause, self.tell(&stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Tells the age of what waits, until the token is cancelled.
    async fn tell(&self, stop: &CancellationToken) {
        self.tell_age();
        while timeout(GROW, stop.cancelled()).await.is_err() {
            self.tell_age();
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
        Meter::dead(self.queue.dead_letter_url(), depths.dead);
        let mut oldest = self.oldest();
        (oldest.waits, oldest.looked) = (depths.visible > 0, Instant::now());
        drop(oldest);
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

    async fn looks_in_an_hour(visible: u64, paused: bool) -> usize {
        let fake = FakeAws::new(
            move |_, _| json!({ "Attributes": { "ApproximateNumberOfMessages": visible.to_string() } }),
        );
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let (meter, (_order, paused)) = (Meter::new("http://q/main"), watch::channel(paused));
        let watch = Watch::new(queue, meter, Duration::from_secs(60), paused);
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
        let looks = looks_in_an_hour(3, false).await;
        assert!((50..=76).contains(&looks), "{looks} looks in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_queue_is_hardly_ever_looked_at() {
        let looks = looks_in_an_hour(0, false).await;
        assert!(looks <= 3, "{looks} looks in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_queue_is_looked_at_while_its_worker_is_paused() {
        let looks = looks_in_an_hour(0, true).await;
        assert!((50..=76).contains(&looks), "{looks} looks in an hour");
    }

    /// The age that is told after some minutes in which nothing was received, of a queue on which so
    /// many messages wait.
    async fn age_unreceived(visible: u64, last: Option<u64>) -> Duration {
        let fake = FakeAws::new(
            move |_, _| json!({ "Attributes": { "ApproximateNumberOfMessages": visible.to_string() } }),
        );
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let (meter, (_order, paused)) = (Meter::new("http://q/main"), watch::channel(false));
        let watch = Watch::new(queue, meter, Duration::from_secs(60), paused);
        watch.received(last.map(Duration::from_secs));
        let stop = CancellationToken::new();
        let running = tokio::spawn(watch.clone().run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        stop.cancel();
        running.await.unwrap();
        let oldest = *watch.oldest();
        oldest.age(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_grows_older_while_nothing_is_received() {
        assert_eq!(age_unreceived(3, Some(7)).await.as_secs(), 307);
        assert_eq!(age_unreceived(3, None).await.as_secs(), 300, "since it is known to wait");
        assert_eq!(age_unreceived(0, Some(7)).await.as_secs(), 0, "others have taken it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_received_tells_its_age_whatever_the_last_look_saw() {
        let (fake, second) = (FakeAws::new(|_, _| json!({})), Duration::from_secs(1));
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let (meter, (_order, paused)) = (Meter::new("http://q/main"), watch::channel(false));
        let watch = Watch::new(queue, meter, second, paused);
        watch.show(&Depths { visible: 5, ..Depths::default() });
        tokio::time::sleep(second * 40).await;
        watch.received(Some(second * 3));
        let age = |watch: &Watch| watch.oldest().age(Instant::now());
        assert_eq!(age(&watch), second * 3);
        watch.received(None);
        tokio::time::sleep(second * 20).await;
        assert_eq!(age(&watch), Duration::ZERO, "an empty receive: nothing waits");
    }
}
