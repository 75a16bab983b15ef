//! What others offer that can be built, over the settings that their users choose from.

use flotilla_autoscaling::simulate::{
    Scaler,
    policies::{Buildkite, Keda, Knative, Static, TargetTracking},
};

/// A policy with its setting: its name, and how to begin it.
pub(super) type Peer = (String, Box<dyn Fn() -> Box<dyn Scaler> + Send + Sync>);

fn peer<S: Scaler + 'static>(name: String, begin: impl Fn() -> S + Send + Sync + 'static) -> Peer {
    (name, Box::new(move || Box::new(begin())))
}

/// All of them; static groups of some parts of `peak`, the most jobs that run at a time.
pub(super) fn all(peak: u32) -> Vec<Peer> {
    let mut all = Vec::new();
    // Without protection a job that takes longer than it is to the next scale-in may never be done.
    for target in [0.1, 0.5, 1.0, 2.0, 5.0] {
        for (protected, word) in [(true, "protected"), (false, "any instance")] {
            let name = format!("target tracking {target}, {word}");
            all.push(peer(name, move || TargetTracking::new(target, protected)));
        }
    }
    for length in [0.5, 0.8, 1.0, 2.0, 5.0] {
        for (protected, word) in [(true, "idle only"), (false, "any pod")] {
            all.push(peer(format!("KEDA {length} {word}"), move || Keda::new(length, protected)));
        }
    }
    for idle in [10, 30, 60, 120, 300, 600] {
        let begin = move || Buildkite::new(idle * 1000, 1);
        all.push(peer(format!("buildkite idle {idle} s"), begin));
    }
    for utilization in [0.5, 0.7, 0.8, 0.9, 1.0] {
        all.push(peer(format!("Knative {utilization}"), move || Knative::new(utilization)));
    }
    for part in [0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0] {
        let size = (f64::from(peak) * part).ceil() as u32;
        all.push(peer(format!("static {size}"), move || Static(size)));
    }
    all
}
