//! What a process has spent on calls to AWS, and what for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{CALLS, PRICES};

/// Dollars are counted in these: a call costs some hundred thousand of them.
const PICO: f64 = 1e-12;

/// The account since the start of the process, by list prices.
#[derive(Debug)]
pub(super) struct Bill {
    fifo: AtomicBool,
    spent: AtomicU64,
    jobs: AtomicU64,
}

impl Bill {
    pub(super) const fn new() -> Self {
        Self { fifo: AtomicBool::new(false), spent: AtomicU64::new(0), jobs: AtomicU64::new(0) }
    }

    /// Requests to SQS are those to a FIFO queue.
    pub(super) fn of_fifo(&self, fifo: bool) {
        self.fifo.store(fifo, Relaxed);
    }

    /// Notes an attempt of a call.
    pub(super) fn called(&self, service: &str, operation: &str) {
        let price = match service {
            "SQS" => PRICES[usize::from(self.fifo.load(Relaxed))],
            "DynamoDB" => {
                let known = CALLS.iter().find(|(name, _)| *name == operation);
                known.map_or(0.0, |(_, price)| *price)
            }
            _ => return,
        };
        self.spent.fetch_add((price / PICO).round() as u64, Relaxed);
    }

    /// Notes a job that is done.
    pub(super) fn done(&self) {
        self.jobs.fetch_add(1, Relaxed);
    }

    /// Dollars for a million jobs; zero before the first.
    pub(super) fn per_million(&self) -> f64 {
        match self.jobs.load(Relaxed) {
            0 => 0.0,
            jobs => self.spent.load(Relaxed) as f64 * PICO / jobs as f64 * 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dollars_of_a_million_jobs_are_those_of_every_call_by_its_list_price() {
        let bill = Bill::new();
        assert_eq!(bill.per_million(), 0.0);
        for operation in ["ReceiveMessage", "DeleteMessageBatch"] {
            bill.called("SQS", operation);
        }
        bill.called("DynamoDB", "UpdateItem");
        bill.called("DynamoDB", "TransactWriteItems");
        bill.called("S3", "PutObject");
        (0..10).for_each(|_| bill.done());
        let dollars = 2.0 * 0.40 + 0.625 + 2.5;
        assert!((bill.per_million() - dollars / 10.0).abs() < 1e-9, "{}", bill.per_million());
        bill.of_fifo(true);
        bill.called("SQS", "ReceiveMessage");
        let dollars = dollars + 0.50;
        assert!((bill.per_million() - dollars / 10.0).abs() < 1e-9, "{}", bill.per_million());
    }
}
