//! What a run of one test is worth. Pure, and decided outside the sandbox.

use std::{fmt, time::Duration};

use flotilla_sandbox::{Exit, Reason, Report};
use serde::{Deserialize, Serialize};

use crate::cases::stripped;

/// The judgement of a test, or of a whole submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Verdict {
    /// Accepted: the output is what was expected.
    Ac,
    /// Wrong answer.
    Wa,
    /// CPU time limit exceeded.
    Tle,
    /// Wall-clock time limit exceeded.
    Wtle,
    /// Memory limit exceeded.
    Mle,
    /// Output limit exceeded.
    Ole,
    /// Runtime error: a non-zero exit code or a signal.
    Rte,
    /// It ended well and said nothing where something was expected.
    NoOutput,
    /// Not judged, and not the student's doing; the reason says why.
    Ie,
}

impl Verdict {
    /// The name in results, rows and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ac => "AC",
            Self::Wa => "WA",
            Self::Tle => "TLE",
            Self::Wtle => "WTLE",
            Self::Mle => "MLE",
            Self::Ole => "OLE",
            Self::Rte => "RTE",
            Self::NoOutput => "NO-OUTPUT",
            Self::Ie => "IE",
        }
    }

    /// Judges one run. Want of memory goes before everything (the killed process may have been a
    /// child of one that exits well), limits before exit codes, exit codes before output.
    pub fn of(report: &Report, expected: &str, cpu_limit: Duration) -> Self {
        match report.exit {
            _ if report.oom => Self::Mle,
            Exit::Killed(Reason::Output) => Self::Ole,
            _ if report.stdout_truncated => Self::Ole,
            Exit::Killed(Reason::Cpu) => Self::Tle,
            _ if report.cpu > cpu_limit => Self::Tle,
            Exit::Killed(Reason::Wall | Reason::Host) => Self::Wtle,
            Exit::Exited(0) => Self::of_output(&report.stdout, expected),
            Exit::Exited(_) | Exit::Signaled(_) | Exit::Vanished => Self::Rte,
        }
    }

    fn of_output(stdout: &[u8], expected: &str) -> Self {
        let actual = stripped_output(stdout);
        match (actual == stripped(expected).as_bytes(), actual.is_empty()) {
            (true, _) => Self::Ac,
            (false, true) => Self::NoOutput,
            (false, false) => Self::Wa,
        }
    }

    /// The verdict of a submission: that of its first test that was not accepted, unless one
    /// could not be judged at all.
    pub fn combined(tests: impl IntoIterator<Item = Self> + Clone) -> Self {
        if tests.clone().into_iter().any(|verdict| verdict == Self::Ie) {
            return Self::Ie;
        }
        tests.into_iter().find(|verdict| *verdict != Self::Ac).unwrap_or(Self::Ac)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Output without trailing white space; what is not UTF-8 is left as it is.
pub fn stripped_output(stdout: &[u8]) -> &[u8] {
    std::str::from_utf8(stdout).map_or(stdout, |text| stripped(text).as_bytes())
}

/// How a program ended, in words.
pub fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Exited(code) => format!("exited {code}"),
        Exit::Signaled(number) => format!("signal {}", signal_name(number)),
        Exit::Killed(Reason::Cpu) => "killed: CPU time".to_owned(),
        Exit::Killed(Reason::Wall | Reason::Host) => "killed: time on the clock".to_owned(),
        Exit::Killed(Reason::Output) => "killed: output".to_owned(),
        Exit::Vanished => "ended its own surroundings".to_owned(),
    }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return number.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exit: Exit, stdout: &[u8]) -> Report {
        Report {
            exit,
            stdout: stdout.to_vec(),
            stdout_truncated: false,
            stderr: Vec::new(),
            stderr_truncated: false,
            cpu: Duration::from_millis(10),
            wall: Duration::from_millis(20),
            max_rss_bytes: 0,
            oom: false,
        }
    }

    fn judge(report: &Report, expected: &str) -> Verdict {
        Verdict::of(report, expected, Duration::from_secs(1))
    }

    #[test]
    fn output_is_compared_without_its_trailing_white_space() {
        let good = Exit::Exited(0);
        assert_eq!(judge(&report(good, b"42 \r\n\n"), "42"), Verdict::Ac);
        assert_eq!(judge(&report(good, b" 42"), "42"), Verdict::Wa);
        assert_eq!(judge(&report(good, b"\xff\xfe\x00"), "42"), Verdict::Wa);
        assert_eq!(judge(&report(good, b" \n"), "42"), Verdict::NoOutput);
        assert_eq!(judge(&report(good, b""), ""), Verdict::Ac);
        assert_eq!(judge(&report(good, "a\u{a0}\n".as_bytes()), "a"), Verdict::Ac);
        assert_eq!(judge(&report(good, b"a\x0b"), "a"), Verdict::Ac);
    }

    #[test]
    fn a_child_that_ran_out_of_memory_is_mle_though_its_parent_exits_well() {
        let report = Report { oom: true, ..report(Exit::Exited(0), b"42") };
        assert_eq!(judge(&report, "42"), Verdict::Mle);
    }

    #[test]
    fn every_limit_has_its_verdict() {
        for (exit, verdict) in [
            (Exit::Killed(Reason::Cpu), Verdict::Tle),
            (Exit::Killed(Reason::Wall), Verdict::Wtle),
            (Exit::Killed(Reason::Host), Verdict::Wtle),
            (Exit::Killed(Reason::Output), Verdict::Ole),
            (Exit::Exited(1), Verdict::Rte),
            (Exit::Signaled(11), Verdict::Rte),
            (Exit::Vanished, Verdict::Rte),
        ] {
            assert_eq!(judge(&report(exit, b"42"), "42"), verdict);
        }
        let slow = Report { cpu: Duration::from_secs(2), ..report(Exit::Exited(0), b"42") };
        assert_eq!(judge(&slow, "42"), Verdict::Tle);
    }

    #[test]
    fn a_submission_is_what_its_first_failing_test_is() {
        use Verdict::{Ac, Ie, Tle, Wa};
        assert_eq!(Verdict::combined([Ac, Wa, Tle]), Wa);
        assert_eq!(Verdict::combined([Wa, Ie]), Ie);
        assert_eq!(Verdict::combined([Ac, Ac]), Ac);
    }

    #[test]
    fn names_are_the_same_in_json() {
        for verdict in [Verdict::Ac, Verdict::NoOutput, Verdict::Wtle] {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }
}
