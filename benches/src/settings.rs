//! How long things are measured: the environment can shorten them, and every figure says what it
//! was.

use std::{path::PathBuf, time::Duration};

use flotilla_runtime::config::{ConfigError, Reader};

const RECORDED: &str = "../shared/data/traces/lcg.csv";

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `FLOTILLA_BENCH_WINDOW_SECONDS`: one measurement of a rate (default 5 s).
    pub window: Duration,
    /// `FLOTILLA_BENCH_WARM_UP_SECONDS`: from a consumer's first message to the window (default 2 s).
    pub warm_up: Duration,
    /// `FLOTILLA_BENCH_ROUNDS`: measurements of each side of a ratio, in turns (default 5).
    pub rounds: usize,
    /// `FLOTILLA_BENCH_IDLE_SECONDS`: how long an idle worker is watched (default 300 s).
    pub idle: Duration,
    /// `FLOTILLA_BENCH_SOAK_SECONDS`: how long a worker runs at full rate (default 600 s).
    pub soak: Duration,
    /// `FLOTILLA_BENCH_MESSAGES`: messages of a run that counts effects (default 10,000).
    pub messages: u64,
    /// `FLOTILLA_BENCH_SEED`: where what is simulated comes from (default 1).
    pub seed: u64,
    /// `FLOTILLA_BENCH_SEWER`: what of the simulated sewer is otherwise, such as
    /// `sensors=500,noise=2` (default: nothing).
    pub sewer: String,
    /// `FLOTILLA_BENCH_ONLY`: only the figures whose name has one of these parts, split by commas
    /// (default: all of them).
    pub only: Vec<String>,
    /// `FLOTILLA_BENCH_TRACE`: a file of `arrival_seconds,service_seconds` (default:
    /// `../shared/data/traces/lcg.csv` where that is, else a made-up one).
    pub trace: Option<PathBuf>,
    /// `FLOTILLA_BENCH_PICTURES`: the folder that pictures are written to (default `target/pictures`).
    pub pictures: PathBuf,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// All mistakes at once, each with its setting's name.
    pub fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let only = reader.optional("FLOTILLA_BENCH_ONLY").unwrap_or_default();
        let pictures = reader.optional("FLOTILLA_BENCH_PICTURES");
        let settings = Self {
            window: reader.seconds("FLOTILLA_BENCH_WINDOW_SECONDS", 5.0, (0.5, 600.0)),
            warm_up: reader.seconds("FLOTILLA_BENCH_WARM_UP_SECONDS", 2.0, (0.0, 600.0)),
            rounds: reader.ranged("FLOTILLA_BENCH_ROUNDS", 5, 1..=99),
            idle: reader.seconds("FLOTILLA_BENCH_IDLE_SECONDS", 300.0, (1.0, 86_400.0)),
            soak: reader.seconds("FLOTILLA_BENCH_SOAK_SECONDS", 600.0, (5.0, 86_400.0)),
            messages: reader.ranged("FLOTILLA_BENCH_MESSAGES", 10_000, 100..=10_000_000),
            seed: reader.ranged("FLOTILLA_BENCH_SEED", 1, 0..=u64::MAX),
            sewer: reader.optional("FLOTILLA_BENCH_SEWER").unwrap_or_default(),
            only: only.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            trace: reader.optional("FLOTILLA_BENCH_TRACE").map(PathBuf::from).or_else(recorded),
            pictures: pictures.unwrap_or_else(|| "target/pictures".to_owned()).into(),
        };
        reader.finish()?;
        Ok(settings)
    }

    /// Whether any figure of these names is wanted.
    pub fn wants(&self, names: &[&str]) -> bool {
        let wanted = |name: &&str| self.only.iter().any(|part| name.contains(part.as_str()));
        self.only.is_empty() || names.iter().any(wanted)
    }
}

/// The trace that stands beside the project, where it does.
fn recorded() -> Option<PathBuf> {
    Some(PathBuf::from(RECORDED)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_the_windows_are_those_of_the_figures_definitions() {
        let settings = Settings::read(Reader::from_pairs([])).unwrap();
        assert_eq!((settings.idle.as_secs(), settings.soak.as_secs()), (300, 600));
        assert!(settings.wants(&["queue.idle_rss_mib"]));
    }

    #[test]
    fn figures_are_chosen_by_parts_of_their_names() {
        let pairs = [("FLOTILLA_BENCH_ONLY", "idle,stop"), ("FLOTILLA_BENCH_IDLE_SECONDS", "20")];
        let settings = Settings::read(Reader::from_pairs(pairs)).unwrap();
        assert!(settings.wants(&["queue.idle_rss_mib", "queue.soak_rss_growth"]));
        assert!(!settings.wants(&["queue.soak_rss_growth"]));
        assert_eq!(settings.idle.as_secs(), 20);
    }
}
