//! What the compile worker counts beside what every worker does.

flotilla_runtime::describe_metrics! {
    /// Builds that ended, by outcome.
    counter BUILDS = "flotilla_compile_builds_total";
    /// Time from the receipt of an order to its durable end.
    histogram BUILD_SECONDS = "flotilla_compile_build_seconds";
}
