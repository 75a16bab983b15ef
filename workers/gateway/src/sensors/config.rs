//! The settings of sensors.

use std::time::Duration;

use flotilla_runtime::config::Reader;

use super::notify::{Notify, Policy};

/// What the gateway needs to know of sensors.
#[derive(Debug, Clone)]
pub struct SensorsConfig {
    /// `FLOTILLA_ANOMALY_QUEUE_URL`: the queue of the anomaly workers.
    pub queue_url: String,
    /// `FLOTILLA_DEVICES_TABLE`: a row per device.
    pub devices_table: String,
    /// `FLOTILLA_READINGS_TABLE`: a row per reading, with a stream.
    pub readings_table: String,
    /// `FLOTILLA_EDGES_TABLE`: where the topologies are.
    pub edges_table: String,
    /// `FLOTILLA_PROBLEMS_TABLE`: a row per problem, with a stream.
    pub problems_table: String,
    /// Who is notified of problems, where `FLOTILLA_NOTIFY_FILE` is set.
    pub notify: Option<Notify>,
    /// `FLOTILLA_FUTURE_SECONDS`: how far ahead of this clock the time of a posted reading may be
    /// (default 600 s), as for the anomaly worker.
    pub future: Duration,
    /// `FLOTILLA_LATENESS_SECONDS`: for how long a number tells a duplicate, in milliseconds (default
    /// 3600 s), as for the anomaly worker.
    pub lateness: i64,
    /// `FLOTILLA_PING_SECONDS`: how often a listener is asked whether it is there (default 20 s);
    /// after two silences it is let go.
    pub ping: Duration,
    /// `FLOTILLA_WS_CONNECTIONS`: how many may listen (default 1000).
    pub connections: usize,
}

impl SensorsConfig {
    /// Reads the settings; without a queue there are no sensors.
    pub fn read(settings: &mut Reader) -> Option<Self> {
        let queue_url = settings.optional("FLOTILLA_ANOMALY_QUEUE_URL")?;
        Some(Self {
            queue_url,
            devices_table: settings.required("FLOTILLA_DEVICES_TABLE"),
            readings_table: settings.required("FLOTILLA_READINGS_TABLE"),
            edges_table: settings.required("FLOTILLA_EDGES_TABLE"),
            problems_table: settings.required("FLOTILLA_PROBLEMS_TABLE"),
            notify: notify(settings),
            future: settings.seconds("FLOTILLA_FUTURE_SECONDS", 600.0, (0.0, 31_536_000.0)),
            lateness: settings
                .seconds("FLOTILLA_LATENESS_SECONDS", 3600.0, (0.0, 31_536_000.0))
                .as_millis() as i64,
            ping: settings.seconds("FLOTILLA_PING_SECONDS", 20.0, (0.1, 3600.0)),
            connections: settings.ranged("FLOTILLA_WS_CONNECTIONS", 1000, 1..=100_000),
        })
    }
}

fn notify(settings: &mut Reader) -> Option<Notify> {
    let path = settings.optional("FLOTILLA_NOTIFY_FILE")?;
    let table = settings.required("FLOTILLA_NOTIFICATIONS_TABLE");
    let read = std::fs::read_to_string(&path).map_err(|e| e.to_string());
    let policy = read.and_then(|text| Policy::parse(&text, |name| std::env::var(name).ok()));
    match policy {
        Ok(policy) => Some(Notify { table, policy }),
        Err(why) => {
            settings.mistake(format!("FLOTILLA_NOTIFY_FILE: {path}: {why}"));
            None
        }
    }
}
