//! What a worker counts and times. The doc comment of each is its help text.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Declares metrics: a constant of the exported name, described by its doc comment.
#[macro_export]
macro_rules! describe_metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $id:ident = $name:literal;)+) => {
        $($(#[doc = $help])+ pub const $id: &str = $name;)+

        /// Gives the exporter the help text of every metric of this module.
        pub fn describe() {
            $($crate::describe_metrics!(@one $kind $name, concat!($($help),+));)+
        }
    };
    (@one counter $name:literal, $help:expr) => {
        ::metrics::describe_counter!($name, $help.trim());
    };
    (@one gauge $name:literal, $help:expr) => {
        ::metrics::describe_gauge!($name, $help.trim());
    };
    (@one histogram $name:literal, $help:expr) => {
        ::metrics::describe_histogram!($name, ::metrics::Unit::Seconds, $help.trim());
    };
}

describe_metrics! {
    /// Messages received.
    counter CONSUMED = "messaging_client_consumed_messages_total";
    /// Time from the receive of a message to its disposition.
    histogram PROCESS = "messaging_process_duration_seconds";
    /// Time from the send of a message to its receive.
    histogram WAIT = "flotilla_queue_wait_seconds";
    /// Messages by what became of them (done, retry, released, lost, dead) and failure kind.
    counter DISPOSITIONS = "flotilla_dispositions_total";
    /// Messages being worked on.
    gauge IN_FLIGHT = "flotilla_jobs_in_flight";
    /// Messages that can be worked on at a time.
    gauge SLOTS = "flotilla_slots";
    /// Leases that were lost while their job ran, by reason.
    counter LEASES_LOST = "flotilla_leases_lost_total";
    /// Deliveries of an effect that had happened already (deleted, not run again).
    counter DUPLICATES = "flotilla_duplicate_deliveries_total";
    /// Receive calls by result (messages, empty, error).
    counter RECEIVES = "flotilla_receives_total";
    /// SQS calls by operation.
    counter API_CALLS = "flotilla_api_calls_total";
}

/// Installs the process's metrics recorder.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0])?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// Counts one SQS call.
pub(crate) fn api_call(operation: &'static str) {
    ::metrics::counter!(API_CALLS, "operation" => operation).increment(1);
}

/// Records a disposition and how long its message took.
pub(crate) fn disposed(job: &'static str, what: &crate::failure::Disposition, took: Duration) {
    let labels = [("job", job), ("disposition", what.name()), ("kind", what.kind())];
    ::metrics::counter!(DISPOSITIONS, &labels).increment(1);
    let labels = [("job", job), ("disposition", what.name())];
    ::metrics::histogram!(PROCESS, &labels).record(took);
}
