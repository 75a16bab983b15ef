//! Worker processes that are killed and stopped at random, and replaced.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

use crate::{FaultProxy, Seed, Worker, World, wait::eventually, worker::WorkerBuilder};

/// A number of workers that count, behind a proxy.
#[derive(Debug)]
pub struct Crew<'a> {
    world: &'a World,
    proxy: &'a FaultProxy,
    workers: Vec<Worker>,
    dice: StdRng,
    /// The worst error of a worker's clock.
    skew_ms: i64,
    settings: Vec<(&'static str, &'static str)>,
    /// How many were killed with SIGKILL.
    pub killed: usize,
    /// How many were stopped with SIGTERM.
    pub stopped: usize,
}

impl<'a> Crew<'a> {
    /// Starts `count` workers with these settings, each with its own wrong clock.
    pub async fn start(
        (world, proxy): (&'a World, &'a FaultProxy),
        seed: Seed,
        count: usize,
        skew_ms: i64,
        settings: &[(&'static str, &'static str)],
    ) -> Self {
        let (dice, settings) = (seed.chances(u64::MAX), settings.to_vec());
        let workers = Vec::new();
        let mut crew =
            Self { world, proxy, workers, dice, skew_ms, settings, killed: 0, stopped: 0 };
        for _ in 0..count {
            crew.hire().await;
        }
        crew
    }

    async fn hire(&mut self) {
        let skew_ms = self.dice.random_range(-self.skew_ms..=self.skew_ms);
        let entrance = self.proxy.entrance(skew_ms).await;
        let worker = self.world.counter().env("AWS_ENDPOINT_URL", entrance);
        let all = self.settings.iter();
        let worker = all.fold(worker, |worker, (name, value)| worker.env(name, value));
        self.workers.push(worker.start());
    }

    /// Ends a worker, by SIGKILL and SIGTERM in turn, after a new one has begun; then gives the
    /// others time to do something.
    ///
    /// # Panics
    /// When one that was asked to stop does not end well.
    pub async fn disturb(&mut self) {
        self.hire().await;
        let chosen = self.dice.random_range(0..self.workers.len() - 1);
        let mut worker = self.workers.swap_remove(chosen);
        if self.killed <= self.stopped {
            worker.kill().await;
            self.killed += 1;
        } else {
            // On a busy machine a young process may not listen to signals yet.
            eventually("a worker that listens", Duration::from_secs(60), async || {
                worker.page("/healthz").await.map(drop)
            })
            .await;
            assert!(worker.stop().await.success(), "{}", worker.log());
            self.stopped += 1;
        }
        let pause = Duration::from_millis(self.dice.random_range(500..3000));
        tokio::time::sleep(pause).await;
    }

    /// Stops all of them in good order.
    ///
    /// # Panics
    /// When one does not end well.
    pub async fn stop(mut self) {
        use nix::sys::signal::Signal;
        self.workers.iter().for_each(|worker| worker.signal(Signal::SIGTERM));
        for worker in &mut self.workers {
            assert!(worker.end().await.success(), "{}", worker.log());
        }
    }
}

impl World {
    /// A worker that counts, on the grading queue; not started yet.
    pub fn counter(&self) -> WorkerBuilder {
        self.worker("counter")
            .env("FLOTILLA_QUEUE_URL", &self.outputs().grading_queue_url)
            .env("FLOTILLA_COUNTER_TABLE", &self.outputs().submissions_table_name)
            .env("FLOTILLA_WAIT_SECONDS", "1")
            .env("FLOTILLA_RETRY_FIRST_SECONDS", "0.2")
            // Deaths count as attempts, and none of the good may be given up for the chaos.
            .env("FLOTILLA_MAX_ATTEMPTS", "1000")
    }
}
