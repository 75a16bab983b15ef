//! Calls at the rate that a service takes: what is refused as too much slows all that follow.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, sleep};

use super::Refusal;
use crate::{metrics as names, rows::Service};

/// Calls a second at the beginning, at the least and at the most.
const FIRST_RATE: f64 = 20.0;
const SLOWEST: f64 = 0.5;
const FASTEST: f64 = 100.0;
/// How much faster each call makes those that follow, and how much slower each refusal.
const FASTER: f64 = 0.5;
const SLOWER: f64 = 0.5;
/// Refusals that come together count as one.
const TOGETHER: Duration = Duration::from_millis(500);
/// How often a call is made before its batch is given back to the queue.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The rates of all accounts, regions and kinds.
#[derive(Debug, Default)]
pub struct Limits(Mutex<HashMap<(String, String, Service), Arc<Limit>>>);

/// The rate of one account, region and kind.
#[derive(Debug)]
struct Limit(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
    slowed: Instant,
}

impl Limits {
    /// Makes calls for a kind in an account and region.
    pub fn caller(&self, account: &str, region: &str, service: Service) -> Caller {
        let key = (account.to_owned(), region.to_owned(), service);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Caller(all.entry(key).or_insert_with(|| Arc::new(Limit::new())).clone())
    }
}

impl Limit {
    fn new() -> Self {
        let now = Instant::now();
        let bucket = Bucket { rate: FIRST_RATE, tokens: FIRST_RATE, filled: now, slowed: now };
        Self(Mutex::new(bucket))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the next call's turn.
    async fn turn(&self) {
        let wait = self.with(|bucket| bucket.take(Instant::now()));
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

impl Bucket {
    /// Takes a token; gives how long it takes until it is there.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate.max(1.0));
        self.filled = now;
        self.tokens -= 1.0;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }

    fn faster(&mut self) {
        self.rate = (self.rate + FASTER).min(FASTEST);
    }

    fn slower(&mut self, now: Instant) {
        if now.saturating_duration_since(self.slowed) >= TOGETHER {
            self.rate = (self.rate * SLOWER).max(SLOWEST);
            self.tokens = self.tokens.min(0.0);
            self.slowed = now;
        }
    }
}

/// Makes calls of one account, region and kind.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Limit>);

impl Caller {
    /// Makes a call, and again while it is refused as too much or not answered.
    ///
    /// # Errors
    /// What the service refused, or the last of such refusals.
    pub async fn call<T, E, R, F>(&self, call: impl Fn() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, SdkError<E, R>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            self.0.turn().await;
            let refusal = match call().await {
                Ok(answer) => {
                    self.0.with(Bucket::faster);
                    return Ok(answer);
                }
                Err(error) => Refusal::of(&error),
            };
            if !refusal.passes() || left == 0 {
                return Err(refusal);
            }
            metrics::counter!(names::REPEATED, "kind" => refusal.kind).increment(1);
            if refusal.kind == "throttled" {
                self.0.with(|bucket| bucket.slower(Instant::now()));
            }
            sleep(pause.mul_f64(0.5 + 0.5 * spread())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Refusal::new("unreachable", "no call was made".to_owned()))
    }
}

/// A number from 0 to 1 that differs from call to call.
fn spread() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(now.unwrap_or_default().subsec_nanos() % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_falls_with_refusals_and_rises_with_answers() {
        let limits = Limits::default();
        let caller = limits.caller("", "r", Service::Ec2);
        let rate = || caller.0.with(|bucket| bucket.rate);
        sleep(TOGETHER).await;
        for _ in 0..10 {
            caller.0.with(|bucket| bucket.slower(Instant::now()));
        }
        assert_eq!(rate(), FIRST_RATE * SLOWER, "refusals at one moment count once");
        for _ in 0..20 {
            sleep(TOGETHER).await;
            caller.0.with(|bucket| bucket.slower(Instant::now()));
        }
        assert_eq!(rate(), SLOWEST);
        (0..1000).for_each(|_| caller.0.with(Bucket::faster));
        assert_eq!(rate(), FASTEST);
        assert_eq!(limits.caller("1", "r", Service::Ec2).0.with(|it| it.rate), FIRST_RATE);
    }

    /// What comes of a call that is always refused with this code: the kind, and how often it was made.
    async fn refused(caller: &Caller, code: &str) -> (&'static str, u32) {
        use aws_sdk_ec2::{
            config::http::HttpResponse, error::ErrorMetadata,
            operation::start_instances::StartInstancesError,
        };
        let made = AtomicU32::new(0);
        let call = || async {
            made.fetch_add(1, Ordering::Relaxed);
            let why = ErrorMetadata::builder().code(code).message("no").build();
            let raw = HttpResponse::new(400u16.try_into().unwrap(), "".into());
            Err::<(), _>(SdkError::service_error(StartInstancesError::generic(why), raw))
        };
        let why = caller.call(call).await.unwrap_err();
        (why.kind, made.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_as_too_much_is_asked_again_and_slower_and_what_is_denied_once() {
        let caller = Limits::default().caller("", "r", Service::Ec2);
        let rate = || caller.0.with(|bucket| bucket.rate);
        assert_eq!(refused(&caller, "UnauthorizedOperation").await, ("denied", 1));
        assert_eq!(refused(&caller, "InternalError").await, ("unreachable", TRIES));
        assert_eq!(rate(), FIRST_RATE, "neither says that it was too much");
        sleep(TOGETHER).await;
        assert_eq!(refused(&caller, "RequestLimitExceeded").await, ("throttled", TRIES));
        assert!(rate() < FIRST_RATE, "{}", rate());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_are_made_than_the_rate_allows() {
        let limit = Limit::new();
        let start = Instant::now();
        for _ in 0..60 {
            limit.turn().await;
        }
        // Twenty at once, and the other forty at twenty a second.
        assert!(start.elapsed() >= Duration::from_millis(1950), "{:?}", start.elapsed());
    }
}
