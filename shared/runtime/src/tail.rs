//! The last lines that were logged while a message was worked on: they go with a dead letter.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tracing::{
    Event, Span, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// The most that is kept of a message's log, in bytes.
const LIMIT: usize = 64 * 1024;

/// The tail of one message's log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

thread_local! {
    /// The tail of the span that is being made on this thread.
    static NEW: RefCell<Option<Tail>> = const { RefCell::new(None) };
}

impl Tail {
    /// A span whose events, and those of the spans in it, are kept here.
    pub(crate) fn of(&self, make: impl FnOnce() -> Span) -> Span {
        NEW.with(|new| new.replace(Some(self.clone())));
        let span = make();
        NEW.with(|new| new.replace(None));
        span
    }

    /// What is kept, oldest line first.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.iter().map(String::as_str).collect()
    }

    fn push(&self, line: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > LIMIT {
            let Some(oldest) = kept.lines.pop_front() else { return };
            kept.bytes -= oldest.len();
        }
    }
}

/// Keeps events in the tail of the span that they happen in.
pub(crate) struct Keep;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, _: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let new = NEW.with(|new| new.borrow().clone());
        if let (Some(tail), Some(span)) = (new, context.span(id)) {
            span.extensions_mut().replace(tail);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut scope = context.event_scope(event).into_iter().flatten();
        let tail = scope.find_map(|span| span.extensions().get::<Tail>().cloned());
        if let Some(tail) = tail {
            tail.push(line(event));
        }
    }
}

fn line(event: &Event<'_>) -> String {
    let now = aws_smithy_types::DateTime::from(SystemTime::now());
    let (level, target) = (event.metadata().level(), event.metadata().target());
    let mut text = Text(format!("{now} {level} {target}:"));
    event.record(&mut text);
    text.0.truncate(text.0.floor_char_boundary(LIMIT / 4));
    text.0.push('\n');
    text.0
}

struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Instrument, info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_message_keeps_the_last_lines_of_its_own_log_and_of_what_runs_in_it() {
        let subscriber = tracing_subscriber::registry().with(Keep);
        tracing::subscriber::with_default(subscriber, || {
            let (one, two) = (Tail::default(), Tail::default());
            let (first, second) =
                (one.of(|| info_span!("message")), two.of(|| info_span!("message")));
            info!("of nobody");
            let work = async {
                info!(test = 3, "ran");
                async { info!(why = "slow", "inside") }.instrument(info_span!("inner")).await;
            };
            futures::executor::block_on(work.instrument(first));
            second
                .in_scope(|| (0..9999).for_each(|i| info!(i, "a line of some length, many times")));
            let text = one.text();
            let lines: Vec<_> = text.lines().map(|line| line.split_once(": ").unwrap().1).collect();
            assert_eq!(lines, ["ran test=3", "inside why=slow"]);
            let text = two.text();
            assert!(text.len() <= LIMIT && text.len() > LIMIT / 2, "{}", text.len());
            assert!(text.ends_with("i=9998\n"), "the last lines are kept");
        });
    }
}
