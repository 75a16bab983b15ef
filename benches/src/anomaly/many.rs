//! Many sewers: other seeds, other sizes, and harder ones.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{available_parallelism, scope},
};

use serde_json::json;

use super::{score::Score, sewer::Sewer, watch::watched};
use crate::{
    Trouble,
    figure::{Better, Figure},
};

/// Seeds of each size, and of each kind.
const SEEDS: [u64; 2] = [10, 4];
/// Sensors.
const SIZES: [&str; 3] = ["sensors=100", "sensors=300", "sensors=1000"];
/// What is harder than the default.
const KINDS: [&str; 18] = [
    "sensors=300,noise=5",
    "sensors=300,lost=0.1",
    "sensors=300,lost=0.2",
    "sensors=300,lost=0.3",
    "sensors=300,lost=0.1,late=0.3,skewed=1,skew_seconds=60",
    "sensors=300,late=0.3,late_minutes=58",
    "sensors=300,skewed=0.5,skew_seconds=60",
    "sensors=300,skewed=0.5,skew_seconds=120",
    "sensors=300,beside=0.5",
    "sensors=300,readings=300",
    "sensors=300,interval_seconds=10",
    "sensors=300,interval_seconds=600",
    "sensors=300,noise=2,lost=0.05,late=0.2,skewed=0.3,skew_seconds=30",
    "sensors=300,tubes=1",
    "sensors=300,tubes=0.3",
    "sensors=300,tubes=0.3,lost=0.1",
    "sensors=300,skewed=1,skew_seconds=60",
    "sensors=50",
];
/// What is scored: the name, and which of precision and recall of all and of causes it is.
pub(super) const NAMES: [&str; 4] = [
    "anomaly.precision_worst",
    "anomaly.recall_worst",
    "anomaly.precision_of_causes_worst",
    "anomaly.recall_of_causes_worst",
];

/// How one sewer was watched.
struct Watched {
    sewer: String,
    values: [f64; 4],
}

/// Prints the worst of many sewers that are as this one, but for what makes each another.
pub(super) fn run(sewer: &Sewer) -> Result<(), Trouble> {
    let mut sewers = Vec::new();
    for (kinds, seeds) in [&SIZES[..], &KINDS[..]].into_iter().zip(SEEDS) {
        for kind in kinds {
            let of = sewer.with(kind).map_err(Trouble::new)?;
            sewers.extend((0..seeds).map(|seed| (*kind, Sewer { seed, ..of })));
        }
    }
    let all = watch_all(&sewers);
    for (place, name) in NAMES.into_iter().enumerate() {
        let value = |it: &Watched| it.values[place];
        let Some(worst) = all.iter().min_by(|a, b| value(a).total_cmp(&value(b))) else { continue };
        let mean = all.iter().map(value).sum::<f64>() / all.len() as f64;
        let below = all.iter().filter(|it| value(it) < 0.98).map(|it| &it.sewer);
        let below: Vec<_> = below.collect();
        let detail =
            json!({ "of": worst.sewer, "mean": mean, "sewers": all.len(), "below": below });
        Figure::new(name, value(worst), "ratio", Better::Higher)
            .target(0.98)
            .detail(detail)
            .print();
    }
    Ok(())
}

/// On all cores: what is found does not depend on them.
fn watch_all(sewers: &[(&str, Sewer)]) -> Vec<Watched> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((kind, sewer)) = sewers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let watched = watch(kind, *sewer);
            all.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        }
    };
    let threads = available_parallelism().map_or(1, NonZero::get);
    scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn watch(kind: &str, sewer: Sewer) -> Watched {
    let (simulated, watch) = watched(&sewer);
    let [all, causes] = watch.scores(&simulated.truth);
    let both = |it: Score| [it.precision, it.recall];
    let ([a, b], [c, d]) = (both(all), both(causes));
    Watched { sewer: format!("seed={},{kind}", sewer.seed), values: [a, b, c, d] }
}
