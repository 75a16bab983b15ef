//! The anomaly worker's settings.

use std::time::Duration;

use flotilla_runtime::config::{Reader, WorkerConfig};

use crate::{
    engine::{Confirm, Limits, Rule},
    tables::now_ms,
};

/// Readings wait for tables, not for processors: so many are worked on at a time.
const SLOTS: usize = 200;

/// What the anomaly worker needs to know beside what every worker does.
#[derive(Debug, Clone)]
pub struct AnomalyConfig {
    /// What this process is called among all that work on the same tables.
    pub worker: String,
    /// The URLs of the queues that readings come from.
    pub queues: Vec<String>,
    /// `FLOTILLA_DEVICES_TABLE`: a row per device.
    pub devices_table: String,
    /// `FLOTILLA_READINGS_TABLE`: a row per reading.
    pub readings_table: String,
    /// `FLOTILLA_EDGES_TABLE`: a row per edge that ever had a problem, or a long history.
    pub edges_table: String,
    /// `FLOTILLA_PROBLEMS_TABLE`: a row per problem.
    pub problems_table: String,
    /// How edges are compared that no topology names. `FLOTILLA_LEVEL_TOLERANCE`: how far levels
    /// may differ and be equal (default 0). `FLOTILLA_FLAP_SECONDS`: a problem that comes back so
    /// soon is the same one, flapping (default 0 s: always another).
    pub rule: Rule,
    /// `FLOTILLA_LATENESS_SECONDS`: how late a reading may come behind the newest of its edge
    /// (default 3600 s). `FLOTILLA_OPEN_READINGS`: of more readings of an edge within that time
    /// (default 32,768, 15 bytes each) the older half is settled early.
    pub limits: Limits,
    /// `FLOTILLA_FUTURE_SECONDS`: how far ahead of this clock a reading's time may be (default
    /// 600 s); what is ahead makes what is on time late.
    pub future: Duration,
    /// `FLOTILLA_SWEEP_SECONDS`: how often silent devices are looked for (default 5 s).
    pub sweep: Duration,
    /// How long a message may be held by a worker that is gone.
    pub held: Duration,
    /// `FLOTILLA_RETENTION_DAYS`: how long readings are kept (default 400 days).
    pub retention: Duration,
}

impl AnomalyConfig {
    /// Reads the settings. Where `FLOTILLA_SLOTS` is not set, the worker gets 200, as far as they fit.
    pub fn read(settings: &mut Reader, worker: &mut WorkerConfig) -> Self {
        worker.slots_by_default(settings, SLOTS);
        let lateness = settings.seconds("FLOTILLA_LATENESS_SECONDS", 3600.0, (0.0, 31_536_000.0));
        let flap = settings.seconds("FLOTILLA_FLAP_SECONDS", 0.0, (0.0, 31_536_000.0));
        let most =
            settings.ranged("FLOTILLA_OPEN_READINGS", Limits::default().most, 1000..=10_000_000);
        let days = settings.ranged("FLOTILLA_RETENTION_DAYS", 400, 1..=36_500_u64);
        Self {
            // Two processes may have been given one name.
            worker: format!("{}.{}.{}", worker.worker_id, std::process::id(), now_ms()),
            queues: worker.queues.iter().map(|it| it.url.clone()).collect(),
            devices_table: settings.required("FLOTILLA_DEVICES_TABLE"),
            readings_table: settings.required("FLOTILLA_READINGS_TABLE"),
            edges_table: settings.required("FLOTILLA_EDGES_TABLE"),
            problems_table: settings.required("FLOTILLA_PROBLEMS_TABLE"),
            rule: Rule {
                tolerance: settings.ranged("FLOTILLA_LEVEL_TOLERANCE", 0.0, 0.0..=1e9),
                confirm: Confirm { flap: flap.as_millis() as i64, ..Confirm::default() },
                ..Rule::default()
            },
            limits: Limits { lateness: lateness.as_millis() as i64, most, ..Limits::default() },
            future: settings.seconds("FLOTILLA_FUTURE_SECONDS", 600.0, (0.0, 31_536_000.0)),
            sweep: settings.seconds("FLOTILLA_SWEEP_SECONDS", 5.0, (0.1, 86_400.0)),
            held: worker.visibility,
            retention: Duration::from_secs(days * 86_400),
        }
    }
}
