//! The directory of a zip, entry by entry: whoever reads it into a map keeps one of two files of a name,
//! and an installer unpacks both.

use std::collections::BTreeSet;

/// What stands before a name.
const HEADER: usize = 46;

/// A name that a directory, which begins there, lists twice.
pub(super) fn twice(zip: &[u8], from: u64) -> Option<String> {
    let mut rest = usize::try_from(from).ok().and_then(|from| zip.get(from..))?;
    let mut seen = BTreeSet::new();
    while let Some(header) = rest.get(..HEADER).filter(|it| it.starts_with(b"PK\x01\x02")) {
        let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name, more) = (length(28), length(30) + length(32));
        let found = rest.get(HEADER..HEADER + name)?;
        if !seen.insert(found) {
            return Some(String::from_utf8_lossy(found).into_owned());
        }
        rest = rest.get(HEADER + name + more..)?;
    }
    None
}
