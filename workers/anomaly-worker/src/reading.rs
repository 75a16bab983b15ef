//! A reading: what one sensor said of its level at one time.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

/// The longest id of a device, in bytes.
pub const ID_LIMIT: usize = 128;

/// What a device measured, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Event time, in Unix milliseconds; not negative.
    pub at: i64,
    /// The level; finite, and never the negative zero.
    pub filling: f64,
    /// The device's own number of it, where it counts.
    pub seq: Option<u64>,
}

impl Reading {
    /// The key of the reading among its device's: the same for the same time, number and value,
    /// and in order of time.
    pub fn key(&self) -> String {
        let seq = self.seq.map_or_else(|| "-".to_owned(), |seq| format!("{seq:020}"));
        format!("{:015}.{seq}.{}", self.at, self.filling)
    }

    /// What sorts after every key of a reading at or before `at`, and before all later ones.
    pub fn key_after(at: i64) -> String {
        format!("{at:015}/")
    }

    /// In order of time; at one time by number, then by value. The last one counts.
    pub fn order(&self, other: &Self) -> Ordering {
        let by_time = self.at.cmp(&other.at).then(self.seq.cmp(&other.seq));
        by_time.then(self.filling.total_cmp(&other.filling))
    }
}

/// The numbers that a device gave its readings. The same number with the same value within the allowed
/// lateness, or at the same time, is the same reading. With another value at another time, or later,
/// it is another: the device has begun to count anew.
///
/// Whether one is another's duplicate follows from these two alone, so that it does not depend on what
/// else is known of the device.
#[derive(Debug)]
pub struct Numbers {
    within: i64,
    last: HashMap<u64, i64>,
    values: HashMap<(u64, u64), i64>,
}

impl Numbers {
    /// No numbers yet; `lateness` is in milliseconds.
    pub fn new(lateness: i64) -> Self {
        Self { within: lateness, last: HashMap::new(), values: HashMap::new() }
    }

    /// Whether a reading is another's duplicate by its number. Readings come in their order.
    pub fn again(&mut self, it: &Reading) -> bool {
        let Some(seq) = it.seq else { return false };
        let same_time = self.last.insert(seq, it.at) == Some(it.at);
        let before = self.values.insert((seq, it.filling.to_bits()), it.at);
        same_time || before.is_some_and(|before| it.at.saturating_sub(before) <= self.within)
    }
}

/// One device's readings in order, without duplicates: of a number that comes again [so
/// soon](Numbers) the earliest counts, of the same time and value the last. `lateness` is in
/// milliseconds.
pub fn distinct(mut readings: Vec<Reading>, lateness: i64) -> Vec<Reading> {
    if is_in_order(&readings) {
        return readings;
    }
    readings.sort_unstable_by(Reading::order);
    let mut numbers = Numbers::new(lateness);
    readings.retain(|reading| !numbers.again(reading));
    let mut values = HashSet::new();
    readings.reverse();
    readings.retain(|reading| values.insert((reading.at, reading.filling.to_bits())));
    readings.reverse();
    readings
}

/// Whether each is later than the one before, in time and in number.
fn is_in_order(readings: &[Reading]) -> bool {
    let rises = |pair: &[Reading]| pair[0].at < pair[1].at;
    let mut numbers = readings.iter().filter_map(|it| it.seq);
    let first = numbers.next();
    readings.windows(2).all(rises)
        && numbers
            .try_fold(first, |before, seq| (before < Some(seq)).then_some(Some(seq)))
            .is_some()
}

/// Refuses what cannot name a device: empty, over 128 bytes, a path, or with a slash or a control
/// character.
///
/// # Errors
/// Says why.
pub fn check_id(id: &str) -> Result<(), String> {
    let why = match id {
        "" => "is empty".to_owned(),
        "." | ".." => "is a path".to_owned(),
        _ if id.len() > ID_LIMIT => format!("is over {ID_LIMIT} bytes"),
        _ if id.contains('/') => "has a slash".to_owned(),
        _ if id.contains(char::is_control) => "has a control character".to_owned(),
        _ => return Ok(()),
    };
    let shown: String = id.chars().take(40).collect();
    Err(format!("the id {shown:?} {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn reading(at: i64, filling: f64, seq: Option<u64>) -> Reading {
        Reading { at, filling, seq }
    }

    #[test]
    fn duplicates_by_number_or_by_time_and_value_are_absorbed() {
        let one = reading(5, 50.0, Some(1));
        assert_eq!(distinct(vec![one, reading(9, 50.0, Some(1)), one], 10), [one]);
        let two = reading(5, 50.0, Some(2));
        assert_eq!(distinct(vec![two, reading(5, 50.0, None), one], 10), [two]);
        assert_eq!(distinct(vec![one, reading(5, 0.0, None)], 10).len(), 2);
    }

    #[test]
    fn a_counter_that_begins_anew_is_not_its_own_duplicate() {
        let all: Vec<_> = (0..30).map(|n| reading(n * 100, 1.0, Some(n as u64 % 10))).collect();
        assert_eq!(distinct(all.clone(), 999), all);
        assert_eq!(distinct(all, 1000).len(), 10);
    }

    #[test]
    fn a_device_that_restarts_is_heard_at_once() {
        let before: Vec<_> = (0..5).map(|n| reading(n * 10, n as f64, Some(n as u64))).collect();
        let after = (0..3).map(|n| reading(60 + n * 10, 50.0 + n as f64, Some(n as u64)));
        let all: Vec<_> = before.into_iter().chain(after).collect();
        assert_eq!(distinct(all.clone(), 3_600_000), all);
        // At one time a number is one reading, whatever it says.
        let two = [reading(5, 1.0, Some(1)), reading(5, 2.0, Some(1))];
        assert_eq!(distinct(two.to_vec(), 10), two[..1]);
    }

    #[test]
    fn ids_that_cannot_name_a_device_are_refused_with_the_reason() {
        for (id, why) in [
            ("", "empty"),
            ("..", "path"),
            ("a/b", "slash"),
            ("a\u{7}b", "control"),
            ("a\u{85}b", "control"),
            (&"x".repeat(129), "128 bytes"),
        ] {
            assert!(check_id(id).unwrap_err().contains(why), "{id:?}");
        }
        assert!(check_id("0102").is_ok() && check_id("kanal-ä 7").is_ok());
    }

    proptest! {
        #[test]
        fn keys_are_in_order_of_time(a in 0..10_i64.pow(15), b in 0..10_i64.pow(15), seq in any::<Option<u64>>()) {
            let (first, second) = (reading(a.min(b), 1.0, seq), reading(a.max(b), 1.0, None));
            prop_assert!(first.key() < Reading::key_after(a.min(b)));
            if a != b {
                prop_assert!(Reading::key_after(a.min(b)) < second.key());
            }
        }

        #[test]
        fn what_is_distinct_does_not_depend_on_the_order(
            readings in prop::collection::vec((0..9_i64, 0..3_u8, prop::option::of(0..5_u64)), 0..30),
            seed in any::<u64>(),
        ) {
            let readings: Vec<_> =
                readings.iter().map(|(at, filling, seq)| reading(*at, (*filling).into(), *seq)).collect();
            let mut shuffled = [readings.clone(), readings.clone()].concat();
            let turn = seed as usize % shuffled.len().max(1);
            shuffled.rotate_left(turn);
            prop_assert_eq!(distinct(readings, 3), distinct(shuffled, 3));
        }
    }
}
