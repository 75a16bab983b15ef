//! Names of submissions and problems, the keys made of them, and the rule of submission ids.

use std::fmt;

use md5::{Digest, Md5};

/// The longest part of a key, in bytes; S3 allows 1,024 for all of it.
const PART_LIMIT: usize = 200;
/// The longest submission id, in bytes: it names a file in the sandbox.
const SUBID_LIMIT: usize = 90;

/// Where a problem lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Who gives the event.
    pub admin: String,
    /// The event: an assignment, say.
    pub event: String,
    /// The problem in it.
    pub problem: String,
}

/// A submission's place: `submissions/<admin>/<event>/<problem>/<subid>/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission {
    /// What it answers.
    pub problem: Problem,
    /// Its id; a team that submits again does so under the same.
    pub subid: String,
}

impl Problem {
    /// A problem by its names.
    ///
    /// # Errors
    /// Says which name cannot be part of a key.
    pub fn new(admin: &str, event: &str, problem: &str) -> Result<Self, String> {
        for (what, name) in [("admin", admin), ("event", event), ("problem", problem)] {
            check_part(what, name)?;
        }
        let [admin, event, problem] = [admin, event, problem].map(str::to_owned);
        Ok(Self { admin, event, problem })
    }

    /// The key of one of the problem's files, such as `test.in`.
    pub fn file(&self, name: &str) -> String {
        format!("problems/{self}/{name}")
    }

    /// The key of the event's parameters, beside its problems.
    pub fn event_file(&self) -> String {
        format!("problems/{}/{}/event.json", self.admin, self.event)
    }

    /// The id of a submission by the holders of `tokens`: MD5 in hexadecimal over the sorted
    /// tokens, admin, event and problem, joined with `:`.
    pub fn submission_id(&self, tokens: &[String]) -> String {
        let mut parts: Vec<&str> = tokens.iter().map(String::as_str).collect();
        parts.sort_unstable();
        parts.extend([self.admin.as_str(), &self.event, &self.problem]);
        md5_hex(&parts.join(":"))
    }

    /// The token of a student in this event: MD5 in hexadecimal over `email:admin:event`.
    pub fn student_token(&self, email: &str) -> String {
        md5_hex(&format!("{email}:{}:{}", self.admin, self.event))
    }
}

impl Submission {
    /// A submission by its problem and id.
    ///
    /// # Errors
    /// Says why this cannot be an id.
    pub fn new(problem: Problem, subid: &str) -> Result<Self, String> {
        check_subid(subid)?;
        Ok(Self { problem, subid: subid.to_owned() })
    }

    /// The submission that an object key names:
    /// `submissions/<admin>/<event>/<problem>/<subid>/<subid>.json`, with or without a leading `/`.
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn from_key(key: &str) -> Result<Self, String> {
        let form = "submissions/<admin>/<event>/<problem>/<subid>/<subid>.json";
        let refuse = |why: &str| format!("the key {key:?} {why} (its form is {form})");
        let parts: Vec<_> = key.strip_prefix('/').unwrap_or(key).split('/').collect();
        let ["submissions", admin, event, problem, subid, file] = parts[..] else {
            return Err(refuse("does not have six parts that begin with submissions"));
        };
        if file.strip_suffix(".json") != Some(subid) {
            return Err(refuse("does not end with its folder's name and .json"));
        }
        let problem = Problem::new(admin, event, problem).map_err(|why| refuse(&why))?;
        Self::new(problem, subid).map_err(|why| refuse(&why))
    }

    /// The prefix of all that was submitted.
    pub fn folder(&self) -> String {
        format!("submissions/{}/{}/", self.problem, self.subid)
    }

    /// The key of the submitted file with this extension (`json`, `py`).
    pub fn file(&self, extension: &str) -> String {
        format!("{}{}.{extension}", self.folder(), self.subid)
    }

    /// The prefix of all results.
    pub fn output(&self) -> String {
        format!("output/{}/{}/", self.problem, self.subid)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.admin, self.event, self.problem)
    }
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.problem, self.subid)
    }
}

/// Refuses what cannot be one part of a key: empty, `.`, `..`, over 200 bytes, or with a slash, a
/// backslash or a control character. `what` names it in the error.
///
/// # Errors
/// Says why.
pub fn check_part(what: &str, name: &str) -> Result<(), String> {
    let bad = |c: char| matches!(c, '/' | '\\') || c.is_control();
    let why = match name {
        "" => "is empty",
        "." | ".." => "is a path",
        _ if name.contains(bad) => "has a slash, a backslash or a control character",
        _ if name.len() > PART_LIMIT => "is over 200 bytes",
        _ => return Ok(()),
    };
    Err(format!("the {what} {name:?} {why}"))
}

/// Refuses what cannot be a submission id. It becomes a file's name inside the sandbox.
///
/// # Errors
/// Says why.
pub fn check_subid(subid: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=SUBID_LIMIT).contains(&subid.len())
        && subid.bytes().all(plain)
        && !subid.starts_with(['.', '-'])
        && !subid.contains("..");
    let rule = "1 to 90 letters, digits, '.', '_' and '-', not starting with '.' or '-'";
    if good { Ok(()) } else { Err(format!("the submission id {subid:?} is not {rule}")) }
}

fn md5_hex(text: &str) -> String {
    flotilla_runtime::payload::hex(&Md5::digest(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_students_token_follows_the_rule() {
        let problem = Problem::new("m.soltys", "aws_labs", "any").unwrap();
        assert_eq!(problem.student_token("ada@example.org"), "0dae9df7397750283b1f0cf8fc6f1153");
    }

    #[test]
    fn a_submissions_id_follows_the_rule_whatever_the_order_of_its_tokens() {
        let problem = Problem::new("m.soltys", "aws_labs", "lab5_containers").unwrap();
        let mut tokens = [
            "d823640ab3b0f7a4a2bc9fc89661e940",
            "240669d4326dea48bba75e066b90b76f",
            "4b31d568d86a9350d746c7c2fe9bf5c8",
        ]
        .map(str::to_owned);
        for _ in 0..3 {
            assert_eq!(problem.submission_id(&tokens), "cddf880b3f4f40e39881fb6750c56c7b");
            tokens.rotate_left(1);
        }
    }

    #[test]
    fn a_key_is_read_with_or_without_its_leading_slash() {
        let key = "submissions/m.soltys/aws_labs/lab5/abc/abc.json";
        let submission = Submission::from_key(key).unwrap();
        assert_eq!(submission.file("json"), key);
        assert_eq!(Submission::from_key(&format!("/{key}")), Ok(submission));
    }

    #[test]
    fn keys_that_leave_their_place_are_refused() {
        for bad in [
            "submissions/a/../p/s/s.json",
            "submissions/a/e/p/../...json",
            "submissions/a/e/p/s/t.json",
            "submissions/a/e/p/s/s.py",
            "submissions//e/p/s/s.json",
            "output/a/e/p/s/s.json",
            "submissions/a/e/p/x/s/s.json",
            "//submissions/a/e/p/s/s.json",
            "submissions/a\\b/e/p/s/s.json",
            "",
        ] {
            assert!(Submission::from_key(bad).is_err(), "{bad} was taken");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_from_a_key_makes_that_key_again(key in "(/?[a-z./]{0,12}){0,8}") {
            if let Ok(submission) = Submission::from_key(&key) {
                prop_assert_eq!(submission.file("json"), key.trim_start_matches('/'));
            }
        }
    }
}
