//! `flotilla problem`: what submissions are tested with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use grading_worker::names;

use super::submit::ProblemArgs;
use crate::{
    console::out,
    error::{Doing, Error},
    submission::put,
    target::{self, Target},
};

/// What every problem has: a case a line.
const TESTS: [&str; 2] = ["test.in", "test.out"];

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
        objects.push((problem.event_file(), read(&file)?));
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
    let mut cases = Vec::new();
    for wanted in TESTS {
        let Some((_, bytes)) = files.iter().find(|(name, _)| name == wanted) else {
            return Err(Error::Usage(format!(
                "{} has no {wanted}: a problem has test.in and test.out, one case a line",
                directory.display()
            )));
        };
        cases.push(String::from_utf8_lossy(bytes).lines().count());
    }
    match cases.as_slice() {
        [0, 0] => Err(Error::Usage(format!("{} has no case", directory.display()))),
        [inputs, outputs] if inputs != outputs => Err(Error::Usage(format!(
            "{}: test.in has {inputs} cases (one a line), test.out {outputs}",
            directory.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(files: &[(&str, &str)]) -> Result<(), Error> {
        let files: Vec<File> = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
            .collect();
        check(Path::new("dir"), &files)
    }

    #[test]
    fn a_problem_without_a_test_or_with_uneven_ones_is_refused() {
        assert!(problem(&[("test.in", "1\n2\n"), ("test.out", "1\n4")]).is_ok());
        assert!(problem(&[("test.in", "1\n2\n"), ("test.out", "1\n")]).is_err());
        assert!(problem(&[("test.in", "1\n")]).is_err());
        assert!(problem(&[("test.in", ""), ("test.out", "")]).is_err());
    }
}
