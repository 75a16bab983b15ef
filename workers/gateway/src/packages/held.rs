//! The page of a project that has no known versions yet: begun at once, kept alive by comments, and
//! ended with what there is by then.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};

use super::{
    Packages,
    answer::Refusal,
    index::{FOOT, head, project_lines, title},
};

/// A page that takes no longer than this is sent as a whole.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// How often something is said.
const BEAT: Duration = Duration::from_secs(1);

/// The page of a project (normalised name), in HTML whatever else the client takes: JSON has no
/// comments. Where nobody can tell in the end whether there are versions, it breaks off: a page that
/// ends says that there are none.
pub(super) fn page(packages: Arc<Packages>, optset: String, name: String) -> Response {
    let (title, until) = (title(&name), Instant::now() + packages.hold());
    let (sender, lines) = futures::channel::mpsc::channel(1);
    // Of its own, so that a look at upstream that takes long does not silence the comments.
    tokio::spawn(look(packages, optset, name.clone(), until, sender));
    let beats = stream::unfold(Some(lines), move |lines| {
        let name = name.clone();
        async move {
            let mut lines = lines?;
            match tokio::time::timeout(BEAT, lines.next()).await {
                Err(_) => Some((Ok(comment(&name)), Some(lines))),
                Ok(Some(Ok(found))) => Some((Ok(found + FOOT), None)),
                Ok(Some(Err(why))) => Some((Err(io::Error::other(why)), None)),
                Ok(None) => Some((Err(io::Error::other("the look ended early")), None)),
            }
        }
    });
    let body = stream::once(async move { Ok(head(&title)) }).chain(beats);
    let about = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
    ];
    (about, Body::from_stream(body)).into_response()
}

/// Looks at upstream until there are versions, or it is time; ends when nobody listens.
async fn look(
    packages: Arc<Packages>,
    optset: String,
    name: String,
    until: Instant,
    mut sender: futures::channel::mpsc::Sender<Result<String, String>>,
) {
    let last = loop {
        let due = Instant::now() >= until;
        match project_lines(&packages, &optset, &name).await {
            Ok(lines) if due || !lines.is_empty() => break Ok(lines),
            Err(Refusal::Absent(why)) if due => break Ok(remark(&why)),
            Err(Refusal::Later(why, _)) if due => break Err(why),
            Ok(_) | Err(Refusal::Absent(_) | Refusal::Later(..)) => {}
            Err(why) => break Ok(remark(why.why())),
        }
        if sender.is_closed() {
            return;
        }
        tokio::time::sleep(BEAT).await;
    };
    // Whoever asked may be gone.
    let _ = sender.try_send(last);
}

fn comment(name: &str) -> String {
    format!("<!-- no version of {name} is known yet -->\n")
}

/// Words in a comment, which they must not end.
fn remark(words: &str) -> String {
    let words = words.replace("--", "- -").replace(['<', '>'], "");
    format!("<!-- {words} -->\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_says_cannot_end_a_comment() {
        let remark = remark("a --> <a href='x'>b</a>");
        assert_eq!(remark.matches("-->").count(), 1, "{remark}");
        assert!(!remark.contains("<a"), "{remark}");
    }
}
