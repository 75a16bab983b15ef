//! What a page is known by when it is asked for again (RFC 9110, 8.8): its ETag, or, where it has none, when
//! it was last modified.

use hyper::header::{DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// A page that was modified less than this before it was sent may be another one of the same second.
const SETTLED: SignedDuration = SignedDuration::from_secs(2);

/// The validator of an answer with these headers; `None` for one that has to be looked at as a whole.
pub(super) fn of(headers: &HeaderMap) -> Option<String> {
    let header = |name: HeaderName| headers.get(name)?.to_str().ok();
    if let Some(tag) = header(ETAG) {
        return Some(tag.to_owned());
    }
    let modified = header(LAST_MODIFIED)?;
    let sent = header(DATE).and_then(date).unwrap_or_else(Timestamp::now);
    let settled = sent.duration_since(date(modified)?) >= SETTLED;
    settled.then(|| modified.to_owned())
}

/// The header that asks for a page unless it still has this validator. No ETag is a date.
pub(crate) fn condition(validator: &str) -> (&'static str, &str) {
    match date(validator) {
        Some(_) => ("if-modified-since", validator),
        None => ("if-none-match", validator),
    }
}

fn date(text: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(text).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn of(headers: &[(HeaderName, &str)]) -> Option<String> {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        super::of(&pairs.collect())
    }

    #[test]
    fn a_page_is_known_by_its_etag_else_by_when_it_was_modified() {
        let tag = (ETAG, "W/\"a, b\"");
        assert_eq!(of(&[tag.clone(), (LAST_MODIFIED, THEN)]).as_deref(), Some("W/\"a, b\""));
        assert_eq!(condition(tag.1), ("if-none-match", tag.1));
        assert_eq!(of(&[(LAST_MODIFIED, THEN)]).as_deref(), Some(THEN));
        assert_eq!(condition(THEN), ("if-modified-since", THEN));
        assert_eq!((of(&[]), of(&[(LAST_MODIFIED, "yesterday")])), (None, None));
    }

    #[test]
    fn a_page_that_was_modified_just_now_may_be_again_in_the_same_second() {
        let sent = |date| of(&[(LAST_MODIFIED, THEN), (DATE, date)]);
        assert_eq!(sent("Wed, 21 Oct 2015 07:28:01 GMT"), None);
        assert_eq!(sent("Wed, 21 Oct 2015 07:28:02 GMT").as_deref(), Some(THEN));
    }
}
