//! The live display: a moving line per submission on a terminal, plain lines elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    console::{note, one_line},
    error::Error,
    submission::Stage,
};

/// The lines of several submissions.
#[derive(Debug)]
pub(crate) struct Board {
    lines: MultiProgress,
    live: bool,
}

/// One submission's line.
#[derive(Debug)]
pub(crate) struct Line {
    name: String,
    bar: Option<ProgressBar>,
    said: String,
}

impl Board {
    /// A board on standard error.
    pub(crate) fn new() -> Self {
        Board { lines: MultiProgress::new(), live: std::io::stderr().is_terminal() }
    }

    /// Adds a line for a submission.
    pub(crate) fn line(&self, name: &str) -> Result<Line, Error> {
        let bar = match self.live {
            false => None,
            true => {
                let style = ProgressStyle::with_template("{spinner} {prefix:16} {msg} {elapsed}");
                let style = style.map_err(|e| Error::Fleet(e.to_string()))?;
                let bar = self.lines.add(ProgressBar::new_spinner().with_style(style));
                bar.set_prefix(one_line(name).into_owned());
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
        };
        Ok(Line { name: name.to_owned(), bar, said: String::new() })
    }
}

impl Line {
    /// Shows how far the submission is.
    pub(crate) fn stage(&mut self, stage: Stage) {
        // The count changes often; as plain lines only the change of stage is told.
        let (kind, text) = match stage {
            Stage::Queued { waiting } => ("queued", format!("queued ({waiting} waiting)")),
            Stage::Running => ("running", "running".to_owned()),
        };
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.say(kind),
        }
    }

    /// Shows the last word.
    pub(crate) fn done(&mut self, verdict: &str) {
        match self.bar.take() {
            Some(bar) => bar.finish_with_message(one_line(verdict).into_owned()),
            None => self.say(verdict),
        }
    }

    fn say(&mut self, what: &str) {
        if self.said != what {
            note(format!("{}: {what}", self.name));
            self.said = what.to_owned();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
