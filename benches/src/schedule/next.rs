//! The next change of a schedule: how long it takes to find, and beside whom.

use std::{process::Stdio, time::Instant};

use jiff::Timestamp;
use schedule_executor::schedule::Schedule;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::trouble;
use crate::{
    Trouble,
    figure::{Better, Figure},
    peers,
    settings::Settings,
};

const P99: &str = "schedule.next_transition_us";
/// The mix: pairs of rules that every peer can read, in a zone. The days of some are far apart,
/// Feb 29 the farthest.
const MIX: [(&str, &str, &str); 12] = [
    ("0 8 * * 1-5", "0 19 * * 1-5", "Europe/Berlin"),
    ("30 7 * * *", "30 20 * * *", "America/New_York"),
    ("*/15 * * * *", "7 * * * *", "UTC"),
    ("0 0 1 * *", "0 0 15 * *", "Asia/Tokyo"),
    ("0 0 29 2 *", "0 12 29 2 *", "UTC"),
    ("0 6 1 1 *", "0 18 31 12 *", "Australia/Lord_Howe"),
    ("15 2 * * 0", "45 3 * * 0", "America/Santiago"),
    ("0 9 * 3-10 1-5", "0 17 * 3-10 1-5", "Europe/London"),
    ("5 4 * * *", "10 4 * * *", "Africa/Casablanca"),
    ("0 22 * * 5", "0 6 * * 1", "America/Los_Angeles"),
    ("0 8,12,16 * * *", "0 10,14,18 * * *", "Asia/Kolkata"),
    ("0 0 31 * *", "0 23 31 * *", "Pacific/Auckland"),
];
/// Instants for each pair.
const INSTANTS: usize = 2_000;
/// 2026 to 2033.
const SPAN: std::ops::Range<i64> = 1_767_225_600..2_019_686_400;

/// What a peer answers.
#[derive(Debug, Deserialize)]
struct Answer {
    nanoseconds: f64,
    count: f64,
    found: Vec<Option<i64>>,
}

pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    let (croniter, cron) = ("schedule.ratio_to_croniter", "schedule.ratio_to_cron_crate");
    if !settings.wants(&[P99, croniter, cron]) {
        return Ok(());
    }
    let jobs = jobs();
    let (times, found) = ours(&jobs)?;
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
    Figure::new(P99, at(0.99), "us", Better::Lower)
        .target(5.0)
        .detail(json!({
            "mix": MIX, "samples": times.len(), "mean": mean, "p50": at(0.5), "max": at(1.0),
        }))
        .print();
    for (figure, name, run) in
        [(croniter, "croniter", "venv/bin/python"), (cron, "cron", "figures/peer-cron")]
    {
        if !settings.wants(&[figure]) {
            continue;
        }
        if name == "cron" && cfg!(not(feature = "peers")) {
            eprintln!("left out: the crate cron (built without the feature `peers`)");
            continue;
        }
        match beside(name, run, &jobs).await {
            Ok(peer) => report(figure, name, mean, &found, &peer),
            Err(why) => eprintln!("left out: {name}: {why}"),
        }
    }
    Ok(())
}

/// The pairs, each with instants that look like none in particular and are the same in every run.
fn jobs() -> Vec<Value> {
    let length = SPAN.end - SPAN.start;
    let mut state = 0x2026_1121_u64;
    let mut instant = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        SPAN.start + (state >> 33).cast_signed() % length
    };
    let job = |(start, stop, zone): &(&str, &str, &str)| {
        let at: Vec<i64> = (0..INSTANTS).map(|_| instant()).collect();
        json!({ "start": start, "stop": stop, "zone": zone, "at": at })
    };
    MIX.iter().map(job).collect()
}

/// Microseconds of each, and what was found.
fn ours(jobs: &[Value]) -> Result<(Vec<f64>, Vec<Option<i64>>), Trouble> {
    let (mut times, mut found) = (Vec::new(), Vec::new());
    for job in jobs {
        let text = |name: &str| job[name].as_str().unwrap_or_default();
        let schedule = Schedule::rules(text("start"), text("stop"), text("zone"));
        let schedule = schedule.map_err(trouble)?;
        for at in job["at"].as_array().into_iter().flatten().filter_map(Value::as_i64) {
            let at = Timestamp::from_second(at).map_err(trouble)?;
            let start = Instant::now();
            let next = schedule.next(at);
            times.push(start.elapsed().as_secs_f64() * 1e6);
            found.push(next.map(|it| it.at.as_second()));
        }
    }
    Ok((times, found))
}

async fn beside(name: &str, program: &str, jobs: &[Value]) -> Result<Answer, Trouble> {
    let place = peers::install(name).await?;
    let mut command = Command::new(place.join(program));
    if name == "croniter" {
        command.arg(place.join("next.py"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(trouble)?;
    let asked = json!({ "jobs": jobs }).to_string();
    let mut stdin = child.stdin.take().ok_or_else(|| Trouble::new("it has no input"))?;
    stdin.write_all(asked.as_bytes()).await.map_err(trouble)?;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(trouble)?;
    serde_json::from_slice(&output.stdout).map_err(trouble)
}

fn report(figure: &str, name: &str, mean: f64, ours: &[Option<i64>], peer: &Answer) {
    let theirs = peer.nanoseconds / peer.count / 1e3;
    // A pair's next firing is its next change but where a start follows a start.
    let same = ours.iter().zip(&peer.found).filter(|(ours, theirs)| ours == theirs).count();
    Figure::new(figure, theirs / mean, "ratio", Better::Higher)
        .target(1.0)
        .detail(json!({
            "peer": name, "ours_mean_us": mean, "theirs_mean_us": theirs,
            "same_instant": same, "of": ours.len(),
            "theirs": "the earlier of the two rules' next firings",
            "ours": "the next change of the state, gaps and folds included",
        }))
        .print();
}
