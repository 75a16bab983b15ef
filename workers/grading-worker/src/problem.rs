//! What a submission is tested with: cases, limits and the event's parameters.

use std::time::Duration;

use flotilla_runtime::{
    Failure,
    payload::hex,
    store::{self, Missing},
};
use flotilla_sandbox::MAX_STDOUT_BYTES;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    cases::{self, Case},
    locate::Shelf,
    names::Problem,
};

/// `test.in` and `test.out` may have this many bytes each.
const TESTS_LIMIT: u64 = 16 * 1024 * 1024;
/// Parameters may have this many bytes.
const PARAMETERS_LIMIT: u64 = 1024 * 1024;

/// A problem's tests, and what a run may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Tests {
    /// The cases, in the order of their lines.
    pub cases: Vec<Case>,
    /// What each run may use.
    pub limits: Limits,
    /// SHA-256 over all that the cases and limits come from.
    pub hash: String,
    /// Who may take part, where the event lists them.
    pub emails: Option<Vec<String>>,
}

/// What one run may use. Memory and processes are limited by the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of all of its processes.
    pub cpu: Duration,
    /// Time on the clock.
    pub wall: Duration,
    /// Bytes of standard output.
    pub output: u64,
}

impl Default for Limits {
    /// Two seconds of CPU, six on the clock, one MiB of output.
    fn default() -> Self {
        Self { cpu: Duration::from_secs(2), wall: Duration::from_secs(6), output: 1 << 20 }
    }
}

/// Limits as an event or a problem gives them.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct GivenLimits {
    cpu_ms: Option<u64>,
    wall_ms: Option<u64>,
    output_bytes: Option<u64>,
}

impl Limits {
    /// These limits, where `given` does not say otherwise; within what a worker can hold.
    fn with(self, given: GivenLimits) -> Self {
        let ms = |given: Option<u64>, default: Duration| {
            given.map_or(default, |ms| Duration::from_millis(ms.clamp(10, 600_000)))
        };
        let cpu = ms(given.cpu_ms, self.cpu);
        // Who raises the CPU limit alone wants it to be reachable; who says nothing changes nothing.
        let reachable = given.cpu_ms.map_or(self.wall, |_| self.wall.max(cpu.saturating_mul(3)));
        let wall = ms(given.wall_ms, reachable);
        let output =
            given.output_bytes.map_or(self.output, |bytes| bytes.clamp(1, MAX_STDOUT_BYTES));
        Self { cpu, wall, output }
    }
}

impl Shelf {
    /// A problem's tests; the inner error says why there are none to run.
    ///
    /// # Errors
    /// Transient, when S3 does not answer.
    pub async fn tests(&self, problem: &Problem) -> Result<Result<Tests, String>, Failure> {
        let (inputs, outputs) = (problem.file("test.in"), problem.file("test.out"));
        let (event, own) = (problem.event_file(), problem.file("problem.json"));
        let (inputs, outputs, event, own) = tokio::try_join!(
            self.text(&inputs, TESTS_LIMIT),
            self.text(&outputs, TESTS_LIMIT),
            self.text(&event, PARAMETERS_LIMIT),
            self.text(&own, PARAMETERS_LIMIT),
        )?;
        Ok(assemble(problem, [inputs, outputs, event, own]))
    }

    async fn text(&self, key: &str, limit: u64) -> Result<File, Failure> {
        let read = store::fetch(&self.s3, &self.bucket, key, None, limit).await;
        Ok(match read {
            Ok(object) => String::from_utf8(object.bytes).map_or_else(
                |_| File::Bad(format!("{key} is not UTF-8")),
                |text| File::Text(key.to_owned(), text),
            ),
            Err(Missing::Absent) => File::Absent(key.to_owned()),
            Err(Missing::TooLarge(size)) => {
                File::Bad(format!("{key} has {size} bytes, over the limit of {limit}"))
            }
            Err(Missing::Unavailable(failure)) => return Err(failure),
        })
    }
}

/// A file of a problem or event.
enum File {
    Text(String, String),
    Absent(String),
    Bad(String),
}

impl File {
    fn required(self) -> Result<String, String> {
        match self {
            Self::Text(_, text) => Ok(text),
            Self::Absent(key) => {
                Err(format!("the problem has no tests: {key} is not in the bucket"))
            }
            Self::Bad(why) => Err(why),
        }
    }

    /// The JSON of an optional file; `null` where there is none.
    fn parameters(self) -> Result<Value, String> {
        match self {
            Self::Text(key, text) => {
                serde_json::from_str(&text).map_err(|e| format!("{key} is not JSON: {e}"))
            }
            Self::Absent(_) => Ok(Value::Null),
            Self::Bad(why) => Err(why),
        }
    }
}

fn assemble(problem: &Problem, [inputs, outputs, event, own]: [File; 4]) -> Result<Tests, String> {
    let (inputs, outputs) = (inputs.required()?, outputs.required()?);
    let (event, own) = (event.parameters()?, own.parameters()?);
    let cases =
        cases::parse(&inputs, &outputs).map_err(|why| format!("problem {problem}: {why}"))?;
    let of_event = given_limits(&problem.event_file(), parameters_of(&event))?;
    let of_problem = given_limits(&problem.file("problem.json"), &own)?;
    Ok(Tests {
        cases,
        limits: Limits::default().with(of_event).with(of_problem),
        hash: hash_of(&[&inputs, &outputs, &event.to_string(), &own.to_string()]),
        emails: emails(&event),
    })
}

/// The parameters of an event, in either of its shapes:
/// `{"event": {…, "Parameters": {…}}}`, or flat.
fn parameters_of(event: &Value) -> &Value {
    let nested = event.pointer("/event/Parameters").or(event.get("Parameters"));
    nested.unwrap_or(event)
}

fn given_limits(file: &str, parameters: &Value) -> Result<GivenLimits, String> {
    match parameters.get("limits") {
        Some(limits) => {
            let given = GivenLimits::deserialize(limits);
            given.map_err(|e| format!("{file}: limits: {e}"))
        }
        None => Ok(GivenLimits::default()),
    }
}

fn emails(event: &Value) -> Option<Vec<String>> {
    let list = event.pointer("/event/emails").or(event.get("emails"))?.as_array()?;
    Some(list.iter().filter_map(|email| email.as_str().map(str::to_owned)).collect())
}

fn hash_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem::new("a", "e", "p").unwrap()
    }

    fn read(files: [Option<&str>; 4]) -> Result<Tests, String> {
        let names = ["test.in", "test.out", "event.json", "problem.json"];
        let file = |(text, name): (Option<&str>, &str)| match text {
            Some(text) => File::Text(name.to_owned(), text.to_owned()),
            None => File::Absent(name.to_owned()),
        };
        let mut files = files.into_iter().zip(names).map(file);
        let mut next = || files.next().expect("four files");
        assemble(&problem(), [next(), next(), next(), next()])
    }

    #[test]
    fn tests_that_do_not_pair_up_are_refused_with_the_reason() {
        assert!(read([Some("1\n2\n"), Some("1\n"), None, None]).unwrap_err().contains("2 and 1"));
        assert!(read([None, Some("1"), None, None]).unwrap_err().contains("test.in"));
        assert!(read([Some(""), Some(""), None, None]).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_problems_limits_override_its_events() {
        let event = r#"{"event":{"Parameters":{"limits":{"cpu_ms":500,"output_bytes":10}}}}"#;
        let own = r#"{"limits":{"cpu_ms":1500}}"#;
        let limits = read([Some("1"), Some("1"), Some(event), Some(own)]).unwrap().limits;
        assert_eq!((limits.cpu.as_millis(), limits.output), (1500, 10));
        let bad = r#"{"limits":{"cpu_ms":"fast"}}"#;
        assert!(read([Some("1"), Some("1"), None, Some(bad)]).unwrap_err().contains("limits"));
    }

    #[test]
    fn a_limit_on_the_clock_holds_as_it_is_given_and_a_longer_one_of_cpu_alone_prolongs_it() {
        let event = r#"{"event":{"Parameters":{"limits":{"cpu_ms":900,"wall_ms":1500}}}}"#;
        let wall = |event, own| {
            let tests = read([Some("1"), Some("1"), Some(event), own]).unwrap();
            tests.limits.wall.as_millis()
        };
        assert_eq!(wall(event, None), 1500);
        assert_eq!(wall(event, Some(r#"{"limits":{"output_bytes":10}}"#)), 1500);
        assert_eq!(wall(event, Some(r#"{"limits":{"cpu_ms":5000}}"#)), 15_000);
        assert_eq!(wall(r#"{"event":{"Parameters":{"limits":{"wall_ms":1000}}}}"#, None), 1000);
    }

    #[test]
    fn the_hash_changes_with_anything_the_tests_come_from() {
        let hash = |files| read(files).unwrap().hash;
        let one = hash([Some("1"), Some("2"), None, None]);
        assert_eq!(one, hash([Some("1"), Some("2"), None, None]));
        assert_ne!(one, hash([Some("1"), Some("3"), None, None]));
        assert_ne!(one, hash([Some("1"), Some("2"), None, Some("{}")]));
    }
}
