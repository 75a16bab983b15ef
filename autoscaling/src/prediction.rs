//! What demand will be a boot from now, by the time of day and by its trend.

use serde::{Deserialize, Serialize};

use crate::observed::Millis;

/// Parts of a day that are told apart.
const PARTS: usize = 96;
const DAY: Millis = 86_400_000;
const PART: Millis = DAY / PARTS as Millis;
/// A part's demand is averaged over so many days at most, so that old habits are forgotten.
const DAYS: u64 = 7;
/// Looks at the demand and forecasts, for each boot's time.
const STEPS: Millis = 8;
/// An error counts half after about so many more forecasts.
const LATELY: u64 = 32;
/// Fewer judged forecasts say nothing.
const ENOUGH: u64 = 16;
/// Errors and demands are kept in thousandths of a slot.
const MILLI: u64 = 1000;

/// Two forecasters and how right each was lately, beside the forecast that all stays as it is.
///
/// The *time of day* adds what demand changes by at this time on other days; the *trend* adds what
/// it changed by within the last boot's time. Each forecast is judged when its time has come. One
/// whose errors are as large as those of "all stays as it is" is not trusted at all, one without
/// errors in full. How far the better of both is trusted times the rise that it expects is what is
/// kept ready for, if the policy wants it ([`Policy::prediction`](crate::Policy::prediction)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// The mean demand of each part of the day, once one was seen: in thousandths of a slot, and
    /// of how many days.
    pub day: Vec<(u64, u64)>,
    /// The part that is being averaged: its number since 1970, the sum of its demand, and looks.
    pub part: (u64, u64, u64),
    /// Demand within the last two boots' times, oldest first: when, and how many slots.
    pub recent: Vec<(Millis, u64)>,
    /// Forecasts whose time has not come, oldest first.
    pub open: Vec<Forecast>,
    /// Mean errors lately: of no change, of the time of day, of the trend.
    pub errors: [u64; 3],
    /// How many forecasts were judged.
    pub judged: u64,
}

/// A forecast, in thousandths of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The time that it is of.
    pub due: Millis,
    /// No change, by the time of day, by the trend.
    pub demand: [u64; 3],
}

impl Prediction {
    /// Notes the demand, in slots, at this look; judges what was forecast for it.
    pub(crate) fn note(&mut self, demand: u64, boot: Millis, now: Millis) {
        let boot = boot.max(STEPS);
        self.learn(demand, now);
        self.judge(demand, now);
        let last = self.recent.last().map(|(at, _)| *at);
        if last.is_some_and(|at| now.saturating_sub(at) < boot / STEPS) {
            return;
        }
        self.recent.push((now, demand));
        self.recent.retain(|(at, _)| now.saturating_sub(*at) < boot.saturating_mul(2));
        let demand = self.forecasts(demand, boot, now);
        self.open.push(Forecast { due: now.saturating_add(boot), demand });
        // Where boots are learned to be shorter, fewer forecasts are open.
        self.open.drain(..self.open.len().saturating_sub(2 * STEPS as usize));
    }

    /// By how many slots demand is expected to rise within a boot, as far as that is trusted.
    pub(crate) fn rise(&self) -> u64 {
        let Some(Forecast { demand: [now, by_day, by_trend], .. }) = self.open.last() else {
            return 0;
        };
        let trusted = [(1, by_day), (2, by_trend)].map(|(which, forecast)| {
            let rise = forecast.saturating_sub(*now) as f64;
            (self.trust(which), rise)
        });
        let (trust, rise) = if trusted[0].0 >= trusted[1].0 { trusted[0] } else { trusted[1] };
        (trust * rise / MILLI as f64).round() as u64
    }

    /// How far a forecaster is trusted, from 0 to 1.
    pub(crate) fn trust(&self, which: usize) -> f64 {
        let [idle, ..] = self.errors;
        if self.judged < ENOUGH || idle == 0 {
            return 0.0;
        }
        (1.0 - self.errors[which] as f64 / idle as f64).clamp(0.0, 1.0)
    }

    fn learn(&mut self, demand: u64, now: Millis) {
        let (part, sum, looks) = &mut self.part;
        if *part == now / PART {
            (*sum, *looks) = (sum.saturating_add(demand), looks.saturating_add(1));
            return;
        }
        if let Some(mean) = sum.saturating_mul(MILLI).checked_div(*looks) {
            self.day.resize(PARTS, (0, 0));
            let (value, days) = &mut self.day[*part as usize % PARTS];
            *days = days.saturating_add(1).min(DAYS);
            *value = (value.saturating_mul(*days - 1).saturating_add(mean)) / *days;
        }
        self.part = (now / PART, demand, 1);
    }

    fn judge(&mut self, demand: u64, now: Millis) {
        // Wherever they stand: a clock that was ahead leaves some that are due later than the next.
        let (due, open) = std::mem::take(&mut self.open).into_iter().partition(|it| it.due <= now);
        self.open = open;
        for forecast in Vec::into_iter(due) {
            self.judged = self.judged.saturating_add(1);
            let weight = self.judged.min(LATELY);
            for (error, said) in self.errors.iter_mut().zip(forecast.demand) {
                let off = said.abs_diff(demand.saturating_mul(MILLI));
                *error = error.saturating_mul(weight - 1).saturating_add(off) / weight;
            }
        }
    }

    fn forecasts(&self, demand: u64, boot: Millis, now: Millis) -> [u64; 3] {
        let demand = demand.saturating_mul(MILLI);
        let changed = |(from, to): (u64, u64)| demand.saturating_add(to).saturating_sub(from);
        let by_day = self.usual(now).zip(self.usual(now.saturating_add(boot)));
        let (old, new): (Vec<_>, Vec<_>) =
            self.recent.iter().partition(|(at, _)| now.saturating_sub(*at) >= boot);
        let by_trend = mean(&old).zip(mean(&new));
        [demand, by_day.map_or(demand, changed), by_trend.map_or(demand, changed)]
    }

    /// The usual demand at a time, between the middles of the parts around it.
    fn usual(&self, at: Millis) -> Option<u64> {
        let from_middle = (at % DAY + DAY - PART / 2) % DAY;
        let (part, into) = (from_middle / PART, from_middle % PART);
        let of = |part: u64| {
            let (mean, days) = self.day.get(part as usize % PARTS)?;
            (*days > 0).then_some(*mean)
        };
        let (before, after) = (of(part)?, of(part + 1)?);
        let mixed =
            u128::from(before) * u128::from(PART - into) + u128::from(after) * u128::from(into);
        u64::try_from(mixed / u128::from(PART)).ok()
    }
}

/// The mean demand, in thousandths of a slot.
fn mean(looks: &[(Millis, u64)]) -> Option<u64> {
    let sum = looks.iter().fold(0u64, |sum, (_, demand)| sum.saturating_add(*demand));
    sum.saturating_mul(MILLI).checked_div(looks.len() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: Millis = 120_000;
    const LOOK: Millis = 15_000;

    /// The prediction after looks at this demand, by time.
    fn after(until: Millis, demand: impl Fn(Millis) -> u64) -> Prediction {
        let mut it = Prediction::default();
        (0..until / LOOK).for_each(|n| it.note(demand(n * LOOK), BOOT, n * LOOK));
        it
    }

    /// Ten slots, and from nine o'clock on within an hour up to a hundred until noon.
    fn course(at: Millis) -> u64 {
        match (at % DAY) / 60_000 {
            minute @ 540..600 => 10 + (minute - 540) * 90 / 60,
            600..720 => 100,
            _ => 10,
        }
    }

    #[test]
    fn a_rise_that_comes_every_day_is_foreseen() {
        let it = after(3 * DAY + 9 * 3_600_000 + 30 * 60_000, course);
        // It is half past nine: three slots more within two minutes, if it is as ever.
        assert!((1..=5).contains(&it.rise()), "{} by {:?}", it.rise(), it.errors);
        assert!(it.trust(1) > 0.3, "{:?}", it.errors);
    }

    #[test]
    fn what_no_longer_comes_is_no_longer_expected() {
        let it = after(3 * DAY + 11 * 3_600_000, |at| if at < 3 * DAY { course(at) } else { 10 });
        assert_eq!((it.rise(), it.trust(1)), (0, 0.0), "{:?}", it.errors);
    }

    #[test]
    fn a_trend_is_foreseen_after_it_was_right_for_a_while() {
        let climb = |at: Millis| at / 10_000;
        assert_eq!(after(BOOT, climb).rise(), 0, "nothing was judged yet");
        // Twelve slots more within a boot.
        let it = after(3_600_000, climb);
        assert!((8..=13).contains(&it.rise()), "{} by {:?}", it.rise(), it.errors);
    }

    #[test]
    fn after_any_time_no_more_than_a_bounded_memory_is_kept() {
        let it = after(9 * DAY, course);
        assert!(it.day.len() == PARTS && it.open.len() <= 2 * STEPS as usize);
        assert!(it.recent.len() <= 2 * STEPS as usize + 1, "{}", it.recent.len());
    }

    proptest! {
        #[test]
        fn a_constant_demand_is_expected_to_stay(demand in 0u64..10_000, hours in 1u64..60) {
            prop_assert_eq!(after(hours * 3_600_000, |_| demand).rise(), 0);
        }

        #[test]
        fn mere_noise_is_hardly_trusted(seed in any::<u64>()) {
            let noise = |at: Millis| {
                let mixed = (at / LOOK + seed % 1_000_000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40 & 63
            };
            let it = after(2 * DAY, noise);
            prop_assert!(it.trust(1) < 0.5 && it.trust(2) < 0.5, "{:?}", it.errors);
        }

        #[test]
        fn whatever_was_seen_trust_is_a_part_and_nothing_overflows(
            looks in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..200),
            boot in prop_oneof![0u64..10_000_000, any::<u64>()],
        ) {
            let mut it = Prediction::default();
            for (demand, now) in looks {
                it.note(demand, boot, now);
                prop_assert!((1..3).all(|which| (0.0..=1.0).contains(&it.trust(which))));
                it.rise();
            }
        }
    }
}
