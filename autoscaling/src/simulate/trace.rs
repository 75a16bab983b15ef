//! Jobs and when they come.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::observed::Millis;

/// The longest trace, and the longest job: ten years.
const LONGEST: Millis = 10 * 366 * 86_400_000;

/// A job of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// When it comes, from the start of the trace.
    pub at: Millis,
    /// How long it takes.
    pub service: Millis,
}

/// Jobs in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    jobs: Vec<Job>,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is no CSV of two columns of numbers.
    #[error("trace {}: expected rows `arrival_seconds,service_seconds` below a line that says so", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: csv::Error,
    },
    /// Its first line does not name the columns: the first job would be taken for it, and be missed.
    #[error("trace {}: the first line is `arrival_seconds,service_seconds`, and here {found:?}", path.display())]
    Heading {
        /// The file.
        path: PathBuf,
        /// What its first line says, as far as that is shown.
        found: String,
    },
    /// The file cannot be read.
    #[error("trace {} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// It has no job.
    #[error("trace {}: there is no job in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A number in it is negative, no number, or too large.
    #[error("trace {}: row {row}: times are seconds from 0 on, and a trace is no longer than ten years", path.display())]
    Time {
        /// The file.
        path: PathBuf,
        /// The row, from 1, the heading not counted.
        row: usize,
    },
}

/// The columns of a trace.
const COLUMNS: [&str; 2] = ["arrival_seconds", "service_seconds"];

#[derive(Deserialize)]
struct Row {
    arrival_seconds: f64,
    service_seconds: f64,
}

impl Trace {
    /// A trace of these jobs, in any order.
    pub fn new(mut jobs: Vec<Job>) -> Self {
        jobs.sort_by_key(|job| job.at);
        Self { jobs }
    }

    /// Reads `arrival_seconds,service_seconds` rows and divides the former by `time`, the latter
    /// by `service`. It begins with its first job, whenever that came.
    ///
    /// # Errors
    /// [`TraceError`], with the row that cannot be read.
    pub fn read(path: &Path, time: f64, service: f64) -> Result<Self, TraceError> {
        let rows = |source: csv::Error| match source.is_io_error() {
            true => TraceError::File { path: path.to_owned(), source },
            false => TraceError::Rows { path: path.to_owned(), source },
        };
        let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path);
        let mut reader = reader.map_err(rows)?;
        let heading = reader.headers().map_err(rows)?;
        if !heading.is_empty() && COLUMNS.iter().any(|name| heading.iter().all(|it| it != *name)) {
            let found = heading.iter().collect::<Vec<_>>().join(",").chars().take(60).collect();
            return Err(TraceError::Heading { path: path.to_owned(), found });
        }
        let mut jobs = Vec::new();
        for (row, read) in (1..).zip(reader.deserialize::<Row>()) {
            let Row { arrival_seconds, service_seconds } = read.map_err(rows)?;
            let job = millis(arrival_seconds / time).zip(millis(service_seconds / service));
            let (at, service) = job.ok_or_else(|| bad(path, row))?;
            jobs.push(Job { at, service });
        }
        let Some(start) = jobs.iter().map(|job| job.at).min() else {
            return Err(TraceError::Empty { path: path.to_owned() });
        };
        // By the rows of the file, which may be in any order.
        match jobs.iter().position(|it| it.at - start > LONGEST || it.service > LONGEST) {
            Some(index) => Err(bad(path, index + 1)),
            None => Ok(Self::from_zero(&Self::new(jobs).jobs)),
        }
    }

    /// The first half of the rows and the rest, each beginning at zero.
    pub fn halves(&self) -> (Self, Self) {
        let (first, rest) = self.jobs.split_at(self.jobs.len() / 2);
        (Self::from_zero(first), Self::from_zero(rest))
    }

    fn from_zero(jobs: &[Job]) -> Self {
        let start = jobs.first().map_or(0, |job| job.at);
        Self { jobs: jobs.iter().map(|job| Job { at: job.at - start, ..*job }).collect() }
    }

    /// The jobs, in the order of their arrival.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }
}

fn bad(path: &Path, row: usize) -> TraceError {
    TraceError::Time { path: path.to_owned(), row }
}

fn millis(seconds: f64) -> Option<Millis> {
    // Far more than the longest trace: times since 1970 are below.
    (0.0..1e12).contains(&seconds).then_some((seconds * 1000.0).round() as Millis)
}
