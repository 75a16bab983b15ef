//! The example submissions of the demo, `deploy/dev/demo-data`, built into this program.

macro_rules! example {
    ($name:literal) => {
        Example {
            name: $name,
            source: include_str!(concat!("../../dev/demo-data/submissions/", $name, ".py")),
        }
    };
}

macro_rules! problem_file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../dev/demo-data/problem/", $name)))
    };
}

/// A program, and in its first line what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

impl Example {
    /// The verdict in the first line, `# expect: VERDICT`.
    pub(crate) fn expected(&self) -> Option<&'static str> {
        self.source.lines().next()?.strip_prefix("# expect: ")
    }
}

/// Every example.
pub(crate) const EXAMPLES: [Example; 9] = [
    example!("correct"),
    example!("wrong"),
    example!("infinite-loop"),
    example!("sleeper"),
    example!("memory-bomb"),
    example!("fork-bomb"),
    example!("output-flood"),
    example!("crash"),
    example!("silent"),
];

/// The files of the problem that they answer.
pub(crate) const PROBLEM: [(&str, &str); 3] =
    [problem_file!("test.in"), problem_file!("test.out"), problem_file!("problem.json")];

/// The parameters of its event.
pub(crate) const EVENT: &str = include_str!("../../dev/demo-data/event.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_declares_its_verdict_and_every_file_is_an_example() {
        for example in EXAMPLES {
            assert!(example.expected().is_some(), "{} declares no verdict", example.name);
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dev/demo-data/submissions");
        let files = std::fs::read_dir(folder).expect("the examples are there").count();
        assert_eq!(files, EXAMPLES.len());
    }
}
