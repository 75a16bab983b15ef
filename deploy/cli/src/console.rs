//! Words for the operator. A reader who has gone (`flotilla … | head`, a closed terminal) is no
//! reason to fail, least of all in the middle of taking a fleet down; a full disk is, in the end.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{ErrorKind, Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

static LOST: AtomicBool = AtomicBool::new(false);

/// A line of result, on standard output.
pub(crate) fn out(line: impl Display) {
    let written =
        writeln!(stdout(), "{}", harmless(&line.to_string())).and_then(|()| stdout().flush());
    if written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// A line about what goes on, on standard error.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{}", harmless(&line.to_string()));
}

/// The same with an escape for each character that commands a terminal, or turns the order of what it
/// shows around: senders write reasons, bodies, names and logs. In JSON the escape means the same.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    escaped(text, |c| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// The same on one line, for a name or a reason among others.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

fn escaped(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match bad(c) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Whether a line of result could not be written, though somebody was there to read it.
pub(crate) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_sender_wrote_commands_the_terminal() {
        let told = "a\u{1b}[2Jb\u{9b}c\rd\u{7f}\u{202e}e\n\tf ü 😀";
        let safe = harmless(told);
        assert_eq!(safe, "a\\u001b[2Jb\\u009bc\\u000dd\\u007f\\u202ee\n\tf ü 😀");
        assert_eq!(one_line("a\nkind b"), "a\\u000akind b");
        let json = serde_json::to_string(told).unwrap();
        assert_eq!(serde_json::from_str::<String>(&harmless(&json)).unwrap(), told);
    }
}
