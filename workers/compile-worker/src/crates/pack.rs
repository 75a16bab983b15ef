//! Binaries are looked at before anybody gets them, and packed: what came out of a build is not to
//! be trusted.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A crate has at most this many binaries.
const BINARIES: usize = 200;
/// A name is at most this long.
const NAME_LIMIT: usize = 100;
/// How hard is packed; a crate is packed once and fetched often.
const LEVEL: i32 = 12;
/// An ELF file for x86-64: its magic number, its class and order of bytes, and its machine.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
const MACHINE: [u8; 2] = [62, 0];
/// Executable, and position-independent.
const KINDS: [[u8; 2]; 2] = [[2, 0], [3, 0]];

/// A binary that a build has made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Binary {
    name: String,
    size: usize,
}

/// A tar of these binaries, which stand one after the other in `bytes`, compressed; the same for the
/// same.
///
/// # Errors
/// Says what is wrong with one.
pub(super) fn packed(binaries: Vec<Binary>, bytes: &[u8], at: u64) -> Result<Vec<u8>, String> {
    if binaries.is_empty() {
        return Err("the crate has no binary with these features".to_owned());
    }
    if binaries.len() > BINARIES {
        return Err(format!("the crate has {} binaries", binaries.len()));
    }
    let (mut names, mut rest, mut files) = (BTreeSet::new(), bytes, Vec::new());
    for Binary { name, size } in &binaries {
        let whole = rest.split_at_checked(*size);
        let (file, more) = whole.ok_or("the build did not hand out all of its binaries")?;
        check(name, file)?;
        if !names.insert(name) {
            return Err(format!("the build has the binary {name} twice"));
        }
        files.push((name.as_str(), file));
        rest = more;
    }
    if !rest.is_empty() {
        return Err("the build handed out more than its binaries".to_owned());
    }
    files.sort_unstable();
    compressed(&files, at).map_err(|e| format!("the binaries cannot be packed: {e}"))
}

fn check(name: &str, file: &[u8]) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if name.is_empty()
        || name.len() > NAME_LIMIT
        || name.starts_with('.')
        || !name.chars().all(plain)
    {
        return Err(format!("{name:?} is no name of a binary"));
    }
    let at = |range: std::ops::Range<usize>| file.get(range).unwrap_or_default();
    let kind = KINDS.iter().any(|kind| at(16..18) == kind);
    match file.starts_with(MAGIC) && kind && at(18..20) == MACHINE {
        true => Ok(()),
        false => Err(format!("{name} is no program for x86-64")),
    }
}

fn compressed(files: &[(&str, &[u8])], at: u64) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    for (name, file) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(at);
        tar.append_data(&mut header, name, *file)?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn elf(content: &[u8]) -> Vec<u8> {
        let mut file = [MAGIC, &[0; 9][..], &KINDS[1][..], &MACHINE[..]].concat();
        file.extend_from_slice(content);
        file
    }

    fn pack(files: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
        let binaries =
            files.iter().map(|(name, file)| Binary { name: (*name).into(), size: file.len() });
        let bytes: Vec<u8> = files.iter().flat_map(|(_, file)| file.iter().copied()).collect();
        packed(binaries.collect(), &bytes, 7)
    }

    #[test]
    fn binaries_are_packed_as_regular_files_that_may_be_run() {
        let (one, two) = (elf(b"one"), elf(b"two"));
        let packed = pack(&[("two", &two), ("one", &one)]).unwrap();
        assert_eq!(packed, pack(&[("one", &one), ("two", &two)]).unwrap());
        let mut tar = tar::Archive::new(zstd::Decoder::new(&packed[..]).unwrap());
        let mut seen = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert!(entry.header().entry_type().is_file());
            assert_eq!(
                (entry.header().mode().unwrap(), entry.header().mtime().unwrap()),
                (0o755, 7)
            );
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), bytes));
        }
        assert_eq!(seen, [("one".to_owned(), one), ("two".to_owned(), two)]);
    }

    #[test]
    fn what_is_no_program_or_leads_elsewhere_is_refused() {
        let good = elf(b"");
        for name in ["../rg", "/bin/rg", "", ".", "..", "a b", ".bashrc", "a/b"] {
            assert!(pack(&[(name, &good)]).is_err(), "{name}");
        }
        for bad in [&b"#!/bin/sh\n"[..], b"", &good[..19], b"\x7fELF\x01\x01\x01"] {
            assert!(pack(&[("rg", bad)]).unwrap_err().contains("no program"), "{bad:?}");
        }
        assert!(pack(&[("rg", &good), ("rg", &good)]).unwrap_err().contains("twice"));
        assert!(pack(&[]).unwrap_err().contains("no binary"));
        let short = vec![Binary { name: "rg".into(), size: 99 }];
        assert!(packed(short, &good, 7).is_err());
    }
}
