//! `flotilla problem`: what submissions are tested with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use grading_worker::{cases, names};

use super::submit::ProblemArgs;
use crate::{
    bucket::put,
    console::out,
    error::{Doing, Error},
    target::{self, Target},
};

/// What every problem has: a case a line.
const TESTS: [&str; 2] = ["test.in", "test.out"];
/// The most bytes that a worker takes of `test.in` and of `test.out`, each.
const TESTS_LIMIT: usize = 16 << 20;
/// The most bytes that a worker takes of `problem.json` and of `event.json`, each.
const PARAMETERS_LIMIT: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Uploads every file of a directory: test.in and test.out (one case a line), and what else
    /// belongs to the problem, such as problem.json with its limits.
    Put {
        /// The directory.
        directory: PathBuf,
        #[command(flatten)]
        target: target::Which,
        #[command(flatten)]
        problem: ProblemArgs,
        /// The parameters of the event, uploaded as the event.json beside its problems.
        #[arg(long, value_name = "FILE")]
        event_file: Option<PathBuf>,
    },
}

/// A file's name and bytes.
type File = (String, Vec<u8>);

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let Action::Put { directory, target, problem, event_file } = args.action;
    let problem = problem.problem()?;
    let files = files(&directory)?;
    check(&directory, &files)?;
    let mut objects: Vec<File> =
        files.into_iter().map(|(name, bytes)| (problem.file(&name), bytes)).collect();
    if let Some(file) = event_file {
        let bytes = read(&file)?;
        check_parameters(&file.display().to_string(), &bytes).map_err(Error::Usage)?;
        objects.push((problem.event_file(), bytes));
    }
    let target = Target::find(&target).await?;
    let bucket = &target.stack.outputs().submissions_bucket_name;
    for (key, bytes) in objects {
        let size = bytes.len();
        put(&target.clients, bucket, &key, bytes).await?;
        out(format!("s3://{bucket}/{key} ({size} bytes)"));
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<File>, Error> {
    let doing = || format!("reading directory {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).doing(doing)? {
        let entry = entry.doing(doing)?;
        if entry.file_type().doing(doing)?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            names::check_part("file", &name).map_err(Error::Usage)?;
            files.push((name, read(&entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).doing(|| format!("reading {}", path.display()))
}

/// What the worker would refuse is refused here, where the teacher sees it.
fn check(directory: &Path, files: &[File]) -> Result<(), Error> {
    let refuse = |why: String| Error::Usage(format!("{}: {why}", directory.display()));
    let [inputs, outputs] = TESTS.map(|name| test_file(files, name));
    let (inputs, outputs) = (inputs.map_err(refuse)?, outputs.map_err(refuse)?);
    cases::parse(inputs, outputs).map_err(refuse)?;
    match files.iter().find(|(name, _)| name == "problem.json") {
        Some((name, bytes)) => check_parameters(name, bytes).map_err(refuse),
        None => Ok(()),
    }
}

fn test_file<'a>(files: &'a [File], wanted: &str) -> Result<&'a str, String> {
    let file = files.iter().find(|(name, _)| name == wanted);
    let (_, bytes) = file.ok_or_else(|| {
        format!("there is no {wanted}: a problem has test.in and test.out, one case a line")
    })?;
    check_size(wanted, bytes, TESTS_LIMIT)?;
    str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} of {wanted} is not UTF-8")
    })
}

fn check_parameters(name: &str, bytes: &[u8]) -> Result<(), String> {
    check_size(name, bytes, PARAMETERS_LIMIT)?;
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
    json.map(drop).map_err(|why| format!("{name} is not JSON: {why}"))
}

fn check_size(name: &str, bytes: &[u8], limit: usize) -> Result<(), String> {
    match bytes.len() {
        size if size > limit => Err(format!("{name} has {size} bytes, over the limit of {limit}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(inputs: &[u8], outputs: &[u8], more: &[File]) -> String {
        let mut files = vec![
            ("test.in".to_owned(), inputs.to_vec()),
            ("test.out".to_owned(), outputs.to_vec()),
        ];
        files.extend_from_slice(more);
        let refused = check(Path::new("dir"), &files).err();
        refused.map(|why| why.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_problem_without_a_test_or_with_uneven_ones_is_refused() {
        assert_eq!(refused(b"1\n2\n", b"1\n4", &[]), "");
        assert!(refused(b"1\n2\n", b"1\n", &[]).contains("2 and 1 lines"));
        assert!(refused(b"", b"", &[]).contains("empty"));
        let one = [("test.in".to_owned(), b"1\n".to_vec())];
        assert!(check(Path::new("dir"), &one).unwrap_err().to_string().contains("no test.out"));
    }

    #[test]
    fn what_editors_add_is_let_through() {
        assert_eq!(refused(b"\xef\xbb\xbf1\r\n2\r\n\r\n", b"1\n2", &[]), "");
    }

    #[test]
    fn what_no_worker_could_run_is_refused_with_its_line() {
        assert!(refused(b"1\n2\0\n", b"1\n2\n", &[]).contains("line 2 of test.in"));
        assert!(refused(b"1\n2\n", b"1\n\xff\n", &[]).contains("line 2 of test.out"));
        assert!(refused(&[b'x'; 128 << 10], b"1", &[]).contains("line 1 of test.in"));
        assert!(refused(&vec![b'\n'; TESTS_LIMIT + 1], b"1", &[]).contains("over the limit"));
    }

    #[test]
    fn parameters_that_are_no_json_are_refused() {
        let parameters = |text: &str| [("problem.json".to_owned(), text.as_bytes().to_vec())];
        assert_eq!(refused(b"1", b"1", &parameters("{}")), "");
        assert!(refused(b"1", b"1", &parameters("{")).contains("problem.json is not JSON"));
    }
}
