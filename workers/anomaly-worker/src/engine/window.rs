//! The readings of a device that may still matter, 15 bytes each: 16 at most with room to grow, but for
//! the smallest windows.

use std::collections::HashSet;

use crate::reading::Reading;

/// A number that is not there.
const NO_NUMBER: [u8; 3] = [u8::MAX; 3];
/// How far below the first number others may be.
const BELOW: u64 = 1 << 22;

/// A reading by its distance from where the window's times and numbers begin.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, packed)]
struct Packed {
    filling: f64,
    after: u32,
    /// The lowest byte first.
    seq: [u8; 3],
}

impl Packed {
    fn number(self) -> Option<u32> {
        let [low, middle, high] = self.seq;
        (self.seq != NO_NUMBER).then(|| u32::from_le_bytes([low, middle, high, 0]))
    }
}

/// The readings of a device since a time, in order.
#[derive(Debug, Clone, Default)]
pub struct Window {
    begin: i64,
    first: u64,
    packed: Vec<Packed>,
    /// What is too far from the others to fit in so few bytes.
    wide: Box<[Reading]>,
    /// No number is higher.
    seq: Option<u64>,
}

/// Readings of a device, each later than the one before, and none twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'w> {
    begin: i64,
    packed: &'w [Packed],
}

/// How a reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is newer than all of its device, and its number is new.
    InOrder,
    /// It is older than another, or may be a duplicate under another time.
    OutOfOrder,
    /// It was there.
    Duplicate,
}

impl Window {
    /// A window of these readings.
    pub fn of(readings: Vec<Reading>) -> Self {
        let mut window = Self::default();
        window.fill(readings);
        window
    }

    /// The newest reading.
    pub fn newest(&self) -> Option<Reading> {
        let last = self.packed.last().map(|it| it.after);
        let newest = self.packed.iter().rev().take_while(|it| Some(it.after) == last);
        let all = newest.map(|it| self.unpack(it)).chain(self.wide.iter().copied());
        all.max_by(Reading::order)
    }

    /// How many readings it holds.
    pub fn len(&self) -> usize {
        self.packed.len() + self.wide.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the readings take, with room to grow.
    pub fn bytes(&self) -> usize {
        self.packed.capacity() * size_of::<Packed>() + size_of_val(&*self.wide)
    }

    /// Whether this very reading is there.
    pub fn holds(&self, reading: &Reading) -> bool {
        match self.pack(reading) {
            Some(packed) => {
                let from = self.packed.partition_point(|it| it.after < packed.after);
                let same = self.packed[from..].iter().take_while(|it| it.after == packed.after);
                same.into_iter().any(|it| *it == packed)
            }
            None => self.wide.contains(reading),
        }
    }

    /// Takes a reading. The same number within `lateness` (milliseconds) may be a duplicate.
    pub fn insert(&mut self, reading: Reading, lateness: i64) -> Arrival {
        let in_time = self.newest_time().is_none_or(|newest| reading.at > newest);
        let since = reading.at.saturating_sub(lateness);
        let is_new = |seq| Some(seq) > self.seq || !self.counts_to(seq, since);
        let in_order = in_time && reading.seq.is_none_or(is_new);
        if !in_time && self.holds(&reading) {
            return Arrival::Duplicate;
        }
        let packed = self.keep(reading);
        if in_order && packed { Arrival::InOrder } else { Arrival::OutOfOrder }
    }

    /// Whether there is a reading of this number from this time on (Unix milliseconds).
    fn counts_to(&self, seq: u64, since: i64) -> bool {
        let packed = self.packed().between(since.saturating_sub(1), i64::MAX).packed;
        let known = self.number(seq);
        known.is_some_and(|seq| packed.iter().any(|it| it.seq == seq))
            || self.wide.iter().any(|it| it.at >= since && it.seq == Some(seq))
    }

    /// The time of the newest reading, in Unix milliseconds.
    pub(super) fn newest_time(&self) -> Option<i64> {
        let packed = self.packed.last().map(|it| self.begin + i64::from(it.after));
        packed.max(self.wide.iter().map(|it| it.at).max())
    }

    /// Whether it was kept among those in order.
    fn keep(&mut self, reading: Reading) -> bool {
        if self.is_empty() {
            self.begin = reading.at;
        }
        if let (None, Some(seq)) = (self.seq, reading.seq) {
            self.first = seq.saturating_sub(BELOW);
        }
        if self.pack(&reading).is_none() {
            self.begin_anew();
        }
        self.seq = self.seq.max(reading.seq);
        let Some(packed) = self.pack(&reading) else {
            self.wide = self.wide.iter().copied().chain([reading]).collect();
            return false;
        };
        if self.packed.len() == self.packed.capacity() {
            self.packed.reserve_exact(2 + self.packed.len() / 32);
        }
        match self.packed.last().is_none_or(|last| last.after <= packed.after) {
            true => self.packed.push(packed),
            false => {
                let at = self.packed.partition_point(|it| it.after <= packed.after);
                self.packed.insert(at, packed);
            }
        }
        true
    }

    /// Has times and numbers begin where the oldest that are left do.
    fn begin_anew(&mut self) {
        let oldest = self.packed.first().map(|it| self.unpack(it));
        let moved = oldest.is_some_and(|it| {
            let far = |seq: u64| seq.saturating_sub(self.first) > 2 * BELOW;
            it.at > self.begin || it.seq.is_some_and(far)
        });
        if moved {
            self.fill(self.after(i64::MIN));
        }
    }

    fn pack(&self, reading: &Reading) -> Option<Packed> {
        let seq = reading.seq.map_or(Some(NO_NUMBER), |seq| self.number(seq))?;
        let after = u32::try_from(reading.at.checked_sub(self.begin)?).ok()?;
        Some(Packed { after, seq, filling: reading.filling })
    }

    /// A number by its distance from where they begin.
    fn number(&self, seq: u64) -> Option<[u8; 3]> {
        let far = u32::try_from(seq.checked_sub(self.first)?).ok()?;
        let [low, middle, high, beyond] = far.to_le_bytes();
        Some([low, middle, high]).filter(|seq| beyond == 0 && *seq != NO_NUMBER)
    }

    fn unpack(&self, packed: &Packed) -> Reading {
        let seq = packed.number().map(|it| self.first + u64::from(it));
        Reading { at: self.begin + i64::from(packed.after), filling: packed.filling, seq }
    }

    /// The readings after this time (Unix milliseconds), in no order.
    pub fn after(&self, at: i64) -> Vec<Reading> {
        let from = self.packed.partition_point(|it| self.begin + i64::from(it.after) <= at);
        let packed = self.packed[from..].iter().map(|it| self.unpack(it));
        packed.chain(self.wide.iter().filter(|it| it.at > at).copied()).collect()
    }

    /// The readings after this time (Unix milliseconds), if each is later than the one before, and
    /// none can be another's duplicate.
    pub(super) fn run(&self, after: i64) -> Option<Run<'_>> {
        let run = self.packed_after(after)?;
        let mut number = None;
        let numbers_rise = run.packed.iter().all(|it| {
            let Some(seq) = it.number() else { return true };
            number.replace(seq).is_none_or(|before| before < seq)
        });
        let times_rise = run.packed.windows(2).all(|pair| pair[0].after < pair[1].after);
        (numbers_rise && times_rise).then_some(run)
    }

    /// The readings after this time (Unix milliseconds), if all of them are packed.
    pub(super) fn packed_after(&self, at: i64) -> Option<Run<'_>> {
        let all = self.wide.iter().all(|it| it.at <= at);
        all.then(|| self.packed().between(at, i64::MAX))
    }

    fn packed(&self) -> Run<'_> {
        Run { begin: self.begin, packed: &self.packed }
    }

    /// Forgets the readings until then (Unix milliseconds), all but the newest.
    pub fn forget(&mut self, until: i64) {
        let newest = self.newest();
        let gone = self.packed.partition_point(|it| self.begin + i64::from(it.after) <= until);
        self.packed.drain(..gone);
        if self.wide.iter().any(|it| it.at <= until) {
            self.wide = self.wide.iter().filter(|it| it.at > until).copied().collect();
        }
        let len = self.packed.len();
        if self.packed.capacity() > len + len / 20 + 2 {
            self.packed.shrink_to(len + len / 32 + 2);
        }
        if let Some(newest) = newest.filter(|_| self.is_empty()) {
            self.keep(newest);
        }
    }

    fn fill(&mut self, mut readings: Vec<Reading>) {
        readings.sort_unstable_by(Reading::order);
        let mut seen = HashSet::new();
        readings.retain(|it| seen.insert((it.at, it.seq, it.filling.to_bits())));
        let begin = readings.first().map_or(0, |it| it.at);
        let first = readings.iter().find_map(|it| it.seq).unwrap_or(0).saturating_sub(BELOW);
        let seq = self.seq.max(readings.iter().filter_map(|it| it.seq).max());
        *self = Self { begin, first, seq, ..Self::default() };
        let mut packed = Vec::with_capacity(readings.len());
        packed.extend(readings.iter().filter_map(|it| self.pack(it)));
        self.wide = readings.into_iter().filter(|it| self.pack(it).is_none()).collect();
        self.packed = packed;
    }
}

impl<'w> Run<'w> {
    /// No readings.
    pub(super) const NONE: Run<'static> = Run { begin: 0, packed: &[] };

    /// How many there are.
    pub(super) fn len(self) -> usize {
        self.packed.len()
    }

    /// Those after `from`, until `to` (Unix milliseconds). They are looked for from the newest on.
    pub(super) fn between(self, from: i64, to: i64) -> Self {
        let (from, to) = (self.place_of(from), self.place_of(to));
        Self { packed: self.packed.get(from..to).unwrap_or_default(), ..self }
    }

    /// How many are not after this time.
    fn place_of(self, at: i64) -> usize {
        let later = |it: &Packed| self.begin + i64::from(it.after) > at;
        let (mut step, mut low) = (1, self.packed.len());
        while low > 0 && later(&self.packed[low - 1]) {
            low = low.saturating_sub(step);
            step *= 2;
        }
        let high = (low + step).min(self.packed.len());
        low + self.packed[low..high].partition_point(|it| !later(it))
    }

    /// Times (Unix milliseconds) and levels.
    pub(super) fn iter(self) -> impl Iterator<Item = (i64, f64)> + 'w {
        self.packed.iter().map(move |it| (self.begin + i64::from(it.after), it.filling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_takes_sixteen_bytes_at_most_with_room_to_grow() {
        let mut window = Window::default();
        for n in 0..5000_i64 {
            let seq = (n % 3 > 0).then_some(7_000_000_000 + n as u64);
            window.insert(Reading { at: n * 1000, filling: n as f64, seq }, 3_600_000);
            if n % 256 == 255 {
                window.forget((n - 600) * 1000);
            }
            let (bytes, len) = (window.bytes(), window.len());
            assert!(len < 200 || bytes <= 16 * len, "{bytes} bytes of {len} readings");
        }
        let last = Reading { at: 4_999_000, filling: 4999.0, seq: Some(7_000_004_999) };
        assert!(window.holds(&last) && window.newest() == Some(last));
    }

    #[test]
    fn numbers_that_are_far_apart_are_kept_as_they_are() {
        let numbers = [0, u64::MAX, 1 << 24, (1 << 24) - 1, 5, (1 << 22) - 1, 3 << 22];
        let mut window = Window::default();
        for (at, seq) in (0..).zip(numbers) {
            window.insert(Reading { at, filling: 1.0, seq: Some(seq) }, 100);
        }
        let mut kept = window.after(-1);
        kept.sort_by(Reading::order);
        assert_eq!(kept.iter().filter_map(|it| it.seq).collect::<Vec<_>>(), numbers);
    }
}
