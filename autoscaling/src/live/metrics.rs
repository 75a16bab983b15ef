//! What the autoscaler counts.

use crate::{
    observed::{Observed, State},
    record::Record,
    shadow::ShadowReport,
};

flotilla_runtime::describe_metrics! {
    /// 1 for the autoscaler that owns the group's size, 0 for one that stands by.
    gauge OWNER = "flotilla_autoscaler_owner";
    /// 1 while an operator has it frozen.
    gauge FROZEN = "flotilla_autoscaler_frozen";
    /// Instances that the group should have.
    gauge DESIRED = "flotilla_autoscaler_desired_instances";
    /// Instances of the group by state (pending, booting, warm, idle, busy, draining).
    gauge INSTANCES = "flotilla_autoscaler_instances";
    /// How long a boot takes, as learned.
    gauge BOOT = "flotilla_autoscaler_boot_seconds";
    /// Hours of one instance while this one only watched: those of the policy in charge (present),
    /// and those that it would have had itself (ours).
    gauge SHADOW_HOURS = "flotilla_autoscaler_shadow_instance_hours";
    /// Dollars, likewise.
    gauge SHADOW_DOLLARS = "flotilla_autoscaler_shadow_dollars";
    /// The mean wait of a message in seconds, likewise.
    gauge SHADOW_WAIT = "flotilla_autoscaler_shadow_wait_seconds";
    /// Decisions by what they say (hold, grow, shrink, keep).
    counter DECISIONS = "flotilla_autoscaler_decisions_total";
    /// Lines of the decision log that could not be written.
    counter UNLOGGED = "flotilla_autoscaler_unlogged_total";
    /// Turns that could not be made, since the fleet table did not answer.
    counter FAILED = "flotilla_autoscaler_failed_turns_total";
}

const WHAT: [&str; 4] = ["hold", "grow", "shrink", "keep"];
const STATES: [(State, &str); 6] = [
    (State::Pending, "pending"),
    (State::Booting, "booting"),
    (State::Warm, "warm"),
    (State::Idle, "idle"),
    (State::Busy, "busy"),
    (State::Draining, "draining"),
];

/// Gives the help texts, and begins every counter at zero.
pub(super) fn begin() {
    describe();
    WHAT.iter().for_each(|what| metrics::counter!(DECISIONS, "what" => *what).increment(0));
    metrics::counter!(FAILED).increment(0);
    metrics::counter!(UNLOGGED).increment(0);
    owner(false);
    metrics::gauge!(FROZEN).set(0.0);
}

pub(super) fn owner(is: bool) {
    metrics::gauge!(OWNER).set(f64::from(u8::from(is)));
}

/// Takes back what one that owned the group told of it: another tells that now.
pub(super) fn stands_by() {
    metrics::gauge!(FROZEN).set(0.0);
    metrics::gauge!(DESIRED).set(f64::NAN);
    for (_, name) in STATES {
        metrics::gauge!(INSTANCES, "state" => name).set(f64::NAN);
    }
}

pub(super) fn failed() {
    metrics::counter!(FAILED).increment(1);
}

pub(super) fn unlogged() {
    metrics::counter!(UNLOGGED).increment(1);
}

pub(super) fn decided(record: &Record, frozen: bool) {
    let Record { observed, decision, policy, .. } = record;
    let what = match (decision.hold, decision.remove.is_empty() && decision.back == 0) {
        (true, _) => "hold",
        (_, false) => "shrink",
        _ if Some(decision.desired) > observed.desired => "grow",
        _ => "keep",
    };
    metrics::counter!(DECISIONS, "what" => what).increment(1);
    metrics::gauge!(DESIRED).set(f64::from(decision.desired));
    metrics::gauge!(FROZEN).set(f64::from(u8::from(frozen)));
    metrics::gauge!(BOOT).set(decision.memory.boot_ms(policy) as f64 / 1000.0);
    STATES.iter().for_each(|(state, name)| instances(observed, *state, name));
}

pub(super) fn shadow(report: &ShadowReport) {
    for (whose, spent) in [("present", report.present), ("ours", report.ours)] {
        metrics::gauge!(SHADOW_HOURS, "whose" => whose).set(spent.instance_hours);
        metrics::gauge!(SHADOW_DOLLARS, "whose" => whose).set(spent.dollars);
        metrics::gauge!(SHADOW_WAIT, "whose" => whose).set(report.mean_wait_s(&spent));
    }
}

fn instances(seen: &Observed, state: State, name: &'static str) {
    if let Some(all) = &seen.instances {
        let count = all.iter().filter(|it| it.state == state).count() as f64;
        // Those of the pool need not be listed.
        let pooled = if state == State::Warm { f64::from(seen.pooled) } else { 0.0 };
        metrics::gauge!(INSTANCES, "state" => name).set(count + pooled);
    }
}
