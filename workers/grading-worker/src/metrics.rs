//! What the grading worker counts beside what every worker does.

flotilla_runtime::describe_metrics! {
    /// Submissions graded, by verdict.
    counter VERDICTS = "flotilla_grading_verdicts_total";
    /// Tests run, by verdict.
    counter TESTS = "flotilla_grading_tests_total";
    /// Time from the upload of a submission to its durable result.
    histogram TURNAROUND = "flotilla_grading_turnaround_seconds";
}
