//! The names of things: what is refused, the keys made of them, and a submission's id.

use md5::{Digest, Md5};

use crate::error::Error;

/// The longest stack name whose longest bucket name (`-submissions-` and an account id) still
/// fits into S3's 63 characters.
const STACK_NAME_LIMIT: usize = 38;
/// The longest part of a key; S3 allows 1,024 bytes for the whole of it.
const PART_LIMIT: usize = 200;
/// The longest submission id, in bytes.
const SUBID_LIMIT: usize = 90;

/// Refuses a stack name that cannot begin a bucket's name.
pub fn stack(name: &str) -> Result<(), Error> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.len() <= STACK_NAME_LIMIT;
    if good {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{name:?} cannot name a stack: at most {STACK_NAME_LIMIT} lower-case letters, digits and \
         hyphens, a letter first (bucket names begin with it)"
    )))
}

/// Refuses what cannot be one part of an S3 key: empty, `.`, `..`, with a slash, a backslash or a
/// control character, or over 200 bytes. `what` names it in the error.
pub fn part(what: &str, value: &str) -> Result<(), Error> {
    let bad = |c: char| matches!(c, '/' | '\\') || c.is_control();
    let reason = match value {
        "" => "is empty",
        "." | ".." => "is a path",
        _ if value.contains(bad) => "has a slash, a backslash or a control character",
        _ if value.len() > PART_LIMIT => "is over 200 bytes",
        _ => return Ok(()),
    };
    Err(Error::Usage(format!(
        "the {what} {value:?} {reason}: it becomes a part of an object's key"
    )))
}

/// Refuses a submission id that cannot be a part of a key, or is over 90 bytes: it names a file in
/// the sandbox too.
pub fn subid(value: &str) -> Result<(), Error> {
    part("submission id", value)?;
    if value.len() > SUBID_LIMIT {
        return Err(Error::Usage(format!(
            "the submission id {value:?} is over {SUBID_LIMIT} bytes"
        )));
    }
    Ok(())
}

/// One problem of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Who gives the event.
    pub admin: String,
    /// The event, an assignment for example.
    pub event: String,
    /// The problem in it.
    pub problem: String,
}

impl Problem {
    /// A problem, its names checked.
    pub fn new(admin: &str, event: &str, problem: &str) -> Result<Self, Error> {
        part("admin", admin)?;
        part("event", event)?;
        part("problem", problem)?;
        let [admin, event, problem] = [admin, event, problem].map(str::to_owned);
        Ok(Problem { admin, event, problem })
    }

    /// `problems/A/E/P/FILE`.
    pub fn test_key(&self, file: &str) -> String {
        format!("problems/{self}/{file}")
    }

    /// `submissions/A/E/P/SUBID/SUBID.EXTENSION`.
    pub fn submission_key(&self, subid: &str, extension: &str) -> String {
        format!("submissions/{self}/{subid}/{subid}.{extension}")
    }

    /// `problems/A/E/event.json`, the event's parameters.
    pub fn event_key(&self) -> String {
        format!("problems/{}/{}/event.json", self.admin, self.event)
    }

    /// The token of a student in this event: MD5, in hexadecimal, over `email:admin:event`.
    pub fn student_token(&self, email: &str) -> String {
        md5_hex(&format!("{email}:{}:{}", self.admin, self.event))
    }

    /// The id of a submission by the holders of these tokens: MD5, in hexadecimal, over the
    /// sorted tokens, admin, event and problem, joined with `:`. The same team submits again
    /// under the same id.
    pub fn submission_id(&self, tokens: &[String]) -> String {
        let mut parts: Vec<&str> = tokens.iter().map(String::as_str).collect();
        parts.sort_unstable();
        parts.extend([self.admin.as_str(), &self.event, &self.problem]);
        md5_hex(&parts.join(":"))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.admin, self.event, self.problem)
    }
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_students_token_follows_the_rule() {
        let problem = Problem::new("m.soltys", "aws_labs", "any").expect("good names");
        let token = problem.student_token("ada@example.org");
        assert_eq!(token, "0dae9df7397750283b1f0cf8fc6f1153");
    }

    #[test]
    fn a_submissions_id_follows_the_rule_whatever_the_order_of_its_tokens() {
        let problem = Problem::new("m.soltys", "aws_labs", "lab5_containers").expect("good names");
        let mut tokens = [
            "d823640ab3b0f7a4a2bc9fc89661e940",
            "240669d4326dea48bba75e066b90b76f",
            "4b31d568d86a9350d746c7c2fe9bf5c8",
        ]
        .map(str::to_owned);
        assert_eq!(problem.submission_id(&tokens), "cddf880b3f4f40e39881fb6750c56c7b");
        tokens.reverse();
        assert_eq!(problem.submission_id(&tokens), "cddf880b3f4f40e39881fb6750c56c7b");
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "a/b", "/", "a\\b", "a\nb", "\u{7f}", &"x".repeat(201)] {
            assert!(part("problem", bad).is_err(), "{bad:?} was accepted");
            assert!(Problem::new("a", bad, "c").is_err());
        }
        for good in ["lab5_containers", "m.soltys", "Übung 1", "...", "a:b"] {
            assert!(part("problem", good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn stack_names_must_fit_a_bucket_name() {
        for bad in ["", "Flotilla", "-a", "1a", "a_b", "a.b", &"x".repeat(39)] {
            assert!(stack(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(stack("flotilla-dev").is_ok() && stack(&"x".repeat(38)).is_ok());
    }

    #[test]
    fn keys_are_where_the_worker_looks() {
        let problem = Problem::new("a", "e", "p").expect("good names");
        assert_eq!(problem.submission_key("id", "json"), "submissions/a/e/p/id/id.json");
        assert_eq!(problem.test_key("test.in"), "problems/a/e/p/test.in");
    }
}
