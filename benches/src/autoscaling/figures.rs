//! The figures of a front.

use std::{io, path::Path};

use flotilla_autoscaling::simulate::{Format, Interval, Point, Trace, dominated, table};
use serde_json::{Value, json};

use super::front::{Chosen, Front, SEEDS};
use crate::figure::{Better, Figure};

/// What may be spent, relative to the clairvoyant schedule.
const BUDGET: f64 = 1.34;

/// Those of the trace that is given.
pub(super) const NAMES: [&str; 5] = [
    "autoscaling.killed",
    "autoscaling.cost_at_p50_zero",
    "autoscaling.cost_at_p95_60s",
    "autoscaling.dominated_points",
    "autoscaling.share_over_slo_300s",
];

/// The figure of a made-up trace.
pub(super) fn made_up(shape: &str) -> String {
    format!("autoscaling.dominated_points.{shape}")
}

/// Cost against p95 wait, ours and the others.
pub(super) fn picture(front: &Front) -> io::Result<Vec<u8>> {
    Format::Svg.draw(&all(front))
}

fn all(front: &Front) -> Vec<Point> {
    front.ours.iter().map(|it| &it.point).chain(&front.others).cloned().collect()
}

/// Prints the figures of the trace that is given.
pub(super) fn print(trace: &str, rest: &Trace, front: &Front, picture: &Path) {
    eprint!("{trace}\n{}", table(&all(front)));
    let [killed, p50_zero, p95_60s, beaten, slo] = NAMES;
    print_killed(killed, rest, front);
    print_p50_zero(p50_zero, front);
    print_p95_60s(p95_60s, rest, within(front, BUDGET));
    print_dominated(beaten, trace, front, picture);
    let chosen = within(front, BUDGET);
    let affordable = chosen.filter(|it| it.point.cost.median <= BUDGET);
    let value = affordable.map_or(f64::NAN, |it| it.point.late.median);
    let detail = chosen.map_or(Value::Null, shown);
    Figure::new(slo, value, "share", Better::Lower).target(0.0).detail(detail).print();
}

/// Prints how many points of ours others beat on a made-up trace.
pub(super) fn print_made_up(shape: &str, front: &Front, picture: &Path) {
    eprint!("synthetic {shape}\n{}", table(&all(front)));
    print_dominated(&made_up(shape), &format!("synthetic {shape}"), front, picture);
}

/// Where an order takes its time: without that nobody could be killed.
fn print_killed(name: &str, rest: &Trace, front: &Front) {
    let ours: Vec<Point> = front.ours.iter().map(|it| it.setting.ordered(rest)).collect();
    let killed = ours.iter().map(|it| it.killed.high).fold(f64::NAN, f64::max);
    let detail = json!({ "seeds": SEEDS, "ours": ours.iter().map(place).collect::<Vec<_>>(),
        "what": "ours orders idle instances by name to drain, which takes up to 6 s and a look; a job \
                 that meets the order on its way ends, since there is no grace to be over" });
    Figure::new(name, killed, "jobs", Better::Lower).target(0.0).detail(detail).print();
}

fn print_p50_zero(name: &str, front: &Front) {
    let zero = front.ours.iter().filter(|it| it.point.p50.median == 0.0);
    let best = zero.min_by(|a, b| a.point.cost.median.total_cmp(&b.point.cost.median));
    let value = best.map_or(f64::NAN, |it| it.point.cost.median);
    let none = || json!({ "why": "no setting has a median wait of zero" });
    let detail = best.map_or_else(none, shown);
    Figure::new(name, value, "ratio", Better::Lower).target(1.30).detail(detail).print();
}

fn print_p95_60s(name: &str, rest: &Trace, chosen: Option<&Chosen>) {
    let met = chosen.filter(|it| it.point.p95.median < 60.0);
    let value = met.map_or(f64::NAN, |it| it.point.cost.median);
    let mut detail = chosen.map_or_else(|| json!({ "why": "no setting is cheap enough" }), shown);
    if let Some(it) = chosen {
        detail["where_not_all_senders_count"] = place(&it.setting.uncounted(rest));
    }
    if chosen.is_some() && met.is_none() {
        detail["why"] = "the setting's p95 wait is 60 s or more".into();
    }
    Figure::new(name, value, "ratio", Better::Lower).target(BUDGET).detail(detail).print();
}

fn print_dominated(name: &str, trace: &str, front: &Front, picture: &Path) {
    let ours: Vec<Point> = front.ours.iter().map(|it| it.point.clone()).collect();
    let beaten: Vec<&str> =
        dominated(&ours, &front.others).iter().map(|it| it.name.as_str()).collect();
    let detail = json!({ "trace": trace, "beaten": beaten, "picture": picture,
        "ours": front.ours.iter().map(shown).collect::<Vec<_>>(),
        "others": front.others.iter().map(place).collect::<Vec<_>>() });
    // No front is beaten nowhere.
    let value = if ours.is_empty() { f64::NAN } else { beaten.len() as f64 };
    Figure::new(name, value, "points", Better::Lower).target(0.0).detail(detail).print();
}

/// The setting that waits least of all that cost no more on the first half.
fn within(front: &Front, budget: f64) -> Option<&Chosen> {
    let fitting = front.ours.iter().filter(|it| it.tuned.cost.median <= budget);
    fitting.min_by(|a, b| a.tuned.p95.median.total_cmp(&b.tuned.p95.median))
}

fn shown(it: &Chosen) -> Value {
    let mut detail = place(&it.point);
    detail["first_half"] = json!({ "cost": it.tuned.cost.median, "p95_s": it.tuned.p95.median });
    detail
}

fn place(point: &Point) -> Value {
    let of = |it: Interval| json!([it.low, it.median, it.high]);
    json!({ "setting": point.name, "cost": of(point.cost), "p50_s": of(point.p50),
        "p95_s": of(point.p95), "p99_s": of(point.p99), "share_over_300s": of(point.late),
        "killed": of(point.killed), "undone": of(point.undone) })
}
