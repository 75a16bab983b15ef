//! The directory of a zip, entry by entry. Whoever reads it into a map keeps one of two files of a name,
//! and an installer unpacks both; some installers pass over it and read file by file from the beginning.
//! So all three must be of the same files.

use std::collections::BTreeSet;

/// What stands before a name in the directory, and before the file itself.
const HEADER: usize = 46;
const LOCAL: usize = 30;
/// What may stand behind a file whose header says so: its sizes, once more.
const DESCRIPTOR: usize = 24;
/// In the place of a size or an offset that does not fit into it.
const ELSEWHERE: u32 = u32::MAX;

/// Where a file is in a zip.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    from: usize,
    to: usize,
    /// How much may be behind it.
    slack: usize,
}

/// Refuses a directory, which begins there, that lists a name twice, or is not true of what is before it.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check(zip: &[u8], from: u64) -> Result<(), String> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let (mut rest, mut seen, mut spans) =
        (zip.get(from..).unwrap_or_default(), BTreeSet::new(), Vec::new());
    while let Some((header, name, behind)) = entry(rest) {
        if !seen.insert(name) {
            return Err(format!("the wheel has {:?} twice", String::from_utf8_lossy(name)));
        }
        let untrue = || {
            let name = String::from_utf8_lossy(name);
            format!("the directory of the wheel is not true of {name:?}")
        };
        spans.push(span(zip, header, name).ok_or_else(untrue)?);
        rest = behind;
    }
    match adjoin(spans, from) {
        true => Ok(()),
        false => {
            Err("the wheel has files on each other, or more than its directory says".to_owned())
        }
    }
}

/// The first entry of a directory, its name, and what is behind it.
fn entry(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let header = rest.get(..HEADER).filter(|it| it.starts_with(b"PK\x01\x02"))?;
    let (name, more) = (u16_at(header, 28)?, u16_at(header, 30)? + u16_at(header, 32)?);
    let behind = rest.get(HEADER + name + more..)?;
    Some((header, rest.get(HEADER..HEADER + name)?, behind))
}

/// Where the file of an entry is, if what stands before it says the same.
fn span(zip: &[u8], header: &[u8], name: &[u8]) -> Option<Span> {
    let (packed, from) = (u32_at(header, 20)?, u32_at(header, 42)?);
    let local = zip.get(size(from)?..).filter(|it| it.starts_with(b"PK\x03\x04"))?;
    let (named, more) = (u16_at(local, 26)?, u16_at(local, 28)?);
    let described = u16_at(local, 6)? & 8 != 0;
    let same_size = described || [packed, ELSEWHERE].contains(&u32_at(local, 18)?);
    if !same_size || local.get(LOCAL..LOCAL + named)? != name {
        return None;
    }
    let slack = if described { DESCRIPTOR } else { 0 };
    let from = size(from)?;
    Some(Span { from, to: from + LOCAL + named + more + size(packed)?, slack })
}

/// Whether files stand one behind the other, from the beginning up to `end`.
fn adjoin(mut spans: Vec<Span>, end: usize) -> bool {
    spans.sort_unstable();
    let (mut at, mut slack) = (0, 0);
    for span in spans.into_iter().chain([Span { from: end, to: end, slack: 0 }]) {
        if span.from < at || span.from - at > slack {
            return false;
        }
        (at, slack) = (span.to, span.slack);
    }
    true
}

/// A wheel is no larger than what such a number can say.
fn size(number: u32) -> Option<usize> {
    usize::try_from(number).ok().filter(|_| number != ELSEWHERE)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
