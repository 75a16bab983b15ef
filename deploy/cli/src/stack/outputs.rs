//! What a stack tells of itself.

use serde::{Deserialize, Serialize};

/// The compile worker's second queue.
const REFRESH: &str = "compile-refresh";

/// What the rest of Flotilla needs to know of a stack, named as the template's outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outputs {
    /// URL of the queue of submissions.
    pub grading_queue_url: String,
    /// URL of its dead-letter queue.
    pub grading_dead_letter_queue_url: String,
    /// Bucket of submissions, problems and outputs.
    pub submissions_bucket_name: String,
    /// Bucket of oversized messages and dead letters' log tails.
    pub payloads_bucket_name: String,
    /// Table of claimed and finished effects.
    pub ledger_table_name: String,
    /// Table of verdicts.
    pub submissions_table_name: String,
    /// URL of the queue of builds.
    pub compile_queue_url: String,
    /// URL of the queue of looks for new versions.
    pub compile_refresh_queue_url: String,
    /// URL of the dead-letter queue of both.
    pub compile_dead_letter_queue_url: String,
    /// Bucket of compiled packages and logs.
    pub artifacts_bucket_name: String,
    /// Table of builds.
    pub builds_table_name: String,
    /// Table of packages.
    pub packages_table_name: String,
    /// Topic that is told of groups of builds.
    pub groups_topic_arn: String,
    /// URL of the scheduler's queue.
    pub schedule_queue_url: String,
    /// URL of its dead-letter queue.
    pub schedule_dead_letter_queue_url: String,
    /// Table of contexts.
    pub contexts_table_name: String,
    /// Table of the contexts' resources.
    pub resources_table_name: String,
    /// Table of tags.
    pub tags_table_name: String,
    /// Table of the scheduler's reasons.
    pub audit_table_name: String,
    /// Table of what the schedules know of each resource.
    pub states_table_name: String,
    /// Table of the instances of groups.
    pub fleet_table_name: String,
    /// URL of the queue of readings.
    pub anomaly_queue_url: String,
    /// URL of its dead-letter queue.
    pub anomaly_dead_letter_queue_url: String,
    /// Table of sensors.
    pub devices_table_name: String,
    /// Table of readings.
    pub readings_table_name: String,
    /// Table of pairs of neighbours.
    pub edges_table_name: String,
    /// Table of problems.
    pub problems_table_name: String,
    /// Table of notifications.
    pub notifications_table_name: String,
}

impl Outputs {
    /// The queues of the compile worker with their weights: builds first, and looks for new versions,
    /// which take no time, ahead of them.
    pub fn compile_queues(&self) -> String {
        format!("{},{}*4", self.compile_queue_url, self.compile_refresh_queue_url)
    }

    /// The queues by their short names, with their URLs and those of their dead-letter queues, of
    /// which two have one in common.
    pub fn queues(&self) -> [(&'static str, &str, &str); 5] {
        [
            ("grading", &self.grading_queue_url, &self.grading_dead_letter_queue_url),
            ("compile", &self.compile_queue_url, &self.compile_dead_letter_queue_url),
            (REFRESH, &self.compile_refresh_queue_url, &self.compile_dead_letter_queue_url),
            ("schedule", &self.schedule_queue_url, &self.schedule_dead_letter_queue_url),
            ("anomaly", &self.anomaly_queue_url, &self.anomaly_dead_letter_queue_url),
        ]
    }
}
