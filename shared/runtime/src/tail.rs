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
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, Scope, SpanRef},
};

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

/// The tails of the messages that are worked on in one span.
struct Shared(Vec<Tail>);

/// Keeps events in the tail of the span that they happen in, or in the tails of all those that it follows
/// from: what happens to a batch happens to each of its messages.
pub(crate) struct Keep;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, _: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let new = NEW.with(|new| new.borrow().clone());
        if let (Some(tail), Some(span)) = (new, context.span(id)) {
            span.extensions_mut().replace(tail);
        }
    }

    fn on_follows_from(&self, id: &span::Id, follows: &span::Id, context: Context<'_, S>) {
        let tails = context.span_scope(follows).map(tails).unwrap_or_default();
        if let (false, Some(span)) = (tails.is_empty(), context.span(id)) {
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Shared>() {
                Some(shared) => shared.0.extend(tails),
                None => extensions.insert(Shared(tails)),
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let tails = context.event_scope(event).map(tails).unwrap_or_default();
        if let Some((last, others)) = tails.split_last() {
            let line = line(event);
            others.iter().for_each(|tail| tail.push(line.clone()));
            last.push(line);
        }
    }
}

/// The tails of the innermost span that has any.
fn tails<'a, R: LookupSpan<'a>>(mut scope: Scope<'a, R>) -> Vec<Tail> {
    let of = |span: SpanRef<'a, R>| {
        let extensions = span.extensions();
        let own = extensions.get::<Tail>().map(|tail| vec![tail.clone()]);
        own.or_else(|| extensions.get::<Shared>().map(|shared| shared.0.clone()))
    };
    scope.find_map(of).unwrap_or_default()
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
    fn what_happens_to_a_batch_is_in_the_log_of_each_of_its_messages_and_of_no_other() {
        let subscriber = tracing_subscriber::registry().with(Keep);
        tracing::subscriber::with_default(subscriber, || {
            let tails = [Tail::default(), Tail::default(), Tail::default()];
            let spans = tails.each_ref().map(|tail| tail.of(|| info_span!("message")));
            let batch = info_span!("batch");
            let inner = spans[1].in_scope(|| info_span!("inner"));
            batch.follows_from(&spans[0]).follows_from(&inner);
            batch.in_scope(|| info_span!("deeper").in_scope(|| info!("stored")));
            spans[1].in_scope(|| info!("told"));
            let texts = tails.each_ref().map(Tail::text);
            assert_eq!(texts.each_ref().map(|text| text.matches("stored").count()), [1, 1, 0]);
            assert_eq!(texts.each_ref().map(|text| text.matches("told").count()), [0, 1, 0]);
        });
    }

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
