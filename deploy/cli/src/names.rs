//! What may name a stack. Submissions and problems are named in `grading_worker::names`.

use crate::error::Error;

/// The longest stack name whose longest bucket name (`-submissions-` and an account id) still
/// fits into S3's 63 characters.
const STACK_NAME_LIMIT: usize = 38;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_names_must_fit_a_bucket_name() {
        for bad in ["", "Flotilla", "-a", "1a", "a_b", "a.b", &"x".repeat(39)] {
            assert!(stack(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(stack("flotilla-dev").is_ok() && stack(&"x".repeat(38)).is_ok());
    }
}
