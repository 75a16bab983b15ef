//! What comes out: `results.json`, and the CSV of the original.

use flotilla_runtime::Failure;
use flotilla_sandbox::Report;
use serde::Serialize;

use crate::{
    cases::Case,
    verdict::{Verdict, exit_words, stripped_output},
};

/// How much of a run's output is kept in a result where it was not accepted, in bytes.
const OUTPUT_KEPT: usize = 16 * 1024;
/// How much of a run's standard error is kept in a result, in bytes.
const STDERR_KEPT: usize = 4 * 1024;

/// The result of a submission, as `results.json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graded {
    /// The submission's id.
    pub subid: String,
    /// Who gives the event.
    pub admin: String,
    /// The event.
    pub event: String,
    /// The problem.
    pub problem: String,
    /// The verdict of all tests together.
    pub verdict: Verdict,
    /// Why it could not be graded, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Tests passed.
    pub passed: usize,
    /// Tests in all.
    pub total: usize,
    /// How the submission's names agree with the rules; recorded, never fatal.
    pub identity: Identity,
    /// The version of the submission's json.
    pub json_version: String,
    /// The version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub py_version: Option<String>,
    /// SHA-256 of the tests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests_hash: Option<String>,
    /// The image that the tests ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The tests, in the order of `test.in`.
    pub tests: Vec<TestResult>,
}

/// How a submission's names agree with the rules and with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The id is what the rule makes of tokens, admin, event and problem.
    pub id_matches: bool,
    /// The json names the folder that it lies in.
    pub names_match: bool,
    /// Every token belongs to a student whom the event lists; `null` where it lists none.
    pub tokens_known: Option<bool>,
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Its number, from 1.
    pub number: usize,
    /// The line of `test.in`.
    pub input: String,
    /// The line of `test.out`.
    pub expected: String,
    /// Standard output without trailing white space (bytes that are not UTF-8 are replaced).
    pub actual: String,
    /// There was more output than is kept here.
    pub actual_truncated: bool,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether it was passed.
    pub pass: bool,
    /// How the program ended.
    pub exit: String,
    /// CPU time of all of its processes, in milliseconds.
    pub cpu_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_ms: u64,
    /// The largest resident set of one process, in KiB.
    pub max_rss_kib: u64,
    /// The beginning of standard error.
    pub stderr: String,
}

impl TestResult {
    /// The result of a run of `case`.
    pub fn new(number: usize, case: &Case, verdict: Verdict, report: &Report) -> Self {
        let actual = stripped_output(&report.stdout);
        // What was accepted is the expected text, however long; it need not be cut.
        let kept = if verdict == Verdict::Ac { actual.len() } else { OUTPUT_KEPT };
        Self {
            number,
            input: case.input.clone(),
            expected: case.expected.clone(),
            actual: beginning(actual, kept),
            actual_truncated: report.stdout_truncated || actual.len() > kept,
            verdict,
            pass: verdict == Verdict::Ac,
            exit: exit_words(report.exit),
            cpu_ms: milliseconds(report.cpu),
            wall_ms: milliseconds(report.wall),
            max_rss_kib: report.max_rss_bytes / 1024,
            stderr: beginning(&report.stderr, STDERR_KEPT),
        }
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn beginning(bytes: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]).into_owned()
}

impl Graded {
    /// `results.json`.
    ///
    /// # Errors
    /// Never for what this program makes; permanent if it should.
    pub fn json(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Failure::permanent("results", "results.json").caused_by(e))
    }

    /// The original's `<subid>.out`: `input,expected output,actual output,pass/fail`, quoted by
    /// RFC 4180.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn csv(&self) -> Result<Vec<u8>, Failure> {
        let mut csv =
            csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(vec![]);
        let header = ["input", "expected output", "actual output", "pass/fail"];
        let mut written = csv.write_record(header);
        for test in &self.tests {
            let outcome = if test.pass { "Pass" } else { "Fail" };
            let row = [&test.input, &test.expected, &test.actual, outcome];
            written = written.and_then(|()| csv.write_record(row));
        }
        let failed = |e: String| Failure::permanent("results", format!("the CSV: {e}"));
        written.map_err(|e| failed(e.to_string()))?;
        csv.into_inner().map_err(|e| failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graded(tests: Vec<TestResult>) -> Graded {
        Graded {
            subid: "s".into(),
            admin: "a".into(),
            event: "e".into(),
            problem: "p".into(),
            verdict: Verdict::combined(tests.iter().map(|t| t.verdict).collect::<Vec<_>>()),
            reason: None,
            passed: tests.iter().filter(|t| t.pass).count(),
            total: tests.len(),
            identity: Identity { id_matches: true, names_match: true, tokens_known: None },
            json_version: "v1".into(),
            py_version: Some("v2".into()),
            tests_hash: Some("00".into()),
            image: None,
            tests,
        }
    }

    fn test(input: &str, expected: &str, actual: &str) -> TestResult {
        let pass = expected == actual;
        TestResult {
            number: 1,
            input: input.into(),
            expected: expected.into(),
            actual: actual.into(),
            actual_truncated: false,
            verdict: if pass { Verdict::Ac } else { Verdict::Wa },
            pass,
            exit: "exited 0".into(),
            cpu_ms: 11,
            wall_ms: 12,
            max_rss_kib: 9000,
            stderr: String::new(),
        }
    }

    #[test]
    fn the_shape_of_results_json() {
        let graded = graded(vec![test("1 2", "3", "3"), test("2 2", "4", "5")]);
        insta::assert_json_snapshot!(graded);
    }

    #[test]
    fn the_shape_of_the_csv() {
        let graded = graded(vec![test("1 2", "3", "3"), test("a,\"b\"", "4", "5\r\n6")]);
        let text = String::from_utf8(graded.csv().unwrap()).unwrap();
        assert_eq!(
            text,
            "input,expected output,actual output,pass/fail\r\n1 2,3,3,Pass\r\n\
             \"a,\"\"b\"\"\",4,\"5\r\n6\",Fail\r\n"
        );
    }

    proptest! {
        #[test]
        fn the_csv_reads_back_whatever_was_printed(input in ".*", expected in ".*", actual in ".*") {
            let bytes = graded(vec![test(&input, &expected, &actual)]).csv().unwrap();
            let mut reader = csv::Reader::from_reader(bytes.as_slice());
            let row = reader.records().next().unwrap().unwrap();
            prop_assert_eq!([&row[0], &row[1], &row[2]], [&input, &expected, &actual]);
        }
    }
}
