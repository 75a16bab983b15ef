//! The anomaly worker's settings.

use std::time::Duration;

use flotilla_runtime::config::{Reader, WorkerConfig};

use crate::engine::{Limits, Rule};

/// Readings wait for tables, not for processors: so many are worked on at a time.
const SLOTS: usize = 32;

/// What the anomaly worker needs to know beside what every worker does.
#[derive(Debug, Clone)]
pub struct AnomalyConfig {
    /// `FLOTILLA_DEVICES_TABLE`: a row per device.
    pub devices_table: String,
    /// `FLOTILLA_READINGS_TABLE`: a row per reading.
    pub readings_table: String,
    /// `FLOTILLA_EDGES_TABLE`: a row per edge that ever had a problem, or a long history.
    pub edges_table: String,
    /// `FLOTILLA_PROBLEMS_TABLE`: a row per problem.
    pub problems_table: String,
    /// `FLOTILLA_LEVEL_TOLERANCE`: how far levels may differ and be equal (default 0).
    pub rule: Rule,
    /// `FLOTILLA_LATENESS_SECONDS`: how late a reading may come behind the newest of its edge
    /// (default 3600 s).
    pub limits: Limits,
    /// `FLOTILLA_FUTURE_SECONDS`: how far ahead of this clock a reading's time may be (default
    /// 600 s); what is ahead makes what is on time late.
    pub future: Duration,
    /// `FLOTILLA_RETENTION_DAYS`: how long readings are kept (default 400 days).
    pub retention: Duration,
}

impl AnomalyConfig {
    /// Reads the settings. Where `FLOTILLA_SLOTS` is not set, the worker gets 32.
    pub fn read(settings: &mut Reader, worker: &mut WorkerConfig) -> Self {
        if settings.optional("FLOTILLA_SLOTS").is_none() {
            worker.slots = SLOTS;
        }
        let lateness = settings.seconds("FLOTILLA_LATENESS_SECONDS", 3600.0, (0.0, 31_536_000.0));
        let days = settings.ranged("FLOTILLA_RETENTION_DAYS", 400, 1..=36_500_u64);
        Self {
            devices_table: settings.required("FLOTILLA_DEVICES_TABLE"),
            readings_table: settings.required("FLOTILLA_READINGS_TABLE"),
            edges_table: settings.required("FLOTILLA_EDGES_TABLE"),
            problems_table: settings.required("FLOTILLA_PROBLEMS_TABLE"),
            rule: Rule {
                tolerance: settings.ranged("FLOTILLA_LEVEL_TOLERANCE", 0.0, 0.0..=1e9),
                ..Rule::default()
            },
            limits: Limits { lateness: lateness.as_millis() as i64, ..Limits::default() },
            future: settings.seconds("FLOTILLA_FUTURE_SECONDS", 600.0, (0.0, 31_536_000.0)),
            retention: Duration::from_secs(days * 86_400),
        }
    }
}
