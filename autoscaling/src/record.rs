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
    /// Why nothing is done of it, where that is known beforehand; in logs of before there was a line
    /// for it ([`Done`]), what was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
}

/// What was done of the decision before it: a line of the log that follows that of the decision, which
/// is written before anything is done. Where nothing was there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// The group that it is about.
    pub group: String,
    /// When the decision was made.
    pub now: Millis,
    /// What was done of it, in words, such as `desired capacity 2`.
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

/// The records of a log, each with its line from 1; empty lines and those that say what was done are
/// left out.
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
        match serde_json::from_slice(&text) {
            Ok(record) => Some(Ok((line, record))),
            Err(_) if serde_json::from_slice::<Done>(&text).is_ok() => None,
            Err(source) => Some(Err(ReplayError::Line { line, source })),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> Record {
        let (observed, policy) = (Observed::empty_group(), Policy::for_queue("q", 3));
        let (memory, now, group) = (Memory::default(), 5, "g".to_owned());
        let decision = decide(&observed, &policy, &memory, now);
        Record { group, now, observed, policy, memory, decision, done: Vec::new() }
    }

    #[test]
    fn what_was_done_is_read_in_the_line_of_its_decision_and_in_one_after_it() {
        let done = vec!["ended i-1".to_owned()];
        let mut older = serde_json::to_value(record()).unwrap();
        older["done"] = json!(done);
        let newer = serde_json::to_value(record()).unwrap();
        assert_eq!(newer.get("done"), None);
        let after = json!(Done { group: "g".to_owned(), now: 5, done });
        let log = format!("{older}\n{newer}\n{after}\n{newer}\n");
        let replayed = replay(log.as_bytes());
        assert!(replayed.mismatches.is_empty() && replayed.unread.is_empty(), "{replayed:?}");
        assert_eq!(replayed.count, 3);
        let lines = records(log.as_bytes()).map(|read| read.unwrap().0);
        assert_eq!(lines.collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn a_decision_that_was_cut_is_no_line_of_what_was_done() {
        let mut cut = serde_json::to_value(record()).unwrap();
        cut.as_object_mut().unwrap().remove("decision");
        cut["done"] = json!([]);
        assert_eq!(replay(format!("{cut}\n").as_bytes()).unread.len(), 1);
    }
}
