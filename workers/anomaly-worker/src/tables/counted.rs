//! Which stored readings count: every answer about a device goes by this.
//!
//! A page begins anywhere, and whether its readings are others' duplicates by their numbers follows from
//! what was said up to a lateness before; and whether that counted, from what was said before it, where a
//! number came again and again. So much is read with it.

use std::collections::{HashMap, HashSet};

use flotilla_runtime::Failure;

use super::{Readings, Span, StoredReading};
use crate::reading::{Absorb, Reading};

/// Rows of a page.
const PAGE: i32 = 1000;
/// The most rows that are read of a device to find its newest readings, and to tell duplicates: what is
/// before them is taken not to be there.
const ROWS: usize = 20_000;
/// After all times.
const END: i64 = 999_999_999_999_999;

impl Readings {
    /// The newest readings of a device that [count](Absorb), at most `limit`, the newest last. `lateness`
    /// is in milliseconds.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn newest(
        &self,
        device: &str,
        limit: usize,
        lateness: i64,
    ) -> Result<Vec<Reading>, Failure> {
        let mut span = Span { from: 0, to: END, after: None, newest_first: true };
        let (mut rows, mut size) = (Vec::new(), i32::try_from(limit).unwrap_or(PAGE).min(PAGE));
        loop {
            let (page, more) = self.span(device, &span, size).await?;
            span.after = page.last().map(|it| it.key.clone()).or(span.after);
            rows.extend(page);
            let in_order = rows.iter().rev().cloned().collect();
            let counted = self.counted(device, in_order, lateness).await?;
            if counted.len() >= limit || !more || rows.len() >= ROWS {
                let beyond = counted.len().saturating_sub(limit);
                return Ok(counted[beyond..].iter().map(|it| it.reading).collect());
            }
            size = PAGE;
        }
    }

    /// Those of a device's rows that [count](Absorb). They come in order, without gaps; `lateness` is in
    /// milliseconds.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn counted(
        &self,
        device: &str,
        mut rows: Vec<StoredReading>,
        lateness: i64,
    ) -> Result<Vec<StoredReading>, Failure> {
        let Some(first) = rows.first() else { return Ok(rows) };
        let numbers: HashSet<u64> = rows.iter().filter_map(|it| it.reading.seq).collect();
        // Without numbers what was said at the very time is enough.
        let back = if numbers.is_empty() { 0 } else { lateness };
        let mut absorb = self.before(device, first, back, |seq| numbers.contains(&seq)).await?;
        rows.retain(|it| absorb.is_new(&it.reading));
        Ok(rows)
    }

    /// What tells duplicates from this reading on, among those of these numbers.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn before(
        &self,
        device: &str,
        first: &StoredReading,
        lateness: i64,
        numbers: impl Fn(u64) -> bool,
    ) -> Result<Absorb, Failure> {
        let mut back = Back::new(first.reading.at, lateness);
        let (from, to) = (back.from(), first.reading.at + 1);
        let mut span = Span { from, to, after: Some(first.key.clone()), newest_first: true };
        loop {
            let (page, more) = self.span(device, &span, PAGE).await?;
            span.after = page.last().map(|it| it.key.clone()).or(span.after);
            page.iter().for_each(|it| back.take(&it.reading, &numbers));
            if !more {
                if back.from() >= span.from {
                    break;
                }
                span.from = back.from();
            }
            if back.read >= ROWS {
                tracing::debug!(device, "its numbers come again and again: not all are read");
                break;
            }
        }
        Ok(back.absorb())
    }
}

/// A way back through a device's readings, from a time on.
#[derive(Debug)]
struct Back {
    at: i64,
    lateness: i64,
    /// The times of the earliest of each number, where it came again within a lateness, and again.
    earliest: HashMap<u64, i64>,
    /// Of those times the first.
    oldest: i64,
    /// What tells duplicates, the newest first.
    found: Vec<Reading>,
    read: usize,
}

impl Back {
    fn new(at: i64, lateness: i64) -> Self {
        Self { at, lateness, earliest: HashMap::new(), oldest: at, found: Vec::new(), read: 0 }
    }

    /// From when on (Unix milliseconds) readings may still tell duplicates.
    fn from(&self) -> i64 {
        self.oldest.saturating_sub(self.lateness).max(0)
    }

    fn take(&mut self, it: &Reading, numbers: impl Fn(u64) -> bool) {
        self.read += 1;
        // Of those at the very time, too, it must be known whether they count.
        let mut tells = it.at == self.at;
        if let Some(seq) = it.seq
            && (tells || numbers(seq) || self.earliest.contains_key(&seq))
        {
            let later = self.earliest.entry(seq).or_insert(self.at);
            if later.saturating_sub(it.at) <= self.lateness {
                (*later, tells) = (it.at, true);
                self.oldest = self.oldest.min(it.at);
            }
        }
        self.found.extend(tells.then_some(*it));
    }

    fn absorb(self) -> Absorb {
        let mut absorb = Absorb::new(self.lateness);
        self.found.iter().rev().for_each(|it| _ = absorb.is_new(it));
        absorb
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_page_counts_what_all_pages_together_count(
            readings in prop::collection::vec((0..90_i64, 0..3_u8, prop::option::of(0..5_u64)), 1..80),
            begin in any::<prop::sample::Index>(),
            end in any::<prop::sample::Index>(),
        ) {
            let reading = |&(at, filling, seq)| Reading { at, filling: f64::from(filling), seq };
            let mut all: Vec<_> = readings.iter().map(reading).collect();
            all.sort_by(Reading::order);
            let lateness = 10;
            let (begin, end) = (begin.index(all.len()), end.index(all.len()));
            let (begin, end) = (begin.min(end), begin.max(end));
            let page = &all[begin..=end];
            let numbers: HashSet<u64> = page.iter().filter_map(|it| it.seq).collect();
            let mut back = Back::new(page[0].at, lateness);
            for it in all[..begin].iter().rev() {
                if it.at < back.from() {
                    break;
                }
                back.take(it, |seq| numbers.contains(&seq));
            }
            let (mut from_begin, mut from_page) = (Absorb::new(lateness), back.absorb());
            all[..begin].iter().for_each(|it| _ = from_begin.is_new(it));
            for it in page {
                prop_assert_eq!(from_page.is_new(it), from_begin.is_new(it));
            }
        }
    }
}
