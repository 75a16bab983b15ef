//! Health means progress: a process that is up but moves nothing is not healthy.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, metrics};

/// How long all slots may be busy without one job ending before that counts as stuck, unless told.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(3600);

/// The ledger has answered no claim for so long: then nothing more is received before it does.
const CLAIMS_FAIL: Duration = Duration::from_secs(30);

/// How often measured values are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the loop tells of its progress.
#[derive(Debug)]
pub struct Health {
    state: Mutex<Progress>,
    /// Whether the last claim failed: every message looks at it.
    claim_failed: AtomicBool,
    poll_limit: Duration,
    stuck_after: Duration,
}

#[derive(Debug)]
struct Progress {
    /// One for each queue.
    polls: Vec<Polls>,
    moved: Instant,
    draining: bool,
    paused: bool,
    claims: Option<ClaimsFail>,
}

/// Claims that fail, and nothing else.
#[derive(Debug)]
struct ClaimsFail {
    since: Instant,
    last: Instant,
    why: String,
}

/// The progress of one loop.
#[derive(Debug)]
struct Polls {
    /// Of the queue, where there are several.
    name: Option<String>,
    polled: Instant,
    received_once: bool,
    /// How many of its pollers wait for a slot.
    busy: usize,
    failing: Option<String>,
}

impl Polls {
    fn new(name: Option<String>) -> Self {
        let polled = Instant::now();
        Self { name, polled, received_once: false, busy: 0, failing: None }
    }
}

impl Health {
    /// Health of a loop whose long poll lasts `wait`.
    pub fn new(wait: Duration) -> Arc<Self> {
        Self::of(wait, STUCK_AFTER)
    }

    /// The same, where full slots are stuck after so long without a job that ends.
    pub(crate) fn of(wait: Duration, stuck_after: Duration) -> Arc<Self> {
        let (polls, moved) = (vec![Polls::new(None)], Instant::now());
        let state = Progress { polls, moved, draining: false, paused: false, claims: None };
        let poll_limit = wait + Duration::from_secs(60);
        let (state, claim_failed) = (Mutex::new(state), AtomicBool::new(false));
        Arc::new(Self { state, claim_failed, poll_limit, stuck_after })
    }

    /// Begins with a loop for each of these queues.
    pub(crate) fn watch(&self, names: impl Iterator<Item = String>) {
        let names: Vec<_> = names.collect();
        let several = names.len() > 1;
        let polls = names.into_iter().map(|name| Polls::new(several.then_some(name)));
        self.with(|state| state.polls = polls.collect());
    }

    /// Notes that the loop went round.
    pub fn polled(&self) {
        self.polled_at(0);
    }

    /// The same of the loop over one of several queues.
    pub(crate) fn polled_at(&self, place: usize) {
        self.at(place, |polls| {
            polls.polled = Instant::now();
            polls.received_once = true;
            polls.failing = None;
        });
    }

    /// Notes the `count`th failure in a row. One alone is no trouble: the receive after it may
    /// already wait for messages, and it would look ill for as long as that takes.
    pub fn failing(&self, why: &Failure, count: u32) {
        self.failing_at(0, why, count);
    }

    /// The same of the loop over one of several queues.
    pub(crate) fn failing_at(&self, place: usize, why: &Failure, count: u32) {
        if count > 1 {
            self.at(place, |polls| polls.failing = Some(why.to_string()));
        }
    }

    /// Notes that a poller of a queue waits for a slot.
    pub(crate) fn busy(&self, place: usize) {
        self.with(|state| {
            let Some(polls) = state.polls.get_mut(place) else { return };
            if polls.busy == 0 {
                // What ended before was of another time: the slots fill only now.
                state.moved = Instant::now();
            }
            polls.busy += 1;
        });
    }

    /// Notes that it does not any more; others may.
    pub(crate) fn free(&self, place: usize) {
        self.at(place, |polls| {
            polls.busy = polls.busy.saturating_sub(1);
            // Waiting for a slot was no stall of the poll.
            polls.polled = Instant::now();
        });
    }

    pub(crate) fn moved(&self) {
        self.with(|state| state.moved = Instant::now());
    }

    pub(crate) fn draining(&self) {
        self.with(|state| state.draining = true);
    }

    pub(crate) fn paused(&self, paused: bool) {
        self.with(|state| {
            state.paused = paused;
            // The pause was no stall of the poll, and what failed before it may be mended after it.
            for polls in &mut state.polls {
                (polls.polled, polls.failing) = (Instant::now(), None);
            }
        });
    }

    /// Notes what became of a claim that was asked for at this time: whether the ledger answered.
    pub(crate) fn claimed(&self, asked: Instant, failure: Option<&Failure>) {
        if failure.is_none() && !self.claim_failed.load(Ordering::Relaxed) {
            return;
        }
        self.claim_failed.store(failure.is_some(), Ordering::Relaxed);
        self.with(|state| match failure {
            None => state.claims = None,
            Some(failure) => {
                let since = state.claims.as_ref().map_or(asked, |it| it.since.min(asked));
                let why = failure.to_string();
                state.claims = Some(ClaimsFail { since, last: Instant::now(), why });
            }
        });
    }

    /// Why no claim can be made, where that has lasted: each message would come and go in vain.
    pub(crate) fn unclaimable(&self) -> Option<String> {
        if !self.claim_failed.load(Ordering::Relaxed) {
            return None;
        }
        self.with(|state| {
            let lasting = |it: &&ClaimsFail| it.last - it.since >= CLAIMS_FAIL;
            state.claims.as_ref().filter(lasting).map(|it| it.why.clone())
        })
    }

    /// What is wrong, if anything: why nothing moves.
    pub fn trouble(&self) -> Option<String> {
        let stalled = self.with(|state| state.polls.iter().find_map(|it| self.stall(state, it)));
        stalled.or_else(|| self.unclaimable().filter(|_| !self.with(|state| state.paused)))
    }

    fn stall(&self, state: &Progress, polls: &Polls) -> Option<String> {
        if let (Some(why), false) = (&polls.failing, state.paused) {
            return Some(why.clone());
        }
        let (polled, moved) = (polls.polled.elapsed(), state.moved.elapsed());
        if polls.busy > 0 {
            return (moved > self.stuck_after)
                .then(|| format!("every slot is busy and no job has ended for {moved:.0?}"));
        }
        let stalled = polled > self.poll_limit && !state.draining && !state.paused;
        let of = polls.name.as_ref().map(|name| format!(" from {name}")).unwrap_or_default();
        stalled.then(|| format!("no receive{of} has returned for {polled:.0?}"))
    }

    /// Why no work should be expected of this process now, if so.
    pub fn unready(&self) -> Option<String> {
        self.trouble().or_else(|| {
            self.with(|state| {
                let silent = state.polls.iter().find(|polls| !polls.received_once);
                match (state.draining, silent) {
                    (true, _) => Some("draining".to_owned()),
                    _ if state.paused => Some("paused by the operator".to_owned()),
                    (_, Some(Polls { name, .. })) => {
                        let name = name.as_deref().unwrap_or("the queue");
                        Some(format!("nothing has been received from {name} yet"))
                    }
                    _ => None,
                }
            })
        })
    }

    fn at(&self, place: usize, change: impl FnOnce(&mut Polls)) {
        self.with(|state| state.polls.get_mut(place).map(change));
    }

    fn with<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves `/metrics`, `/healthz` and `/readyz` until the token is cancelled.
///
/// # Errors
/// When the address cannot be listened on; the error names it.
pub async fn serve(
    addr: &str,
    health: Arc<Health>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(addr).await.map_err(|e| {
        let advice = "set FLOTILLA_HTTP_ADDR to a free address";
        Failure::permanent("listen", format!("cannot listen on {addr} ({advice})")).caused_by(e)
    })?;
    tokio::spawn(keep_up(metrics.clone(), stop.clone()));
    let healthy = health.clone();
    let app = Router::new()
        .route("/healthz", get(async |State(health): State<Arc<Health>>| answer(health.trouble())))
        .route("/readyz", get(async |State(health): State<Arc<Health>>| answer(health.unready())))
        .with_state(health)
        .route("/metrics", get(move || std::future::ready(page(&healthy, &metrics))));
    tokio::spawn(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the health endpoint stopped");
        }
    });
    Ok(())
}

/// Folds what was measured into the histograms. A scrape does that too, but a process that nobody
/// scrapes would otherwise keep every single value.
pub async fn keep_up(metrics: PrometheusHandle, stop: CancellationToken) {
    while tokio::time::timeout(UPKEEP, stop.cancelled()).await.is_err() {
        metrics.run_upkeep();
    }
}

fn page(health: &Health, handle: &PrometheusHandle) -> String {
    metrics::scraped(health.trouble().is_none());
    handle.render()
}

fn answer(trouble: Option<String>) -> (StatusCode, String) {
    match trouble {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests;
