//! Readings by the period: least, most, mean and count.

use serde::{Deserialize, Serialize};

/// The shortest and the longest period, in milliseconds.
const PERIODS: std::ops::RangeInclusive<i64> = 1000..=366 * 86_400_000;

/// A period such as `30s`, `5m`, `1h` or `1d`, in milliseconds.
///
/// # Errors
/// Says what can be asked for.
pub(super) fn period(text: &str) -> Result<i64, String> {
    duration(text).ok().filter(|it| PERIODS.contains(it)).ok_or_else(|| {
        format!("every is {text:.40?}: it is a whole number of s, m, h or d, from 1s to 366d")
    })
}

/// A time such as `0s`, `5m`, `1h` or `1d`, in milliseconds.
///
/// # Errors
/// Says how it is written.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => Some(1000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let count = Some(digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let count = count.and_then(|it| it.parse::<i64>().ok());
    let time = unit.zip(count).and_then(|(unit, count)| count.checked_mul(unit));
    let most = PERIODS.end();
    time.filter(|it| it <= most)
        .ok_or_else(|| format!("{text:.40?} is no time: a whole number of s, m, h or d, to 366d"))
}

/// The readings of a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bucket {
    /// When the period begins, in Unix milliseconds.
    at: i64,
    min: f64,
    max: f64,
    mean: f64,
    count: u64,
}

impl Bucket {
    fn of(at: i64, filling: f64) -> Self {
        Self { at, min: filling, max: filling, mean: filling, count: 1 }
    }

    /// The mean is kept in a form that no sum can overflow.
    fn add(&mut self, filling: f64) {
        // It may come from a cursor, and a cursor from anybody.
        self.count = self.count.saturating_add(1);
        self.min = self.min.min(filling);
        self.max = self.max.max(filling);
        let count = self.count as f64;
        let mean = self.mean * ((count - 1.0) / count) + filling / count;
        // What is rounded is no reason to be beyond all that was read.
        self.mean = mean.clamp(self.min, self.max);
    }
}

/// Buckets as they fill, in order of time; at most so many.
#[derive(Debug)]
pub(super) struct Buckets {
    every: i64,
    limit: usize,
    full: Vec<Bucket>,
    open: Option<Bucket>,
}

impl Buckets {
    /// Goes on with a bucket that is not full yet.
    pub(super) fn new(every: i64, limit: usize, open: Option<Bucket>) -> Self {
        Self { every, limit, full: Vec::new(), open }
    }

    /// The period, in milliseconds.
    pub(super) fn every(&self) -> i64 {
        self.every
    }

    /// Takes a level, unless it would begin a bucket more than there may be: then `false`.
    pub(super) fn add(&mut self, at: i64, filling: f64) -> bool {
        let begin = at.div_euclid(self.every) * self.every;
        if let Some(open) = self.open.as_mut().filter(|open| open.at == begin) {
            open.add(filling);
            return true;
        }
        self.full.extend(self.open.take());
        let room = self.full.len() < self.limit;
        if room {
            self.open = Some(Bucket::of(begin, filling));
        }
        room
    }

    /// The bucket that is not full yet, for the next page.
    pub(super) fn take_open(&mut self) -> Option<Bucket> {
        self.open.take()
    }

    /// All that there are.
    pub(super) fn finish(mut self) -> Vec<Bucket> {
        self.full.extend(self.open.take());
        self.full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_are_whole_and_bounded() {
        assert_eq!(period("5m"), Ok(300_000));
        assert_eq!((period("1s"), period("366d")), (Ok(1000), Ok(366 * 86_400_000)));
        for text in ["", "5", "m", "0s", "-5m", "1.5h", "367d", "99999999999999999999d", "5mm", "ä"]
        {
            assert!(period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_that_a_cursor_made_up_takes_a_level_as_any_other() {
        for count in [0, u64::MAX] {
            let made_up = Bucket { at: 0, min: 9.0, max: -9.0, mean: 1e308, count };
            let mut buckets = Buckets::new(1000, 5, Some(made_up));
            assert!(buckets.add(10, 1.0) && buckets.add(20, -1e308));
            assert!(buckets.finish()[0].mean.is_finite());
        }
    }

    #[test]
    fn the_mean_is_never_beyond_what_was_read() {
        let mut bucket = Bucket::of(0, 0.1);
        for _ in 0..1000 {
            bucket.add(0.1);
            assert!((bucket.min..=bucket.max).contains(&bucket.mean), "{bucket:?}");
        }
    }

    proptest! {
        #[test]
        fn buckets_are_what_grouping_gives_however_the_pages_are_cut(
            mut readings in prop::collection::vec((0..50_000_i64, -1e3..1e3_f64), 1..80),
            limit in 1..6_usize,
            cut in 1..7_usize,
        ) {
            readings.sort_by_key(|it| it.0);
            let mut wanted = std::collections::BTreeMap::<i64, Vec<f64>>::new();
            for (at, filling) in &readings {
                wanted.entry(at / 10_000 * 10_000).or_default().push(*filling);
            }
            let (mut found, mut next, mut open) = (Vec::new(), 0, None);
            while next < readings.len() {
                let mut buckets = Buckets::new(10_000, limit, open.take());
                let end = readings.len().min(next + cut);
                while next < end && buckets.add(readings[next].0, readings[next].1) {
                    next += 1;
                }
                if next == end && end < readings.len() {
                    open = buckets.take_open();
                }
                found.extend(buckets.finish());
            }
            prop_assert_eq!(found.len(), wanted.len());
            for (bucket, (at, values)) in found.iter().zip(wanted) {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                prop_assert_eq!((bucket.at, bucket.count), (at, values.len() as u64));
                prop_assert_eq!(bucket.min, values.iter().copied().fold(f64::MAX, f64::min));
                prop_assert_eq!(bucket.max, values.iter().copied().fold(f64::MIN, f64::max));
                prop_assert!((bucket.mean - mean).abs() < 1e-6);
            }
        }
    }
}
