//! What the scheduler counts beside what every worker does.

flotilla_runtime::describe_metrics! {
    /// Actions on resources, by service, action and outcome, and the kind of a refusal.
    counter ACTIONS = "flotilla_schedule_actions_total";
    /// Resources that were left alone, by the kind of reason.
    counter SKIPS = "flotilla_schedule_skips_total";
    /// Calls that were made again, by what was refused.
    counter REPEATED = "flotilla_schedule_repeated_calls_total";
    /// Batches sent to the worker's own queue.
    counter BATCHES = "flotilla_schedule_batches_total";
}
