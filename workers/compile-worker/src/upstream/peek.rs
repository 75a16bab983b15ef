//! METADATA out of a wheel of which no more is fetched than that takes: a zip tells at its end where
//! its files are. Whoever made the wheel may mean harm, so all that it says of sizes is bounded first.

use std::io::Read;

use flate2::{Crc, read::DeflateDecoder};

/// So much of the end is fetched at first: there the directory of most wheels is, and METADATA too.
pub(super) const TAIL: u64 = 64 << 10;
/// A directory has at most this many bytes.
const DIRECTORY_LIMIT: u64 = 8 << 20;
/// METADATA has at most this many bytes.
const LIMIT: u64 = 4 << 20;
/// What stands before a file, beside its name; and how much its own header may add to it.
const HEADER: usize = 30;
const EXTRA: u64 = 1024;

/// Where something is: from, and up to but without.
pub(super) type Span = (u64, u64);

/// The end of a zip, from an offset on.
#[derive(Debug)]
pub(super) struct End {
    /// Where it begins.
    pub(super) from: u64,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// A file in a zip.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    deflated: bool,
    crc: u32,
    packed: u64,
    size: u64,
    /// Where its header, its name and its bytes are.
    pub(super) span: Span,
}

impl End {
    /// Where the directory is; `None` where there is none that is read here (such as that of a zip
    /// of over 4 GiB).
    pub(super) fn directory(&self) -> Option<Span> {
        let at = self.bytes.windows(4).rposition(|it| it == b"PK\x05\x06")?;
        let record = self.bytes.get(at..at + 22)?;
        let (size, from) = (u64::from(u32_at(record, 12)?), u64::from(u32_at(record, 16)?));
        let sane = size <= DIRECTORY_LIMIT && from + size <= self.from + at as u64;
        sane.then_some((from, from + size))
    }

    /// The METADATA that a directory lists.
    pub(super) fn metadata(&self, directory: Span) -> Option<Entry> {
        let mut rest = self.get(directory)?;
        while let Some(found) = rest.get(..46).filter(|it| it.starts_with(b"PK\x01\x02")) {
            let lengths = [28, 30, 32].map(|at| usize::from(u16_at(found, at).unwrap_or(0)));
            let name = rest.get(46..46 + lengths[0])?;
            if is_metadata(name) {
                return entry(found, lengths[0], directory.0);
            }
            rest = rest.get(46 + lengths.iter().sum::<usize>()..)?;
        }
        None
    }

    /// These bytes, where they are here.
    pub(super) fn get(&self, (from, to): Span) -> Option<&[u8]> {
        let from = usize::try_from(from.checked_sub(self.from)?).ok()?;
        let to = usize::try_from(to.checked_sub(self.from)?).ok()?;
        self.bytes.get(from..to)
    }
}

fn entry(found: &[u8], name: usize, directory: u64) -> Option<Entry> {
    let (packed, size) = (u64::from(u32_at(found, 20)?), u64::from(u32_at(found, 24)?));
    let from = u64::from(u32_at(found, 42)?);
    let deflated = match u16_at(found, 10)? {
        0 => false,
        8 => true,
        _ => return None,
    };
    // Its own header may have more to say than the directory; behind it comes the directory.
    let to = (from + HEADER as u64 + name as u64 + EXTRA + packed).min(directory);
    let sane = packed <= LIMIT && size <= LIMIT && from < to;
    sane.then_some(Entry { deflated, crc: u32_at(found, 16)?, packed, size, span: (from, to) })
}

impl Entry {
    /// The text, out of the bytes of its span; `None` where they are not what the directory says.
    pub(super) fn text(&self, bytes: &[u8]) -> Option<String> {
        let header = bytes.get(..HEADER).filter(|it| it.starts_with(b"PK\x03\x04"))?;
        let before = HEADER + usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
        let packed = usize::try_from(self.packed).ok()?;
        let packed = bytes.get(before..before.checked_add(packed)?)?;
        let mut text = Vec::new();
        match self.deflated {
            true => DeflateDecoder::new(packed).take(LIMIT).read_to_end(&mut text).ok()?,
            false => packed.take(LIMIT).read_to_end(&mut text).ok()?,
        };
        let mut crc = Crc::new();
        crc.update(&text);
        let whole = text.len() as u64 == self.size && crc.sum() == self.crc;
        whole.then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// Whether this is METADATA of the one folder that tells about a wheel.
fn is_metadata(name: &[u8]) -> bool {
    let folder = name.strip_suffix(b"/METADATA");
    folder.is_some_and(|it| it.ends_with(b".dist-info") && !it.contains(&b'/'))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zipped(method: CompressionMethod, text: &str) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for (path, text) in [
            ("a/other.dist-info/METADATA", "none of it"),
            ("a-1.0.dist-info/METADATA", text),
            ("a-1.0.dist-info/RECORD", "r"),
        ] {
            zip.start_file(path, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn read(bytes: &[u8]) -> Option<String> {
        let end = End { from: 0, bytes: bytes.to_vec() };
        let entry = end.metadata(end.directory()?)?;
        entry.text(end.get(entry.span)?)
    }

    #[test]
    fn metadata_is_read_out_of_the_end_of_a_wheel() {
        let text = "Name: a\n".repeat(5000);
        for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
            let whole = zipped(method, &text);
            assert_eq!(read(&whole).as_deref(), Some(&*text), "{method}");
            // Of the end alone: where it is, and then its bytes.
            let directory = End { from: 0, bytes: whole.clone() }.directory().unwrap();
            let at = usize::try_from(directory.0).unwrap();
            let end = End { from: directory.0, bytes: whole[at..].to_vec() };
            let entry = end.metadata(end.directory().unwrap()).unwrap();
            assert!(end.get(entry.span).is_none());
            let (from, to) = entry.span;
            let span = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            assert_eq!(entry.text(&whole[span]).as_deref(), Some(&*text), "{method}");
        }
    }

    #[test]
    fn metadata_that_is_cut_changed_or_too_large_is_none() {
        let whole = zipped(CompressionMethod::Stored, "Name: a\n");
        let at = whole.windows(7).position(|it| it == b"Name: a").unwrap();
        let mut changed = whole.clone();
        changed[at] = b'G';
        assert_eq!((read(&changed), read(&whole[..whole.len() - 22])), (None, None));
        let bomb = "x".repeat(LIMIT as usize + 1);
        assert_eq!(read(&zipped(CompressionMethod::Deflated, &bomb)), None);
    }

    proptest! {
        #[test]
        fn no_wheel_makes_the_reader_panic(
            changes in prop::collection::vec((0_usize..1000, any::<u8>()), 0..12),
        ) {
            let mut bytes = zipped(CompressionMethod::Deflated, "Name: a\n");
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            let _ = read(&bytes);
        }
    }
}
