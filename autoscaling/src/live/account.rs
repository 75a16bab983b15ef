//! What is on a queue, by the counts of those who put messages on it and take them off.

use std::collections::{HashMap, VecDeque};

use super::fleet::Senders;
use crate::observed::{Millis, QueueSeen};

/// Rows are written about once a second, and some of them a second time. What they say that cannot
/// be (fewer than no message) is not true for so long at the most.
const LATE: Millis = 10_000;

/// The account of a queue: it begins with what SQS shows, and goes on with the steps of all counters.
///
/// What is counted by nobody makes it wrong: a message of a sender that was killed before it wrote
/// its count, a delete that SQS did not carry out, what the queue's retention, a purge or
/// its redrive policy took. (A dead letter of a worker is off the queue like any other message, and
/// one that `flotilla dlq redrive` sends back is sent again.) So SQS has the last word: what it shows is a
/// number that was true within the time that it may be late, with some error. Where the account was
/// on the same side of all that this allows at every look for as long, it is moved to the nearest
/// that is allowed. Twice that time after the last mistake it is as right as SQS is.
#[derive(Debug, Default)]
pub(super) struct Account {
    begun: bool,
    /// What is on the queue; below zero while a sender's row is later than a worker's.
    there: i64,
    /// Messages taken off since it was begun.
    gone: u64,
    senders: Senders,
    /// What was there at each look of the time that SQS may be late.
    past: VecDeque<(Millis, i64)>,
    /// For how long SQS has contradicted it.
    off: Option<Off>,
    /// For how long it has been below zero.
    below: Option<Off>,
}

/// For how long the account has been more, or fewer, than can be.
#[derive(Debug)]
struct Off {
    since: Millis,
    /// By how much at the least; below zero where it is too few.
    by: i64,
}

impl Account {
    /// Enters that a worker is done with so many messages.
    pub(super) fn take_off(&mut self, messages: u64) {
        self.gone = self.gone.saturating_add(messages);
        self.there = self.there.saturating_sub_unsigned(messages);
    }

    /// Enters what the senders counted, and what SQS shows. Gives how many messages were sent and
    /// done with; `None` where the senders' rows or the queue cannot be seen.
    pub(super) fn look(
        &mut self,
        senders: Option<&Senders>,
        seen: &QueueSeen,
        now: Millis,
    ) -> Option<(u64, u64)> {
        let counts = [seen.visible?, seen.delayed?, seen.in_flight?];
        let senders = senders?;
        let sent = self.steps(senders);
        if self.begun {
            self.there = self.there.saturating_add_unsigned(sent);
        } else {
            // What was counted before is among what SQS shows, or gone.
            let there = counts.iter().fold(0u64, |sum, count| sum.saturating_add(count.value));
            (self.begun, self.there, self.gone) = (true, 0i64.saturating_add_unsigned(there), 0);
        }
        let sum = |each: fn(&crate::Count) -> u64| {
            counts.iter().map(each).fold(0i64, i64::saturating_add_unsigned)
        };
        let lag = counts.iter().map(|count| count.lag_ms).fold(0, Millis::max);
        self.correct(sum(|it| it.least()), sum(|it| it.most()), lag, now);
        Some((self.gone.saturating_add(self.there.max(0).unsigned_abs()), self.gone))
    }

    /// Messages taken off since it was begun, whether the senders can be seen or not.
    pub(super) fn gone(&self) -> Option<u64> {
        self.begun.then_some(self.gone)
    }

    /// By how much the senders' counters went up. One that is new counts whole, and one that went
    /// back is of a row of before, so that it is held.
    fn steps(&mut self, senders: &Senders) -> u64 {
        let mut known: HashMap<String, u64> = HashMap::with_capacity(senders.len());
        let mut steps = 0u64;
        for (sender, count) in senders {
            let before = self.senders.get(sender).copied().unwrap_or_default();
            steps = steps.saturating_add(count.saturating_sub(before));
            known.insert(sender.clone(), before.max(*count));
        }
        // Rows go a day after their process: it is not heard of again.
        self.senders = known;
        steps
    }

    /// Moves the account where SQS, between `least` and `most` within its lag, contradicts it for long.
    fn correct(&mut self, least: i64, most: i64, lag: Millis, now: Millis) {
        // A clock that was set back would keep what is ahead of it for as long as it was.
        self.past.retain(|(at, _)| *at <= now);
        self.past.push_back((now, self.there));
        while self.past.front().is_some_and(|(at, _)| now.saturating_sub(*at) > lag) {
            self.past.pop_front();
        }
        let low = self.past.iter().map(|(_, there)| *there).min().unwrap_or(self.there);
        let high = self.past.iter().map(|(_, there)| *there).max().unwrap_or(self.there);
        let by =
            if low > most { low.saturating_sub(most) } else { high.saturating_sub(least).min(0) };
        let off = Off::lasting(&mut self.off, by, lag.max(LATE), now);
        let below = Off::lasting(&mut self.below, self.there.min(0), LATE, now);
        if let Some(by) = below.or(off) {
            self.there = self.there.saturating_sub(by);
            (self.off, self.below) = (None, None);
            self.past = VecDeque::from([(now, self.there)]);
        }
    }
}

impl Off {
    /// Notes by how much it is off now; gives by how much it was at the least, once that lasts.
    fn lasting(this: &mut Option<Self>, by: i64, patience: Millis, now: Millis) -> Option<i64> {
        let next = match this.take() {
            _ if by == 0 => return None,
            Some(Self { since, by: least }) if least.signum() == by.signum() => {
                let by = if by.unsigned_abs() < least.unsigned_abs() { by } else { least };
                Self { since: since.min(now), by }
            }
            _ => Self { since: now, by },
        };
        let lasts = now.saturating_sub(next.since) >= patience;
        let least = next.by;
        *this = Some(next);
        lasts.then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Count;

    const LAG: Millis = 60_000;
    const LOOK: Millis = 5_000;

    fn shows(visible: u64) -> QueueSeen {
        let visible = Some(Count { value: visible, error: 0.1, lag_ms: LAG });
        QueueSeen { visible, ..QueueSeen::empty("a") }
    }

    fn said(counts: &[(&str, u64)]) -> Senders {
        counts.iter().map(|(sender, count)| ((*sender).to_owned(), *count)).collect()
    }

    fn there(account: &mut Account, counts: &[(&str, u64)], visible: u64, now: Millis) -> u64 {
        let (sent, gone) = account.look(Some(&said(counts)), &shows(visible), now).unwrap();
        sent - gone
    }

    #[test]
    fn senders_that_start_again_or_go_and_rows_of_before_take_nothing_back() {
        let mut account = Account::default();
        assert_eq!(there(&mut account, &[("a", 50)], 3, 0), 3, "it begins with what SQS shows");
        assert_eq!(there(&mut account, &[("a", 52), ("b", 4)], 3, 1_000), 9);
        // The first goes back to a row of before, the second starts again under another name.
        assert_eq!(there(&mut account, &[("a", 51), ("b", 4), ("c", 1)], 3, 2_000), 10);
        assert_eq!(there(&mut account, &[("a", 52), ("c", 2)], 3, 3_000), 11);
        account.take_off(11);
        assert_eq!(there(&mut account, &[("a", 52), ("c", 2)], 3, 4_000), 0);
    }

    #[test]
    fn while_the_senders_cannot_be_seen_nothing_is_told_and_nothing_lost() {
        let mut account = Account::default();
        assert_eq!(there(&mut account, &[("a", 1)], 0, 0), 0);
        account.take_off(2);
        assert_eq!(account.look(None, &shows(0), 1_000), None);
        let blind = QueueSeen { visible: None, ..shows(0) };
        assert_eq!(account.look(Some(&said(&[("a", 5)])), &blind, 2_000), None);
        assert_eq!(there(&mut account, &[("a", 6)], 0, 3_000), 3);
    }

    #[test]
    fn a_worker_that_is_told_of_before_its_sender_leaves_nothing_behind() {
        let mut account = Account::default();
        there(&mut account, &[("a", 0)], 0, 0);
        account.take_off(4);
        assert_eq!(there(&mut account, &[("a", 0)], 0, 1_000), 0, "four before they were sent");
        assert_eq!(there(&mut account, &[("a", 4)], 0, 2_000), 0);
    }

    #[test]
    fn a_count_that_a_killed_sender_never_wrote_hides_a_message_for_seconds() {
        let mut account = Account::default();
        there(&mut account, &[("a", 0)], 0, 0);
        account.take_off(1);
        for look in 1..=3 {
            assert_eq!(there(&mut account, &[("a", 0)], 0, look * LOOK), 0);
        }
        assert_eq!(there(&mut account, &[("a", 0), ("b", 1)], 0, 4 * LOOK), 1);
    }

    /// What happens between two looks: sent, taken off, and both likewise, but uncounted.
    fn turns() -> impl Strategy<Value = Vec<(u64, u64, u64, u64)>> {
        let rarely = || prop_oneof![9 => Just(0u64), 1 => 0u64..30];
        proptest::collection::vec((0u64..40, 0u64..40, rarely(), rarely()), 1..80)
    }

    #[test]
    fn a_clock_that_is_set_back_puts_no_correction_off() {
        let (mut account, day) = (Account::default(), 86_400_000);
        there(&mut account, &[("a", 0)], 0, day);
        // One was sent that nobody counted, and nobody shows it for long.
        assert_eq!(there(&mut account, &[("a", 5)], 0, day + LOOK), 5);
        let looks = (0..30).map(|n| there(&mut account, &[("a", 5)], 0, n * LOOK));
        assert_eq!(looks.last(), Some(0));
    }

    proptest! {
        #[test]
        fn whatever_the_rows_hold_nothing_overflows(
            turns in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..20),
        ) {
            let mut account = Account::default();
            for (gone, sent, visible, now) in turns {
                account.take_off(gone);
                account.look(Some(&said(&[("a", sent)])), &shows(visible), now);
            }
        }

        #[test]
        fn where_it_contradicts_sqs_for_long_sqs_wins_and_without_mistakes_it_is_exact(
            turns in turns(), late in 0usize..12, error in -0.08f64..0.08, started in 0u64..50,
        ) {
            let mut account = Account::default();
            let (mut truth, mut sent, mut shown) = (started, 1_000u64, VecDeque::from([started]));
            let (mut mistakes, mut least) = (0, started);
            there(&mut account, &[("a", sent)], started, 0);
            let calm = 3 * LAG as usize / LOOK as usize + late;
            let calm = std::iter::repeat_n((0, 0, 0, 0), calm);
            for (n, (more, fewer, unsent, untold)) in (1..).zip(turns.into_iter().chain(calm)) {
                truth += more + unsent;
                let fewer = fewer.min(truth);
                let untold = untold.min(truth - fewer);
                truth -= fewer + untold;
                mistakes += unsent + untold;
                sent += more;
                account.take_off(fewer);
                shown.push_back(truth);
                // Up to a lag ago, and with an error that its count admits.
                let then = shown[shown.len().saturating_sub(1 + late)];
                let visible = (then as f64 * (1.0 + error)).round() as u64;
                least = there(&mut account, &[("a", sent)], visible, n * LOOK);
                if mistakes == 0 {
                    prop_assert_eq!(least, truth);
                }
            }
            let visible = (truth as f64 * (1.0 + error)).round() as u64;
            let count = shows(visible).visible.unwrap();
            prop_assert!(
                (count.least()..=count.most()).contains(&least),
                "{least} where there are {truth} and SQS shows {visible}"
            );
        }
    }
}
