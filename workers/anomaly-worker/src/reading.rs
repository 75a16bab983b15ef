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

/// The numbers that a device gave its readings. Of a number the first reading counts, and whatever comes
/// under it within the allowed lateness after that one is the same reading, whatever it says; what comes
/// later counts again, for so long. So a device that begins to count anew is understood after one
/// lateness at most, and so is one that always gives the same number.
#[derive(Debug, Clone)]
pub struct Numbers {
    within: i64,
    /// The times of those that counted last.
    counted: HashMap<u64, i64>,
}

impl Numbers {
    /// No numbers yet; `lateness` is in milliseconds.
    pub fn new(lateness: i64) -> Self {
        Self { within: lateness, counted: HashMap::new() }
    }

    /// Whether a reading is another's duplicate by its number. Readings come in their order.
    pub fn again(&mut self, it: &Reading) -> bool {
        it.seq.is_some_and(|seq| self.is_again(seq, it.at))
    }

    fn is_again(&mut self, seq: u64, at: i64) -> bool {
        let known = self.counted.get(&seq);
        let again = known.is_some_and(|counted| at.saturating_sub(*counted) <= self.within);
        if !again {
            self.counted.insert(seq, at);
        }
        again
    }

    /// Notes numbers with the times of the readings that counted.
    fn note(&mut self, counted: &[(u64, i64)]) {
        self.counted.extend(counted.iter().copied());
    }
}

/// Tells which of a device's readings count, one after the other in their order: as [`distinct`], but that
/// of the same time and value it names the first.
#[derive(Debug)]
pub struct Absorb {
    numbers: Numbers,
    at: i64,
    values: Vec<u64>,
}

impl Absorb {
    /// Nothing was read yet; `lateness` is in milliseconds.
    pub fn new(lateness: i64) -> Self {
        Self { numbers: Numbers::new(lateness), at: 0, values: Vec::new() }
    }

    /// Whether a reading was not there before, by its number or by its time and value.
    pub fn is_new(&mut self, it: &Reading) -> bool {
        if self.at != it.at {
            self.at = it.at;
            self.values.clear();
        }
        let bits = it.filling.to_bits();
        if self.numbers.again(it) || self.values.contains(&bits) {
            return false;
        }
        self.values.push(bits);
        true
    }
}

/// What is known of a device's numbers at a time, until which all is settled (Unix milliseconds), where
/// the readings from a lateness before do not tell it: which of each counted last, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base<'b> {
    pub(crate) until: i64,
    pub(crate) counted: &'b [(u64, i64)],
}

impl Base<'_> {
    /// Nothing is settled.
    pub(crate) const NONE: Self = Self { until: i64::MIN, counted: &[] };
}

/// One device's readings, duplicates told apart.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Those that count, in order.
    pub(crate) counted: Vec<Reading>,
    /// Those that are others' duplicates by their numbers, in order: the device was heard, no more.
    pub(crate) again: Vec<Reading>,
    /// All numbers with their times, in order, where any may be there twice.
    pub(crate) numbers: Vec<(i64, u64)>,
}

/// With more numbers than this whose readings before a base do not tell which counted, the oldest are
/// left to those: a row takes 400 KB.
const IN_DOUBT: usize = 2000;

impl Sorted {
    /// Sorts all readings of a device from a lateness before its base on. `lateness` is in milliseconds.
    pub(crate) fn of(mut readings: Vec<Reading>, lateness: i64, base: Base<'_>) -> Self {
        if base.counted.is_empty() && is_in_order(&readings) {
            return Self { counted: readings, ..Self::default() };
        }
        readings.sort_unstable_by(Reading::order);
        let numbers = readings.iter().filter_map(|it| Some((it.at, it.seq?))).collect();
        let (mut known, mut at_base) = (Numbers::new(lateness), false);
        let mut again = Vec::new();
        readings.retain(|it| {
            if !at_base && it.at > base.until {
                known.note(base.counted);
                at_base = true;
            }
            let is_again = known.again(it);
            again.extend(is_again.then_some(*it));
            !is_again
        });
        let mut values = HashSet::new();
        readings.reverse();
        readings.retain(|reading| values.insert((reading.at, reading.filling.to_bits())));
        readings.reverse();
        Self { counted: readings, again, numbers }
    }

    /// What a later base at this time (Unix milliseconds) must know of these numbers, where the readings
    /// after `needs` are read with it.
    pub(crate) fn in_doubt(
        &self,
        lateness: i64,
        base: Base<'_>,
        needs: i64,
        until: i64,
    ) -> Vec<(u64, i64)> {
        let (mut truly, mut anew) = (Numbers::new(lateness), Numbers::new(lateness));
        let settled = self.numbers.partition_point(|(at, _)| *at <= base.until);
        let (before, after) = self.numbers.split_at(settled);
        before.iter().for_each(|(at, seq)| _ = truly.is_again(*seq, *at));
        truly.note(base.counted);
        let open = after.iter().take_while(|(at, _)| *at <= until);
        open.for_each(|(at, seq)| _ = truly.is_again(*seq, *at));
        let read = self.numbers.iter().filter(|(at, _)| (needs + 1..=until).contains(at));
        read.for_each(|(at, seq)| _ = anew.is_again(*seq, *at));
        let told = |(seq, at): (u64, i64)| {
            let counted = *truly.counted.get(&seq)?;
            (counted != at).then_some((seq, counted))
        };
        let mut found: Vec<_> = anew.counted.into_iter().filter_map(told).collect();
        found.sort_unstable_by_key(|(seq, at)| (std::cmp::Reverse(*at), *seq));
        found.truncate(IN_DOUBT);
        found.sort_unstable();
        found
    }
}

/// One device's readings in order, without duplicates: of a number that comes again [so
/// soon](Numbers) the earliest counts, of the same time and value the last. `lateness` is in
/// milliseconds.
pub fn distinct(readings: Vec<Reading>, lateness: i64) -> Vec<Reading> {
    Sorted::of(readings, lateness, Base::NONE).counted
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
        // Those of the first and of the third time count.
        let wanted = [&all[..10], &all[20..]].concat();
        assert_eq!(distinct(all, 1000), wanted);
    }

    #[test]
    fn the_same_number_is_a_duplicate_whatever_it_says_until_a_lateness_after_the_one_that_counted()
    {
        let said = |n: i64| reading(n * 10, n as f64, Some(7));
        let all: Vec<_> = (0..10).map(said).collect();
        let counted: Vec<_> = distinct(all, 35).iter().map(|it| it.at).collect();
        assert_eq!(counted, [0, 40, 80], "it is not measured from what was absorbed");
        // At one time a number is one reading, whatever it says.
        let two = [reading(5, 1.0, Some(1)), reading(5, 2.0, Some(1))];
        assert_eq!(distinct(two.to_vec(), 10), two[..1]);
    }

    #[test]
    fn a_device_that_restarts_is_understood_after_one_lateness_at_most() {
        let hour = 3_600_000;
        let minute = |n: i64, seq: i64| reading(n * 60_000, n as f64, Some(seq as u64));
        let restart = 45;
        let all = (0..200).map(|n| minute(n, if n < restart { n } else { n - restart }));
        let counted = distinct(all.collect(), hour);
        let late = (restart + 60..200).filter(|n| !counted.iter().any(|it| it.at == n * 60_000));
        assert_eq!(late.count(), 0);
        // Where it restarts again and again, it is heard again and again.
        let counted = distinct((0..600).map(|n| minute(n, n % 30)).collect(), hour);
        let longest = counted.windows(2).map(|pair| pair[1].at - pair[0].at).max();
        assert!(longest <= Some(hour + 30 * 60_000), "{longest:?}");
        let after_a_while: Vec<_> = (0..90).map(|n| minute(n, n % 70)).collect();
        assert_eq!(distinct(after_a_while.clone(), hour), after_a_while);
    }

    #[test]
    fn a_number_is_absorbed_within_an_hour_and_counts_anew_after_it() {
        let mut absorb = Absorb::new(3_600_000);
        assert!(absorb.is_new(&reading(0, 1.0, Some(1))));
        assert!(!absorb.is_new(&reading(5, 2.0, Some(1))));
        assert!(absorb.is_new(&reading(5, 1.0, None)) && !absorb.is_new(&reading(5, 1.0, Some(9))));
        assert!(!absorb.is_new(&reading(3_600_000, 3.0, Some(1))));
        assert!(absorb.is_new(&reading(3_600_001, 1.0, Some(1))));
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
        fn one_after_the_other_the_same_levels_count_as_of_all_together(
            readings in prop::collection::vec((0..40_i64, 0..3_u8, prop::option::of(0..5_u64)), 0..60),
        ) {
            let reading = |&(at, filling, seq)| reading(at, f64::from(filling), seq);
            let mut all: Vec<_> = readings.iter().map(reading).collect();
            all.sort_by(Reading::order);
            let mut absorb = Absorb::new(7);
            let levels = |all: &[Reading]| -> Vec<_> {
                let mut levels: Vec<_> = all.iter().map(|it| (it.at, it.filling.to_bits())).collect();
                levels.sort_unstable();
                levels
            };
            let counted: Vec<_> = all.iter().filter(|it| absorb.is_new(it)).copied().collect();
            prop_assert_eq!(levels(&counted), levels(&distinct(all, 7)));
        }

        #[test]
        fn a_base_knows_of_numbers_what_all_readings_told(
            readings in prop::collection::vec((0..90_i64, prop::option::of(0..4_u64)), 1..80),
            bases in prop::collection::vec(0..25_i64, 1..6),
        ) {
            let lateness = 10;
            let mut all: Vec<_> =
                readings.iter().map(|(at, seq)| reading(*at, *at as f64, *seq)).collect();
            all.sort_by(Reading::order);
            let (mut until, mut counted) = (-1, Vec::new());
            for step in bases {
                let base = Base { until, counted: &counted };
                let read: Vec<_> =
                    all.iter().filter(|it| it.at > until - lateness).copied().collect();
                let sorted = Sorted::of(read, lateness, base);
                let since: Vec<_> = sorted.counted.iter().filter(|it| it.at > until).collect();
                let known = distinct(all.clone(), lateness);
                let wanted: Vec<_> = known.iter().filter(|it| it.at > until).collect();
                prop_assert_eq!(since, wanted);
                let next = until + step;
                counted = sorted.in_doubt(lateness, base, next - lateness, next);
                until = next;
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
