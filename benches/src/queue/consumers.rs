//! Who is put on the queue.

use std::ffi::OsString;

use crate::{process::sibling, rig::Consumer, stub::queue::Source};

/// Slots of the worker, unless said otherwise.
pub(super) const SLOTS: usize = 64;
/// Messages that the worker receives ahead where a peer, too, has the setting that is best for it.
pub(super) const AHEAD: usize = 8 * SLOTS;
/// The body that Flotilla's worker and the bare loop get.
pub(super) const BODY: &str =
    r#"{"n":{n},"text":"a message of about a hundred bytes, as such messages are"}"#;

/// A queue that never ends.
pub(super) fn endless(body: &str) -> Source {
    Source { template: body.to_owned(), left: u64::MAX, twice_every: 0 }
}

/// The runtime with a job that does nothing.
pub(super) fn flotilla(more: &[(&'static str, &str)]) -> Consumer {
    let slots = SLOTS.to_string();
    let fixed = [
        ("FLOTILLA_SLOTS", slots.as_str()),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ("FLOTILLA_HTTP_ADDR", "127.0.0.1:0"),
        // As the peers, which have no subscriber at all.
        ("FLOTILLA_LOG", "off"),
    ];
    let env = fixed.into_iter().chain(more.iter().copied());
    Consumer {
        name: "flotilla",
        program: sibling("noop-worker"),
        args: Vec::new(),
        env: env.map(|(key, value)| (key, OsString::from(value))).collect(),
        body: BODY.to_owned(),
    }
}

/// The worker as it is fastest with short jobs: with eight messages a slot received ahead.
pub(super) fn flotilla_ahead() -> Consumer {
    flotilla(&[("FLOTILLA_RECEIVE_AHEAD", &AHEAD.to_string())])
}

/// The SDK alone, with at most `in_hand` messages at a time.
pub(super) fn bare_loop(in_hand: usize) -> Consumer {
    Consumer {
        name: "bare loop",
        program: sibling("bare-loop"),
        args: Vec::new(),
        env: vec![("BENCH_IN_HAND", in_hand.to_string().into())],
        body: BODY.to_owned(),
    }
}
