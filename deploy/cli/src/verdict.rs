//! Verdicts: their exit codes, and the tables in which they are shown.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use crate::submission::{Results, TestResult};

/// The widest that a cell shows of a program's words.
const SHOWN: usize = 32;

/// The exit code of `flotilla submit` for a verdict: 0 for AC, its own for each of the others.
pub(crate) fn exit_code(verdict: &str) -> u8 {
    match verdict {
        "AC" => 0,
        "WA" => 10,
        "TLE" => 11,
        "WTLE" => 12,
        "MLE" => 13,
        "OLE" => 14,
        "RTE" => 15,
        "NO-OUTPUT" => 16,
        "IE" => 20,
        // 21 is a superseded submission: see [`crate::Error::exit_code`].
        _ => 22,
    }
}

/// A table in the style of all.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// A row per test.
pub(crate) fn tests(results: &Results) -> Table {
    let mut table = table(&[
        "test", "input", "expected", "actual", "verdict", "ended", "cpu ms", "wall ms", "memory",
    ]);
    for test in &results.tests {
        table.add_row(row(test));
    }
    table
}

fn row(test: &TestResult) -> [String; 9] {
    [
        test.number.to_string(),
        shown(&test.input),
        shown(&test.expected),
        shown(&test.actual),
        test.verdict.clone(),
        ended(test),
        test.cpu_ms.to_string(),
        test.wall_ms.to_string(),
        format!("{:.1} MiB", test.max_rss_kib as f64 / 1024.0),
    ]
}

/// How a test ended, with the last line of standard error: that is where Python says why.
fn ended(test: &TestResult) -> String {
    match test.stderr.trim_end().lines().last() {
        Some(last) => format!("{}: {}", test.exit, shown(last)),
        None => test.exit.clone(),
    }
}

/// One line of text that a terminal can show as it is: a program's output is not trusted with
/// control characters. Long text is cut, with its length.
pub(crate) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).flat_map(visible).collect();
    match text.chars().count() {
        count if count > SHOWN => format!("{start}… ({count} characters)"),
        _ => start,
    }
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = if printable(c) { None } else { Some(c.escape_default()) };
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// Neither a control character nor one that turns the direction of what follows.
fn printable(c: char) -> bool {
    let turning =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turning
}

/// The line under a table: verdict, tests passed, and the reason if there is one.
pub(crate) fn summary(results: &Results) -> String {
    let Results { subid, verdict, passed, total, .. } = results;
    let reason = results.reason.as_deref().map(|why| format!(" ({})", shown_long(why)));
    let reason = reason.unwrap_or_default();
    format!("{verdict}  {passed} of {total} tests passed, submission {subid}{reason}")
}

fn shown_long(text: &str) -> String {
    text.chars().take(500).flat_map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_own_exit_code() {
        let known = ["AC", "WA", "TLE", "WTLE", "MLE", "OLE", "RTE", "NO-OUTPUT", "IE", "new"];
        let mut codes: Vec<u8> = known.iter().map(|verdict| exit_code(verdict)).collect();
        assert_eq!(codes[0], 0);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), known.len());
    }

    #[test]
    fn output_cannot_steer_the_terminal_and_is_cut() {
        assert_eq!(shown("plain ünï"), "plain ünï");
        assert_eq!(shown("\u{1b}[2J\n\u{202e}"), "\\u{1b}[2J\\n\\u{202e}");
        let long = shown(&"x".repeat(100));
        assert!(long.ends_with("… (100 characters)") && long.starts_with("xxx"));
    }
}
