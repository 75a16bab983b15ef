//! What the scheduler counts beside what every worker does.

use crate::handlers::Refusal;

flotilla_runtime::describe_metrics! {
    /// Actions on resources, by service, action and outcome, and the kind of a refusal.
    counter ACTIONS = "flotilla_schedule_actions_total";
    /// Resources whose service refused, by the kind of reason.
    counter REFUSED = "flotilla_schedule_refusals_total";
    /// Resources that were left alone, by the kind of reason.
    counter SKIPS = "flotilla_schedule_skips_total";
    /// Calls that were made again, by what was refused.
    counter REPEATED = "flotilla_schedule_repeated_calls_total";
    /// Batches sent to the worker's own queue.
    counter BATCHES = "flotilla_schedule_batches_total";
}

/// The kinds of skips that tell of trouble; the others are counted from their first on.
const SKIPPED: [&str; 7] =
    ["gone", "transitional", "stuck", "capacity", "waiting", "no_such_name", "under_way"];

/// Gives the help texts, and begins at zero what an alert would wait for.
pub(crate) fn begin() {
    describe();
    for kind in Refusal::KINDS {
        metrics::counter!(REFUSED, "kind" => kind).increment(0);
    }
    for kind in SKIPPED {
        metrics::counter!(SKIPS, "kind" => kind).increment(0);
    }
    for kind in Refusal::KINDS.into_iter().filter(|kind| Refusal::passing(kind)) {
        metrics::counter!(REPEATED, "kind" => kind).increment(0);
    }
    metrics::counter!(BATCHES).increment(0);
}
