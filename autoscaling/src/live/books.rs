//! The fleet's own books: what its workers finished, from that what arrived, and, where all senders
//! count, what is there.

use std::collections::{HashMap, VecDeque};

use super::{
    account::Account,
    config::queue_name,
    fleet::{Row, Rows, Senders},
};
use crate::observed::{Millis, QueueSeen};

/// The rate of arrivals is that of this time.
const WINDOW: Millis = 60_000;
/// A rate over less says little.
const SOONEST: Millis = 10_000;
/// Senders and workers write down what they counted within about a second, and a look takes its time.
const LATE: Millis = 2_000;
/// Looks within the window that are kept: the others are between two of them.
const LOOKS: Millis = 60;

/// What the workers of a group finished since the books were begun, by queue.
///
/// Each worker counts its jobs from its start; these are the sums of all steps of all counters, so
/// that a worker that starts again, or is gone, takes nothing back. A job that comes back for
/// another attempt counts as finished and as arrived again: it is work again. Of a worker on several
/// queues nobody knows whose jobs it counts, and what it took off each of them is what counts.
///
/// What arrived is what more is on the queue than before and what was finished meanwhile.
/// CloudWatch's `NumberOfMessagesSent` is minutes late, and whoever believed it would not see a burst
/// before it is over. It is taken where there is nothing else yet. Where all senders count what they
/// send, an [`Account`] of the queue tells what is there.
#[derive(Debug, Default)]
pub(super) struct Books {
    counted: HashMap<String, Counter>,
    queues: HashMap<String, Book>,
}

/// What an instance's worker counted at the last look.
#[derive(Debug, Default)]
struct Counter {
    started_at: Option<Millis>,
    jobs: u64,
    /// Messages that it was done with, by queue.
    gone: HashMap<String, u64>,
}

#[derive(Debug, Default)]
struct Book {
    finished: u64,
    /// Where the senders count.
    account: Account,
    /// When, what was on the queue, and what was finished by then.
    past: VecDeque<(Millis, u64, u64)>,
}

impl Books {
    /// Enters what the rows of the workers and of the `senders` tell, and fills in what is known of
    /// each queue. A queue that is not among the `senders` has some that do not count; one with
    /// `None` could not be seen now.
    pub(super) fn enter(
        &mut self,
        rows: Option<&Rows>,
        senders: &HashMap<String, Option<Senders>>,
        queues: &mut [QueueSeen],
        now: Millis,
    ) {
        let Some(rows) = rows else { return };
        for (id, row) in &rows.instances {
            self.enter_row(id, row);
        }
        self.counted.retain(|id, _| rows.instances.contains_key(id));
        let known: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        self.queues.retain(|name, _| known.contains(&name.as_str()));
        for queue in queues {
            let book = self.queues.entry(queue.name.clone()).or_default();
            (queue.finished, queue.books_lag_ms) = (Some(book.finished), LATE);
            queue.arrivals_per_s = book.rate(queue, now);
            if let Some(senders) = senders.get(&queue.name) {
                queue.sent = book.account.look(senders.as_ref(), queue, now).map(|(sent, _)| sent);
                // By the same account at every look, or a turn without senders would seem to have
                // finished or begun what it did not.
                queue.finished = book.account.gone().or(queue.finished);
            }
        }
    }

    fn enter_row(&mut self, id: &str, row: &Row) {
        let counter = self.counted.entry(id.to_owned()).or_default();
        if counter.started_at != row.started_at {
            *counter = Counter { started_at: row.started_at, ..Counter::default() };
        }
        // A count that goes back is a row of before: it is held.
        let jobs = row.jobs.saturating_sub(counter.jobs);
        counter.jobs += jobs;
        let shared = row.queue.contains(',');
        for url in row.queue.split(',') {
            let name = queue_name(url);
            let book = self.queues.entry(name.to_owned()).or_default();
            let more = counter.taken_off(name, row);
            book.account.take_off(more);
            book.finished = book.finished.saturating_add(if shared { more } else { jobs });
        }
    }
}

impl Counter {
    /// How many more messages of this queue the worker is done with.
    fn taken_off(&mut self, queue: &str, row: &Row) -> u64 {
        let count = row.gone.get(queue).copied().unwrap_or_default();
        let known = self.gone.entry(queue.to_owned()).or_default();
        let more = count.saturating_sub(*known);
        *known += more;
        more
    }
}

impl Book {
    /// New messages a second; `None` before a while is over, and while the queue cannot be seen.
    fn rate(&mut self, queue: &QueueSeen, now: Millis) -> Option<f64> {
        let counts = [queue.visible?, queue.delayed?, queue.in_flight?];
        let there = counts.iter().fold(0u64, |sum, count| sum.saturating_add(count.value));
        // A clock that was set back begins again.
        self.past.retain(|(at, ..)| *at <= now);
        let last = self.past.back().map(|(at, ..)| *at);
        if last.is_none_or(|at| now.saturating_sub(at) >= WINDOW / LOOKS) {
            self.past.push_back((now, there, self.finished));
        }
        // One look at the window's beginning is kept, or no time would be between the first and now.
        while self.past.get(1).is_some_and(|(at, ..)| now.saturating_sub(*at) >= WINDOW) {
            self.past.pop_front();
        }
        let (at, was, finished) = self.past.front().copied()?;
        let span = now.saturating_sub(at);
        let now_known = there.saturating_add(self.finished);
        let more = now_known.saturating_sub(was.saturating_add(finished));
        (span >= SOONEST).then(|| more as f64 * 1000.0 / span as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Count;

    fn row(started_at: Millis, jobs: u64) -> Row {
        let queue = "http://q/1/a".to_owned();
        Row { started_at: Some(started_at), jobs, queue, ..Row::default() }
    }

    fn rows(all: &[(&str, Row)]) -> Rows {
        let instances = all.iter().map(|(id, row)| ((*id).to_owned(), row.clone())).collect();
        Rows { instances, ..Rows::default() }
    }

    fn look(books: &mut Books, rows: &Rows, visible: u64, now: Millis) -> QueueSeen {
        let visible = Some(Count::exact(visible));
        let mut queues = [QueueSeen { visible, ..QueueSeen::empty("a") }];
        books.enter(Some(rows), &HashMap::new(), &mut queues, now);
        queues[0].clone()
    }

    #[test]
    fn what_was_finished_is_never_taken_back_though_workers_start_again_and_go() {
        let mut books = Books::default();
        let mut finished = |all: &[(&str, Row)]| look(&mut books, &rows(all), 0, 0).finished;
        assert_eq!(finished(&[("i-1", row(1, 3)), ("i-2", row(1, 4))]), Some(7));
        assert_eq!(finished(&[("i-1", row(1, 5)), ("i-2", row(1, 4))]), Some(9));
        // One starts again and has done two since, the other is gone.
        assert_eq!(finished(&[("i-1", row(2, 2))]), Some(11));
        assert_eq!(finished(&[]), Some(11));
    }

    #[test]
    fn what_arrived_is_what_more_is_there_and_what_was_finished_meanwhile() {
        let mut books = Books::default();
        let first = look(&mut books, &rows(&[("i-1", row(1, 0))]), 10, 0);
        assert_eq!(first.arrivals_per_s, None, "nothing to compare with yet");
        // Five more wait and fifteen are done: twenty came within twenty seconds.
        let then = look(&mut books, &rows(&[("i-1", row(1, 15))]), 15, 20_000);
        assert_eq!(then.arrivals_per_s, Some(1.0));
        let later = look(&mut books, &rows(&[("i-1", row(1, 30))]), 0, 100_000);
        assert_eq!(later.arrivals_per_s, Some(0.0), "the first minute is over");
    }

    #[test]
    fn without_counts_or_rows_nothing_is_known_of_arrivals() {
        let mut books = Books::default();
        let mut unseen = [QueueSeen { visible: None, ..QueueSeen::empty("a") }];
        books.enter(Some(&rows(&[])), &HashMap::new(), &mut unseen, 50_000);
        assert_eq!(unseen[0].arrivals_per_s, None);
        let mut alone = [QueueSeen::empty("a")];
        books.enter(None, &HashMap::new(), &mut alone, 60_000);
        assert_eq!((alone[0].finished, alone[0].arrivals_per_s), (None, None));
    }

    #[test]
    fn of_queues_that_share_their_workers_each_is_told_what_was_finished_of_it() {
        let urls = "http://q/1/a,http://q/1/b".to_owned();
        let both = |a: u64, b: u64| {
            let gone = HashMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
            // Tries that failed are jobs, too, and nobody knows of which queue.
            rows(&[("i-1", Row { queue: urls.clone(), gone, ..row(1, a + b + 9) })])
        };
        let mut books = Books::default();
        assert_eq!(look(&mut books, &both(3, 500), 3, 0).finished, Some(3));
        let then = look(&mut books, &both(13, 900), 13, 20_000);
        assert_eq!((then.finished, then.arrivals_per_s), (Some(13), Some(1.0)));
    }

    /// A look at a counted queue on which SQS still shows what it did at the first one.
    fn counted(books: &mut Books, rows: &Rows, sent: u64, now: Millis) -> (u64, u64) {
        let senders = HashMap::from([("me".to_owned(), sent)]);
        let mut queues = [QueueSeen {
            delayed: late(0),
            in_flight: late(0),
            visible: late(0),
            ..QueueSeen::empty("a")
        }];
        books.enter(
            Some(rows),
            &HashMap::from([("a".to_owned(), Some(senders))]),
            &mut queues,
            now,
        );
        (queues[0].sent.unwrap(), queues[0].finished.unwrap())
    }

    fn late(value: u64) -> Option<Count> {
        Some(Count { value, error: 0.1, lag_ms: 60_000 })
    }

    #[test]
    fn where_senders_count_what_is_there_is_known_before_sqs_tells_though_workers_serve_others_too()
    {
        let both = |gone: u64| Row {
            queue: "http://q/1/a,http://q/1/b".to_owned(),
            gone: HashMap::from([("a".to_owned(), gone), ("b".to_owned(), 500)]),
            ..row(1, gone + 500)
        };
        let mut books = Books::default();
        let there = |(sent, finished): (u64, u64)| sent - finished;
        assert_eq!(
            there(counted(&mut books, &rows(&[("i-1", both(40))]), 90, 0)),
            0,
            "as SQS says"
        );
        assert_eq!(there(counted(&mut books, &rows(&[("i-1", both(40))]), 97, 5_000)), 7);
        assert_eq!(there(counted(&mut books, &rows(&[("i-1", both(42))]), 97, 10_000)), 5);
        // Another worker starts, and is done with three.
        let two = rows(&[("i-1", both(42)), ("i-2", both(3))]);
        assert_eq!(there(counted(&mut books, &two, 97, 15_000)), 2);
    }

    #[test]
    fn a_turn_without_the_senders_changes_nothing_of_what_was_finished() {
        let mut books = Books::default();
        let one = |jobs| {
            let gone = HashMap::from([("a".to_owned(), jobs)]);
            rows(&[("i-1", Row { gone, ..row(1, jobs) })])
        };
        // It worked long before the books were begun.
        assert_eq!(counted(&mut books, &one(500), 90, 0), (0, 0));
        assert_eq!(counted(&mut books, &one(503), 93, 5_000), (3, 3));
        let mut unseen = [QueueSeen { visible: late(0), ..QueueSeen::empty("a") }];
        let blind = HashMap::from([("a".to_owned(), None)]);
        books.enter(Some(&one(504)), &blind, &mut unseen, 10_000);
        assert_eq!((unseen[0].sent, unseen[0].finished), (None, Some(4)));
        assert_eq!(counted(&mut books, &one(505), 95, 15_000), (5, 5));
    }

    #[test]
    fn arrivals_are_told_by_a_clock_that_was_set_back() {
        let (mut books, day) = (Books::default(), 86_400_000);
        look(&mut books, &rows(&[]), 0, day);
        look(&mut books, &rows(&[]), 0, 0);
        assert_eq!(look(&mut books, &rows(&[]), 20, 20_000).arrivals_per_s, Some(1.0));
    }

    #[test]
    fn however_often_it_looks_a_minute_of_looks_is_kept() {
        let mut books = Books::default();
        (0..5_000).for_each(|n| drop(look(&mut books, &rows(&[]), n, n * 100)));
        assert!(books.queues["a"].past.len() <= LOOKS as usize + 1);
    }
}
