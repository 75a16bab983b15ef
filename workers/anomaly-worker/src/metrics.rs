//! What the anomaly worker counts beside what every worker does.

flotilla_runtime::describe_metrics! {
    /// Readings taken, by what came of them: stored, duplicate, or late.
    counter READINGS = "flotilla_anomaly_readings_total";
    /// Changes of problems, by kind and by what was told: opened, resolved, settled, or retracted.
    counter PROBLEMS = "flotilla_anomaly_problems_total";
    /// Writes of an edge that another worker's came before; each was looked at again.
    counter CONFLICTS = "flotilla_anomaly_conflicts_total";
    /// Time from a reading's event time to the end of its comparison.
    histogram DELAY = "flotilla_anomaly_delay_seconds";
}
