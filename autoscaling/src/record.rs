//! Decisions as they are logged, and made again.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use crate::{
    decide::{Decision, decide},
    memory::Memory,
    observed::{Millis, Observed},
    policy::Policy,
};

/// A decision with all that it was made from: a line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The group that it is about.
    pub group: String,
    /// When it was made.
    pub now: Millis,
    /// What was seen.
    pub observed: Observed,
    /// What was wanted.
    pub policy: Policy,
    /// What was remembered.
    pub memory: Memory,
    /// What was decided.
    pub decision: Decision,
    /// What was done of it, in words, such as `launched 2`.
    pub done: Vec<String>,
}

impl Record {
    /// The decision that is made of the record's inputs now.
    pub fn again(&self) -> Decision {
        decide(&self.observed, &self.policy, &self.memory, self.now)
    }
}

/// A decision that comes out differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The line of the log, from 1.
    pub line: usize,
    /// What was decided.
    pub was: Decision,
    /// What is decided now.
    pub is: Decision,
}

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("reading line {line}")]
    Read {
        /// The line, from 1.
        line: usize,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A line is no decision.
    #[error("line {line} is no decision of the autoscaler (an interrupted write, or another log?)")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What came of making a log's decisions again.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How many were made again.
    pub count: usize,
    /// Those that come out differently.
    pub mismatches: Vec<Mismatch>,
    /// Lines that could not be read; what is behind them is made again all the same.
    pub unread: Vec<ReplayError>,
}

/// Makes every decision of a log again.
pub fn replay(log: impl BufRead) -> Replayed {
    let mut replayed = Replayed::default();
    for read in records(log) {
        let (line, record) = match read {
            Ok(read) => read,
            Err(why) => {
                replayed.unread.push(why);
                continue;
            }
        };
        replayed.count += 1;
        let is = record.again();
        if is != record.decision {
            replayed.mismatches.push(Mismatch { line, was: record.decision, is });
        }
    }
    replayed
}

/// The records of a log, each with its line from 1; empty lines are left out.
pub fn records(log: impl BufRead) -> impl Iterator<Item = Result<(usize, Record), ReplayError>> {
    // Without the rest after a failure to read: it would be the same failure for ever.
    let mut failed = false;
    // By bytes: a write that was cut off may end within a character, and what is behind it is read too.
    let lines = log.split(b'\n');
    let lines = lines.take_while(move |read| !std::mem::replace(&mut failed, read.is_err()));
    (1..).zip(lines).filter_map(|(line, text)| {
        let text = match text {
            Ok(text) if text.trim_ascii().is_empty() => return None,
            Ok(text) => text,
            Err(source) => return Some(Err(ReplayError::Read { line, source })),
        };
        let record = serde_json::from_slice(&text);
        Some(record.map(|it| (line, it)).map_err(|source| ReplayError::Line { line, source }))
    })
}
