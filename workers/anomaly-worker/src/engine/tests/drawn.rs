//! Rules of all kinds, and readings that come as they do.

use proptest::prelude::*;

use crate::{engine::*, reading::Reading};

/// Sensors of a chain.
pub(super) const SENSORS: usize = 4;

pub(super) fn rules() -> impl Strategy<Value = Rule> {
    let numbers = (0..3_u8, 0..3_u8, prop::sample::select(vec![1.0, 1.0, 0.5, 2.0]), 0..3_u8);
    let own = prop::option::of(prop::sample::select(vec![0.0, 20.0, 60.0]));
    let stale = prop::option::of(0..60_i64);
    let times = (prop::sample::select(vec![0, 0, 7, 40]), 0..40_i64, 1..4_u32, 0..200_i64);
    // What only some networks are told.
    let some = vec![(0, 0.0, 0), (0, 0.0, 0), (0, 60.0, 0), (15, 0.0, 60), (30, 110.0, 0)];
    let some =
        prop::sample::select([some, vec![(0, 0.0, 9), (0, 60.0, 20), (15, 40.0, 30)]].concat());
    (numbers, [own.clone(), own], [stale.clone(), stale], times, some).prop_map(
        |(numbers, own, stale, (delay, debounce, count, flap), (clock, sum, between))| {
            let (tolerance, hysteresis, ratio, relative) = numbers;
            Rule {
                ratio,
                tolerance: f64::from(tolerance) * 20.0,
                relative: f64::from(relative) * 0.3,
                obstruction: own[0],
                problem: own[1],
                hysteresis: f64::from(hysteresis) * 10.0,
                delay,
                clock,
                stale,
                confirm: Confirm {
                    debounce: debounce.max(20) - 20,
                    count,
                    sum,
                    flap: flap.max(100) - 100,
                    between,
                },
            }
        },
    )
}

pub(super) fn devices() -> impl Strategy<Value = DeviceRule> {
    let confirm = (prop::sample::select(vec![0, 0, 15]), 1..3_u32);
    (prop::option::of(5..60_i64), any::<bool>(), confirm).prop_map(
        |(silence, watched, (debounce, count))| DeviceRule {
            silence,
            threshold: Some(Threshold { above: Some(70.0), below: None, hysteresis: 30.0 }),
            range: watched.then_some(Range { min: 0.0, max: 90.0 }),
            rate: watched.then_some(Rate { most: 50.0, per: 10 }),
            stuck: Some(Stuck { lasting: 50, within: 0.0 }),
            drift: watched.then_some(Drift { warm_up: 5, ..Drift::default() }),
            seasonal: watched.then_some(Seasonal {
                period: 100,
                buckets: 4,
                warm_up: 3,
                ..Seasonal::default()
            }),
            outlier: Some(Outlier { warm_up: 4, ..Outlier::default() }),
            confirm: Confirm { debounce, count, flap: 30, ..Confirm::default() },
            ..DeviceRule::default()
        },
    )
}

/// A reading with its sensor and the delay that it comes with.
pub(super) type Sent = (usize, Reading, i64);

/// Numbers rise, or are missing, or come again: at once, or when the sensor counts anew, sooner or later
/// than the lateness, or does not count at all; then with another value.
pub(super) fn stream() -> impl Strategy<Value = Vec<Sent>> {
    let level = prop::sample::select(vec![0.0, 50.0, 100.0]);
    let one = (0..SENSORS, 0..12_i64, level, 0..8_u8, 0..=100_i64, any::<bool>());
    prop::collection::vec(one, 1..120).prop_map(|all| {
        let (mut now, mut stream) = (1, Vec::new());
        for (number, (sensor, gap, filling, counts, delay, twice)) in all.into_iter().enumerate() {
            now += gap;
            let number = number as u64;
            let seq = match counts {
                0..3 => Some(number),
                3 => Some(number % 7),
                4 => Some(u64::from(u32::MAX) * (number % 3) + number % 5),
                5 => Some(1_000_000),
                6 => Some(2_000_000 + number % 40),
                _ => None,
            };
            stream.push((sensor, Reading { at: now, filling, seq }, 0));
            if twice {
                stream.push((sensor, Reading { at: now, filling, seq }, delay));
            }
        }
        stream
    })
}

pub(super) fn arrived(stream: &[Sent], scale: i64) -> Vec<(usize, Reading)> {
    with_clocks(stream, scale).into_iter().map(|it| (it.0, it.1)).collect()
}

/// In the order in which they come, each with when it does. Some are late, by less than is allowed.
pub(super) fn with_clocks(stream: &[Sent], scale: i64) -> Vec<Sent> {
    let late = |number: usize, delay: i64| delay + (number as i64 * 37 % 101) * scale / 8;
    let came = |(number, it): (usize, &Sent)| (it.0, it.1, it.1.at + late(number, it.2).min(100));
    let mut stream: Vec<_> = stream.iter().enumerate().map(came).collect();
    stream.sort_by_key(|it| it.2);
    stream
}
