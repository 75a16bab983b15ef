//! The drain: whoever asks for it, there is one, with one time budget.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long after the grace's end (or that of the long poll that was on its way at the signal) a stop
/// may still take: for what is handed back and acknowledged then. What SQS has not taken by then
/// comes again by itself.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Begins once, at the first call; later calls can only shorten it.
#[derive(Debug)]
pub(crate) struct Drain {
    begun: CancellationToken,
    /// When what still runs is handed back; none before the drain has begun, nor in one that has no
    /// deadline.
    deadline: watch::Sender<Option<Instant>>,
    grace: Duration,
    /// One at a time decides on the deadline and tells of it.
    lock: Mutex<()>,
}

impl Drain {
    /// A drain that gives running jobs `grace`, unless it must be over sooner.
    pub(crate) fn new(grace: Duration) -> Self {
        let (deadline, _) = watch::channel(None);
        Self { begun: CancellationToken::new(), deadline, grace, lock: Mutex::default() }
    }

    /// Begins it. `limit` is how long this process has yet to live, where that is known.
    pub(crate) fn begin(&self, why: &str, limit: Option<Duration>) {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = limit.map_or(self.grace, |limit| limit.min(self.grace));
        let end = Instant::now() + budget;
        let sooner = self.deadline.borrow().is_none_or(|old| end < old);
        if !self.begun.is_cancelled() {
            tracing::info!(why, ?budget, "draining: no more receives, running jobs may finish");
        }
        if sooner {
            self.deadline.send_replace(Some(end));
        }
        self.begun.cancel();
    }

    /// Begins it for one who can wait: what runs ends in its own time, unless another reason to stop
    /// comes meanwhile and bounds it.
    pub(crate) fn begin_without_deadline(&self, why: &str) {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.begun.is_cancelled() {
            tracing::info!(why, "draining: no more receives, running jobs end in their own time");
        }
        self.begun.cancel();
    }

    /// Cancelled from the beginning of the drain on.
    pub(crate) fn begun(&self) -> &CancellationToken {
        &self.begun
    }

    /// Resolves when whatever is not settled must be left to redelivery. A receive that is on its
    /// way is given its long `poll`: what it brings would be stranded by its end.
    pub(crate) async fn spent(&self, poll: Duration) {
        self.begun.cancelled().await;
        let polled = Instant::now() + poll;
        self.over().await;
        tokio::time::sleep_until(polled.max(Instant::now()) + BOUND).await;
    }

    /// Resolves when the budget is used up.
    pub(crate) async fn over(&self) {
        let mut deadline = self.deadline.subscribe();
        loop {
            let end = *deadline.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => return,
                changed = deadline.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_reason_to_stop_shares_one_budget_which_only_shrinks() {
        let drain = Drain::new(Duration::from_secs(90));
        let start = Instant::now();
        drain.begin("SIGTERM", None);
        let early = Duration::from_secs(10);
        let second = async {
            tokio::time::sleep(early).await;
            drain.begin("a spot interruption", Some(Duration::from_secs(20)));
            drain.begin("the operator's order", None);
        };
        tokio::join!(second, drain.over());
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_can_wait_sets_no_deadline_and_takes_none_away() {
        let drain = Drain::new(Duration::from_secs(90));
        drain.begin_without_deadline("the autoscaler's order");
        assert!(drain.begun().is_cancelled());
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, drain.over()).await.is_err(), "jobs may go on");
        let start = Instant::now();
        drain.begin("SIGTERM", None);
        drain.begin_without_deadline("the autoscaler's order");
        drain.over().await;
        assert_eq!(start.elapsed(), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_the_grace_or_the_long_poll_is_bounded() {
        for (grace, poll) in [(5, 1), (5, 20), (60, 20)] {
            let [grace, poll] = [grace, poll].map(Duration::from_secs);
            let (drain, start) = (Drain::new(grace), Instant::now());
            drain.begin("SIGTERM", None);
            drain.spent(poll).await;
            assert_eq!(start.elapsed(), grace.max(poll) + BOUND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_that_is_far_away_does_not_lengthen_the_grace() {
        let drain = Drain::new(Duration::from_secs(5));
        let start = Instant::now();
        drain.begin("a spot interruption", Some(Duration::from_secs(120)));
        drain.over().await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
