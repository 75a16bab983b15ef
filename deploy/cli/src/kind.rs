//! The programs of a fleet, and what each is told.

use std::time::Duration;

use schedule_executor::store::TableNames;

use crate::stack::Outputs;

/// The long poll of local workers, in seconds: a stop waits for it, and it costs nothing here.
const LOCAL_WAIT: &str = "1";

/// A program of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Grades submissions.
    Grading,
    /// Compiles packages.
    Compile,
    /// Starts and stops resources by schedule.
    Schedule,
    /// Compares sensors.
    Anomaly,
    /// Serves HTTP.
    Gateway,
}

impl Kind {
    /// The program's name.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Grading => "grading-worker",
            Self::Compile => "compile-worker",
            Self::Schedule => "schedule-executor",
            Self::Anomaly => "anomaly-worker",
            Self::Gateway => "gateway",
        }
    }

    /// Its part of an id.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grading => "grading",
            Self::Compile => "compile",
            Self::Schedule => "schedule",
            Self::Anomaly => "anomaly",
            Self::Gateway => "gateway",
        }
    }

    /// Its settings on a stack.
    pub(crate) fn settings(
        self,
        id: &str,
        address: &str,
        outputs: &Outputs,
        grace: Duration,
    ) -> Vec<(&'static str, String)> {
        let own = match self {
            Self::Gateway => return gateway(address, outputs),
            Self::Grading => vec![
                ("FLOTILLA_QUEUE_URL", outputs.grading_queue_url.clone()),
                ("FLOTILLA_SUBMISSIONS_BUCKET", outputs.submissions_bucket_name.clone()),
                ("FLOTILLA_SUBMISSIONS_TABLE", outputs.submissions_table_name.clone()),
            ],
            Self::Compile => {
                let mut own = vec![("FLOTILLA_QUEUE_URL", outputs.compile_queues())];
                // A fleet on a desk does not follow all of a registry, unless it is told to.
                if std::env::var_os("FLOTILLA_REFRESH").is_none() {
                    own.push(("FLOTILLA_REFRESH", "list".to_owned()));
                }
                [own, packages(outputs)].concat()
            }
            Self::Schedule => {
                let own = vec![
                    ("FLOTILLA_QUEUE_URL", outputs.schedule_queue_url.clone()),
                    ("FLOTILLA_AUDIT_TABLE", outputs.audit_table_name.clone()),
                ];
                [own, schedules(outputs)].concat()
            }
            Self::Anomaly => {
                let queue = ("FLOTILLA_QUEUE_URL", outputs.anomaly_queue_url.clone());
                [vec![queue], sensors(outputs)].concat()
            }
        };
        [own, common(id, address, outputs, grace)].concat()
    }
}

fn common(
    id: &str,
    address: &str,
    outputs: &Outputs,
    grace: Duration,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("FLOTILLA_LEDGER_TABLE", outputs.ledger_table_name.clone()),
        ("FLOTILLA_PAYLOADS_BUCKET", outputs.payloads_bucket_name.clone()),
        ("FLOTILLA_WORKER_ID", id.to_owned()),
        ("FLOTILLA_HTTP_ADDR", address.to_owned()),
        ("FLOTILLA_GRACE_SECONDS", grace.as_secs().to_string()),
    ];
    if std::env::var_os("FLOTILLA_WAIT_SECONDS").is_none() {
        settings.push(("FLOTILLA_WAIT_SECONDS", LOCAL_WAIT.to_owned()));
    }
    settings
}

fn packages(outputs: &Outputs) -> Vec<(&'static str, String)> {
    vec![
        ("FLOTILLA_ARTIFACTS_BUCKET", outputs.artifacts_bucket_name.clone()),
        ("FLOTILLA_BUILDS_TABLE", outputs.builds_table_name.clone()),
        ("FLOTILLA_PACKAGES_TABLE", outputs.packages_table_name.clone()),
        ("FLOTILLA_GROUPS_TOPIC", outputs.groups_topic_arn.clone()),
    ]
}

/// The scheduler's tables.
pub(crate) fn tables(outputs: &Outputs) -> TableNames {
    TableNames {
        contexts: outputs.contexts_table_name.clone(),
        resources: outputs.resources_table_name.clone(),
        tags: outputs.tags_table_name.clone(),
        states: outputs.states_table_name.clone(),
    }
}

fn schedules(outputs: &Outputs) -> Vec<(&'static str, String)> {
    vec![
        ("FLOTILLA_CONTEXTS_TABLE", outputs.contexts_table_name.clone()),
        ("FLOTILLA_RESOURCES_TABLE", outputs.resources_table_name.clone()),
        ("FLOTILLA_TAGS_TABLE", outputs.tags_table_name.clone()),
        ("FLOTILLA_STATES_TABLE", outputs.states_table_name.clone()),
    ]
}

fn sensors(outputs: &Outputs) -> Vec<(&'static str, String)> {
    vec![
        ("FLOTILLA_DEVICES_TABLE", outputs.devices_table_name.clone()),
        ("FLOTILLA_READINGS_TABLE", outputs.readings_table_name.clone()),
        ("FLOTILLA_EDGES_TABLE", outputs.edges_table_name.clone()),
        ("FLOTILLA_PROBLEMS_TABLE", outputs.problems_table_name.clone()),
    ]
}

fn gateway(address: &str, outputs: &Outputs) -> Vec<(&'static str, String)> {
    let own = vec![
        ("FLOTILLA_GATEWAY_ADDR", address.to_owned()),
        ("FLOTILLA_COMPILE_QUEUE_URL", outputs.compile_queue_url.clone()),
        ("FLOTILLA_COMPILE_REFRESH_QUEUE_URL", outputs.compile_refresh_queue_url.clone()),
        ("FLOTILLA_SCHEDULE_QUEUE_URL", outputs.schedule_queue_url.clone()),
        ("FLOTILLA_ANOMALY_QUEUE_URL", outputs.anomaly_queue_url.clone()),
        ("FLOTILLA_AUDIT_TABLE", outputs.audit_table_name.clone()),
        ("FLOTILLA_NOTIFICATIONS_TABLE", outputs.notifications_table_name.clone()),
        ("FLOTILLA_FLEET_TABLE", outputs.fleet_table_name.clone()),
    ];
    [own, packages(outputs), schedules(outputs), sensors(outputs)].concat()
}
