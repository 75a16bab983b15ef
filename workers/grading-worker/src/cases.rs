//! A problem's cases, as `test.in` and `test.out` give them: one a line.

/// The longest argument, in bytes, that the kernel passes to a program.
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The line of `test.in`.
    pub input: String,
    /// The line of `test.out`, without trailing white space.
    pub expected: String,
}

impl Case {
    /// The arguments of the program: the input, split on white space. No shell sees them.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.input.split_whitespace()
    }
}

/// Reads the cases. A byte order mark, and blank lines at the end of only one of the files, are
/// what editors add, and ignored.
///
/// # Errors
/// Says why these are no cases, and which line is to blame.
pub fn parse(inputs: &str, outputs: &str) -> Result<Vec<Case>, String> {
    let (mut inputs, mut outputs) = (lines(inputs), lines(outputs));
    let (ins, outs) = (inputs.len(), outputs.len());
    shorten(&mut inputs, outs);
    shorten(&mut outputs, ins);
    if inputs.len() != outputs.len() {
        return Err(format!("test.in and test.out have a case a line, but {ins} and {outs} lines"));
    }
    if inputs.is_empty() {
        return Err("test.in and test.out are empty".to_owned());
    }
    let pairs = inputs.into_iter().zip(outputs).enumerate();
    pairs.map(|(index, (input, expected))| case(index + 1, input, expected)).collect()
}

fn lines(text: &str) -> Vec<&str> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines().collect()
}

/// Takes blank lines off the end, down to `length`.
fn shorten(lines: &mut Vec<&str>, length: usize) {
    while lines.len() > length && lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
}

fn case(line: usize, input: &str, expected: &str) -> Result<Case, String> {
    if input.contains('\0') {
        return Err(format!("line {line} of test.in has a NUL, which no argument can have"));
    }
    if input.split_whitespace().any(|argument| argument.len() > LONGEST_ARGUMENT) {
        return Err(format!("line {line} of test.in has an argument of 128 KiB or more"));
    }
    Ok(Case { input: stripped(input).to_owned(), expected: stripped(expected).to_owned() })
}

/// A text without trailing white space, by the rule of Python's `str.rstrip`, which is what the
/// original compared with: Unicode's white space, and the four ASCII separators.
pub fn stripped(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_line_and_its_arguments_are_split_on_white_space() {
        let cases = parse("1  2\t'3 4'\r\n\n", "6 \n\n").unwrap();
        assert_eq!(cases.len(), 2);
        let arguments: Vec<_> = cases[0].arguments().collect();
        assert_eq!(arguments, ["1", "2", "'3", "4'"]);
        assert_eq!(cases[0].expected, "6");
        assert_eq!(cases[1].arguments().count(), 0);
    }

    #[test]
    fn what_editors_add_is_ignored() {
        let plain = parse("1\n2\n", "1\n2\n").unwrap();
        assert_eq!(parse("\u{feff}1\r\n2\r\n\r\n", "1\n2").unwrap(), plain);
        assert_eq!(parse("1\n2", "1\n2\n\n\n").unwrap(), plain);
        assert_eq!(parse("1\n\n", "1\n\n").unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_line() {
        assert!(parse("1\n2\n", "1\n").unwrap_err().contains("2 and 1"));
        assert!(parse("", "").unwrap_err().contains("empty"));
        assert!(parse("1\n2\0\n", "1\n2\n").unwrap_err().contains("line 2"));
        let long = "x".repeat(128 << 10);
        assert!(parse(&long, "1").unwrap_err().contains("line 1"));
    }

    #[test]
    fn white_space_is_what_python_says_it_is() {
        for text in ["a ", "a\t\r\n", "a\u{a0}", "a\u{b}\u{c}", "a\u{1c}\u{1f}", "a\u{2003}"] {
            assert_eq!(stripped(text), "a", "{text:?}");
        }
        assert_eq!(stripped(" a\u{200b}"), " a\u{200b}");
    }
}
