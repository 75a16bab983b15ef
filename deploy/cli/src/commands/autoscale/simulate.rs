//! `flotilla autoscale simulate`.

use std::path::{Path, PathBuf};

use flotilla_autoscaling::simulate::{
    Format, NAMES, Outcome, Point, Shape, Trace, World,
    clairvoyant::{self, clairvoyant},
    named, run as simulate, table,
};
use serde_json::json;

use crate::{
    console::out,
    error::{Doing, Error},
};

/// Jobs of a synthetic trace, over a day.
const JOBS: usize = 20_000;
/// The policy that knows what comes.
const CLAIRVOYANT: &str = clairvoyant::NAME;
/// Over fewer seeds an interval says little.
const FEW: u64 = 10;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A CSV file of `arrival_seconds,service_seconds`, or a synthetic trace of one day: diurnal,
    /// bursty, heavy-tailed or deadline-rush (also deadline).
    trace: PathBuf,
    /// A policy and its setting, such as `ours=0.8` or `keda=5`, or `clairvoyant`; may be given again.
    /// All but the last by default.
    #[arg(long = "policy", value_name = "NAME[=SETTING]")]
    policies: Vec<String>,
    /// Divides the arrival times of a file.
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// Divides the service times of a file.
    #[arg(long, default_value_t = 1.0)]
    service: f64,
    /// Seconds from a launch to readiness, the median.
    #[arg(long, default_value_t = 120, value_parser = within_a_day())]
    boot: u64,
    /// By how much a boot differs: the standard deviation of its logarithm.
    #[arg(long, default_value_t = 0.1, value_parser = part)]
    boot_spread: f64,
    /// How late the queue's counts are, in seconds.
    #[arg(long, default_value_t = 10, value_parser = within_a_day())]
    lag: u64,
    /// How wrong the queue's counts are: the standard deviation, as a part of the count.
    #[arg(long, default_value_t = 0.05, value_parser = part)]
    noise: f64,
    /// Whether some senders do not count what they send (no FLOTILLA_COUNTED_QUEUES), for ours.
    #[arg(long)]
    uncounted: bool,
    /// Seconds that are paid for at least.
    #[arg(long, default_value_t = 60, value_parser = within_a_day())]
    minimum_billed: u64,
    /// Instances lost, per instance and hour.
    #[arg(long, default_value_t = 0.0, value_parser = losses)]
    losses: f64,
    /// Runs of each policy.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Where to write the picture of the front, as what the name ends in: `.svg` or `.png`.
    #[arg(long, value_name = "FILE", visible_alias = "svg", value_parser = picture)]
    picture: Option<(PathBuf, Format)>,
}

/// Seconds, a day at the most.
fn within_a_day() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=86_400)
}

fn losses(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|it| (0.0..=60.0).contains(it));
    value.ok_or_else(|| format!("{text:?} is no number from 0 to 60"))
}

fn part(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|it| (0.0..=2.0).contains(it));
    value.ok_or_else(|| format!("{text:?} is no number from 0 to 2"))
}

fn picture(text: &str) -> Result<(PathBuf, Format), String> {
    let path = PathBuf::from(text);
    let format = Format::of(&path).ok_or("the name of a picture ends in .svg or .png")?;
    // Before the policies run, which may take a while.
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => Err(format!("there is no folder {}", folder.display())),
        _ => Ok((path, format)),
    }
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    let known = |name: &str| name == CLAIRVOYANT || named(name, &world(args, 1)).is_some();
    let unknown = args.policies.iter().find(|name| !known(name));
    if let Some(name) = unknown {
        return Err(no_policy(name));
    }
    let trace = read(args)?;
    let all: Vec<String> = match args.policies.is_empty() {
        true => NAMES.iter().map(|&name| name.to_owned()).collect(),
        false => args.policies.clone(),
    };
    let points = all.iter().map(|name| point(name, &trace, args)).collect::<Result<Vec<_>, _>>()?;
    out(told(&points, args));
    if let Some((path, format)) = &args.picture {
        let written = format.draw(&points).and_then(|picture| std::fs::write(path, picture));
        written.doing(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn told(points: &[Point], args: &Args) -> String {
    let (seeds, table) = (args.seeds, table(points));
    match (args.json, seeds < FEW) {
        (true, _) => json!({ "seeds": seeds, "policies": points }).to_string(),
        (false, false) => table.trim_end().to_owned(),
        (false, true) => {
            let table = table.trim_end();
            format!("{table}\nover {seeds} seeds, which say little: take {FEW} or more (--seeds)")
        }
    }
}

fn no_policy(name: &str) -> Error {
    let names = NAMES.join(", ");
    Error::Usage(format!(
        "no policy {name}: those there are: {names}, {CLAIRVOYANT}; the setting after the = is a number, \
         from 0 to 1 for ours, from 1 on for static, and above 0 for the others"
    ))
}

fn read(args: &Args) -> Result<Trace, Error> {
    let short = |name: &str| name.split('-').next() == Some("deadline");
    let named = |name: &str| {
        args.trace == Path::new(name) || short(name) && args.trace == Path::new("deadline")
    };
    let shape = Shape::ALL.iter().find(|(name, _)| named(name));
    if let Some((_, shape)) = shape {
        return Ok(shape.trace(JOBS, DAY_MS, 1));
    }
    if !(args.time > 0.0 && args.service > 0.0) {
        return Err(Error::Usage("--time and --service divide, so they are above 0".to_owned()));
    }
    let read = Trace::read(&args.trace, args.time, args.service);
    read.map_err(|e| Error::Usage(crate::chain(&e)))
}

fn point(name: &str, trace: &Trace, args: &Args) -> Result<Point, Error> {
    let cheapest = clairvoyant(trace, &world(args, 1));
    let mut runs: Vec<Outcome> = Vec::new();
    if name == CLAIRVOYANT {
        // It knows what comes, so that nobody waits, in every run.
        let waits = vec![0; trace.jobs().len()];
        runs.push(Outcome { cost: cheapest, waits, ..Outcome::default() });
        return Ok(Point::of(name, &runs, cheapest));
    }
    for seed in 1..=args.seeds {
        let world = world(args, seed);
        let mut scaler = named(name, &world).ok_or_else(|| no_policy(name))?;
        runs.push(simulate(trace, &world, scaler.as_mut()));
    }
    Ok(Point::of(name, &runs, cheapest))
}

fn world(args: &Args, seed: u64) -> World {
    World {
        boot_ms: args.boot * 1000,
        boot_spread: args.boot_spread,
        lag_ms: args.lag * 1000,
        noise: args.noise,
        minimum_billed_ms: args.minimum_billed * 1000,
        losses_per_hour: args.losses,
        books: !args.uncounted,
        seed,
        ..World::default()
    }
}
