//! One tick of a million resources under ten thousand schedules.

use std::{hint::black_box, time::Instant};

use jiff::{SignedDuration, Timestamp};
use schedule_executor::{
    plan::{Action, Asked, Observed, Plan, Step, reconcile},
    rows::{Held, Mode, Scheduling, Service},
    schedule::Power,
};
use serde_json::json;

use super::trouble;
use crate::{
    Trouble,
    figure::{Better, Figure},
    settings::Settings,
};

const FIGURE: &str = "schedule.plan_million_s";
const SCHEDULES: usize = 10_000;
const RESOURCES: usize = 1_000_000;
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "UTC",
    "America/Sao_Paulo",
];

/// A resource as it is held between two ticks.
struct Resource {
    schedule: usize,
    held: Held,
    observed: Observed,
}

pub(super) fn run(settings: &Settings) -> Result<(), Trouble> {
    if !settings.wants(&[FIGURE]) {
        return Ok(());
    }
    let rows = rows()?;
    let start = Instant::now();
    let plans = rows.iter().map(Plan::of).collect::<Result<Vec<_>, _>>().map_err(trouble)?;
    let parsed = start.elapsed().as_secs_f64();
    let resources = resources();
    let first: Timestamp = "2026-06-01T06:00:00Z".parse().map_err(trouble)?;
    let mut seconds = Vec::new();
    let (mut acts, mut skips) = (0, 0);
    for round in 0..settings.rounds.max(1) {
        let turn = i64::try_from(round).unwrap_or(0);
        let at = first.saturating_add(SignedDuration::from_mins(turn)).map_err(trouble)?;
        let start = Instant::now();
        let steps = black_box(tick(&plans, &resources, at));
        seconds.push(start.elapsed().as_secs_f64());
        acts = steps.iter().filter(|step| matches!(step, Some(Step::Act(..)))).count();
        skips = steps.iter().filter(|step| matches!(step, Some(Step::Skip(..)))).count();
    }
    seconds.sort_by(f64::total_cmp);
    Figure::new(FIGURE, seconds[seconds.len() / 2], "s", Better::Lower)
        .target(1.0)
        .detail(json!({
            "resources": RESOURCES, "schedules": SCHEDULES, "acts": acts, "skips": skips,
            "without": "reading and writing tables, tag look-ups, grouping into batches and sending them",
            "rounds": seconds, "threads": 1, "reasons": true, "parse_schedules_s": parsed,
        }))
        .print();
    Ok(())
}

/// What a tick decides, with a reason for each resource.
fn tick(plans: &[Plan<'_>], resources: &[Resource], at: Timestamp) -> Vec<Option<Step>> {
    let wanted: Vec<_> = plans.iter().map(|plan| plan.wanted(at).ok()).collect();
    let decide = |resource: &Resource| {
        let wanted = wanted[resource.schedule].as_ref()?;
        let asked = Asked {
            action: Action::towards(wanted.power),
            service: Service::Ec2,
            mode: if resource.schedule.is_multiple_of(7) {
                Mode::KeepStarted
            } else {
                Mode::Enforce
            },
            hand: false,
            chosen: None,
            reason: &wanted.reason,
            tick: at,
        };
        Some(reconcile(asked, Some(&resource.held), &resource.observed, at))
    };
    resources.iter().map(decide).collect()
}

fn rows() -> Result<Vec<Scheduling>, Trouble> {
    let row = |n: usize| {
        let zone = ZONES[n % ZONES.len()];
        let (from, to) = (6 + n % 5, 16 + n % 6);
        let fields = match n % 3 {
            0 => json!({
                "schedulingRuleStart": format!("{} {from} * * 1-5", n % 60),
                "schedulingRuleStop": format!("{} {to} ? * MON-FRI *", n % 60), "timeZone": zone,
            }),
            1 => json!({
                "schedulingPeriod": format!("mon-fri {from:02}:{:02}-{to:02}:00", n % 60),
                "timeZone": zone,
            }),
            _ => json!({
                "schedulingPeriod": format!("mon-fri 22:{:02}-06:00; sat,sun 10:00-12:00", n % 60),
                "timeZone": zone,
            }),
        };
        serde_json::from_value(fields).map_err(trouble)
    };
    (0..SCHEDULES).map(row).collect()
}

fn resources() -> Vec<Resource> {
    let observed = |n: usize| match n % 50 {
        0 => Observed::Towards(Power::On, "pending".to_owned()),
        1 => Observed::Gone,
        n if n % 2 == 0 => Observed::On,
        _ => Observed::Off,
    };
    let resource = |n: usize| Resource {
        schedule: n % SCHEDULES,
        held: Held { acted: Some(Action::Stop), acted_at: 1_780_000_000, ..Held::default() },
        observed: observed(n),
    };
    (0..RESOURCES).map(resource).collect()
}
