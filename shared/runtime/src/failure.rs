//! What can go wrong in a job, and what the loop makes of it.

use std::{error::Error, fmt, time::Duration};

/// Why a job did not produce its effect.
///
/// Whether a failure is permanent is decided where it is known: by the code that saw it. A
/// result the user does not like (a wrong answer, a compile error) is no failure at all.
#[derive(Debug)]
pub enum Failure {
    /// Trying again would end the same way: the message goes to the dead-letter queue, whole.
    Permanent(Cause),
    /// Trying again may help: the message becomes visible again after a delay.
    Transient {
        /// What happened.
        cause: Cause,
        /// The earliest useful time of the next attempt; `None` leaves it to the backoff policy.
        retry_after: Option<Duration>,
    },
}

/// The reason of a [`Failure`]: a bounded kind for metrics and the sentence for the reader.
#[derive(Debug)]
pub struct Cause {
    kind: &'static str,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that no retry mends. `kind` becomes a metric label, so it comes from a bounded
    /// set; `message` says what happened, to what, and what to do.
    pub fn permanent(kind: &'static str, message: impl Into<String>) -> Self {
        Self::Permanent(Cause { kind, message: message.into(), source: None })
    }

    /// A failure that a later attempt may not meet; the loop chooses the delay.
    pub fn transient(kind: &'static str, message: impl Into<String>) -> Self {
        let cause = Cause { kind, message: message.into(), source: None };
        Self::Transient { cause, retry_after: None }
    }

    /// A transient failure that is known to last for `delay`.
    pub fn retry_after(kind: &'static str, message: impl Into<String>, delay: Duration) -> Self {
        let cause = Cause { kind, message: message.into(), source: None };
        Self::Transient { cause, retry_after: Some(delay) }
    }

    /// Adds the error that caused this failure.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause_mut().source = Some(source.into());
        self
    }

    /// The bounded name of what happened, used as a metric label.
    pub fn kind(&self) -> &'static str {
        self.cause().kind
    }

    /// What happened.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Permanent(cause) | Self::Transient { cause, .. } => cause,
        }
    }

    fn cause_mut(&mut self) -> &mut Cause {
        match self {
            Self::Permanent(cause) | Self::Transient { cause, .. } => cause,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        f.write_str(&cause.message)?;
        match &cause.source {
            Some(source) => write!(f, ": {}", chain(source.as_ref())),
            None => Ok(()),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// An error with all its sources in one line: the SDK's own text is often only the outermost
/// ("service error").
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let line = source.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        next = source.source();
    }
    text
}

/// The first thousand characters of a reason: it travels in an attribute and a row.
pub fn shortened(reason: &str) -> String {
    reason.chars().take(1000).collect()
}

/// What becomes of a message. Only the loop makes one, and both the SQS call and the metric
/// follow from it, so that the two cannot disagree.
#[derive(Debug)]
pub enum Disposition {
    /// The effect is durable (now or since an earlier delivery): delete the message.
    Done,
    /// Make the message visible again after this delay.
    Retry {
        /// The delay until the next delivery.
        delay: Duration,
        /// The bounded kind of the failure, for metrics.
        kind: &'static str,
        /// The reason in words.
        reason: String,
    },
    /// Handed back unharmed, and not an attempt.
    Released {
        /// The delay until the next delivery: none at a stop.
        after: Duration,
    },
    /// The lease is no longer ours: touch nothing, its new holder decides.
    Lost,
    /// Put the whole message on the dead-letter queue with the reason, then delete it.
    Dead {
        /// The bounded kind of the failure, for metrics.
        kind: &'static str,
        /// The reason in words.
        reason: String,
    },
}

impl Disposition {
    /// After how long the message comes again from our hands, if it does: no time at all where its
    /// new holder decides.
    pub fn comes_after(&self) -> Option<Duration> {
        match self {
            Self::Done | Self::Dead { .. } => None,
            Self::Retry { delay, .. } => Some(*delay),
            Self::Released { after } => Some(*after),
            Self::Lost => Some(Duration::ZERO),
        }
    }

    /// The metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Released { .. } => "released",
            Self::Lost => "lost",
            Self::Dead { .. } => "dead",
        }
    }

    /// The kind of failure behind it, or `none`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { kind, .. } | Self::Dead { kind, .. } => kind,
            _ => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_any_length_has_room_in_an_attribute_and_a_row() {
        for (reason, long) in [("short", 5), ("x", 1), (&"\u{1f6a2}".repeat(300_000), 1000)] {
            let short = shortened(reason);
            assert!(reason.starts_with(&short) && short.chars().count() == long, "{long}");
        }
    }
}
