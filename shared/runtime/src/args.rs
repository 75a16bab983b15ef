//! The arguments of a process that is told everything by settings: all it answers are questions
//! about itself. What it does not know it refuses, so that nobody takes it for understood.

use std::{
    io::{Write, stderr, stdout},
    process::ExitCode,
};

/// What a process says of itself.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name, as it is called.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it is, in a sentence.
    pub what: &'static str,
    /// The guide that has its settings.
    pub guide: &'static str,
}

/// What arguments come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// There are none: to do what the process is for.
    Nothing,
    /// A question, with its answer.
    Question(String),
    /// Something unknown, with a line that says so.
    Unknown(String),
}

/// Reads the arguments that follow the program's name.
pub fn read(arguments: impl IntoIterator<Item = String>, about: &About) -> Asked {
    let About { name, version, what, guide } = about;
    let mut arguments = arguments.into_iter();
    let Some(first) = arguments.next() else { return Asked::Nothing };
    match (first.as_str(), arguments.next()) {
        ("--help" | "-h", _) => Asked::Question(format!(
            "{what}\n\nUsage: {name} [--help | --version]\n\nIts settings are environment variables, \
             or keys of the TOML file that FLOTILLA_CONFIG names; {guide} has them all."
        )),
        ("--version" | "-V", None) => Asked::Question(format!("{name} {version}")),
        ("--version" | "-V", Some(other)) => unknown(name, &other),
        (other, _) => unknown(name, other),
    }
}

fn unknown(name: &str, argument: &str) -> Asked {
    Asked::Unknown(format!(
        "{name}: {argument:?} is not known: settings are environment variables, see {name} --help"
    ))
}

/// Answers this process's own arguments. Where it returns a code, the process is to end with it.
pub fn answered(about: &About) -> Option<ExitCode> {
    let arguments = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
    // A reader who has gone is no reason to fail.
    match read(arguments, about) {
        Asked::Nothing => None,
        Asked::Question(answer) => {
            let _ = writeln!(stdout(), "{answer}");
            Some(ExitCode::SUCCESS)
        }
        Asked::Unknown(why) => {
            let _ = writeln!(stderr(), "{why}");
            Some(ExitCode::from(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About =
        About { name: "w", version: "1.2.3", what: "Works.", guide: "workers/w/README.md" };

    fn asked(arguments: &[&str]) -> Asked {
        read(arguments.iter().map(ToString::to_string), &ABOUT)
    }

    #[test]
    fn a_process_says_what_it_is_and_refuses_arguments_that_it_does_not_know() {
        assert_eq!(asked(&[]), Asked::Nothing);
        for help in ["--help", "-h"] {
            let Asked::Question(text) = asked(&[help]) else { panic!("{help} is not answered") };
            for part in ["Works.", "environment variables", "FLOTILLA_CONFIG", ABOUT.guide] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        for version in ["--version", "-V"] {
            assert_eq!(asked(&[version]), Asked::Question("w 1.2.3".to_owned()));
        }
        for line in [&["serve"][..], &["--port=1"], &[""], &["-V", "a\nb"]] {
            let Asked::Unknown(why) = asked(line) else { panic!("{line:?} is not refused") };
            assert_eq!((why.lines().count(), why.contains("w --help")), (1, true), "{why}");
        }
    }
}
