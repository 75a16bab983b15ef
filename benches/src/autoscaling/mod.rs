//! The autoscaler: what its front costs and how long jobs wait, beside what others publish, and how
//! fast it decides.
//!
//! Settings are chosen on the first half of a trace's rows and reported on the rest, each over ten
//! seeds; costs are relative to the clairvoyant schedule without wait.

mod figures;
mod front;
mod peers;
mod speed;

use std::path::{Path, PathBuf};

use flotilla_autoscaling::simulate::{Shape, Trace};
use futures::FutureExt;

use self::front::Front;
use crate::{Bench, Trouble, settings::Settings};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "autoscaling",
    about: "the autoscaler in simulation, on a recorded trace and on made-up ones",
    run: |settings| async move { run(&settings) }.boxed(),
};

/// A recorded trace is compressed so that its days are minutes: arrivals by this, services by that.
const TIME: f64 = 60.0;
const SERVICE: f64 = 30.0;
/// Jobs of a made-up day.
const JOBS: usize = 20_000;
const DAY_MS: u64 = 86_400_000;

fn run(settings: &Settings) -> Result<(), Trouble> {
    if settings.wants(&figures::NAMES) {
        let (name, trace) = chosen(settings.trace.as_deref())?;
        let (first, rest) = trace.halves();
        let front = Front::of(&first, &rest);
        let picture = picture(settings, "autoscaling-front.svg", &front)?;
        figures::print(&name, &rest, &front, &picture);
    }
    for (name, shape) in Shape::ALL {
        if settings.wants(&[&figures::made_up(name)]) {
            let (first, rest) = shape.trace(JOBS, DAY_MS, 1).halves();
            let front = Front::of(&first, &rest);
            let picture = picture(settings, &format!("autoscaling-front-{name}.svg"), &front)?;
            figures::print_made_up(name, &front, &picture);
        }
    }
    speed::print(settings);
    Ok(())
}

/// The trace of this file, or where none is given a made-up one.
fn chosen(path: Option<&Path>) -> Result<(String, Trace), Trouble> {
    let Some(path) = path else {
        let (name, shape) = Shape::ALL[0];
        return Ok((format!("synthetic {name}"), shape.trace(JOBS, DAY_MS, 1)));
    };
    let trace = Trace::read(path, TIME, SERVICE)
        .map_err(|e| Trouble::new(format!("{e}: {:?}", std::error::Error::source(&e))))?;
    match trace.jobs().len() {
        0 | 1 => Err(Trouble::new(format!("trace {} has no two halves", path.display()))),
        _ => Ok((path.display().to_string(), trace)),
    }
}

fn picture(settings: &Settings, name: &str, front: &Front) -> Result<PathBuf, Trouble> {
    let path = settings.pictures.join(name);
    let written = std::fs::create_dir_all(&settings.pictures)
        .and_then(|()| std::fs::write(&path, figures::picture(front)?));
    written.map_err(|e| {
        Trouble::new(format!("writing {} (FLOTILLA_BENCH_PICTURES): {e}", path.display()))
    })?;
    Ok(path)
}
