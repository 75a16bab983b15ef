//! A wheel is looked through before anybody gets it: what came out of a build is not to be
//! trusted.

mod directory;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flotilla_runtime::payload::hex;
use sha2::{Digest, Sha256};
use zip::{ZipArchive, read::ZipFile};

use crate::{
    builder::BuilderInfo,
    metadata,
    names::{WheelName, manylinux, minor_of_glibc, normalize},
    recipe::Wheel,
    versions::same,
};

const FILES_LIMIT: usize = 50_000;
/// Unpacked, a wheel has at most this many bytes,
const SIZE_LIMIT: u64 = 1 << 30;
/// and at most so many times its own, unless it is small: one file of it may be all zeros.
const RATIO_LIMIT: u64 = 200;
const SMALL: u64 = 32 << 20;
/// A name is at most this long: it becomes that of a file.
const NAME_LIMIT: usize = 255;
/// What is read of a wheel, of the folder that tells about it, and how large each may be; the rest
/// is only passed through.
const KEPT: [(&str, u64); 3] = [(METADATA, 4 << 20), (RECORD, 16 << 20), (WHEEL, 64 << 10)];
const METADATA: &str = "METADATA";
const RECORD: &str = "RECORD";
const WHEEL: &str = "WHEEL";
/// A wheel is of at most so many tags.
const TAGS: usize = 1000;
const PIECE: usize = 64 << 10;

/// So many libraries that a wheel brings along are told of at most: all of a build is one row.
const BUNDLED: usize = 256;

/// What is known of a wheel that was looked through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Its METADATA.
    pub metadata: String,
    /// SHA-256 of each library that it brings along, by its path in the wheel.
    pub bundled: BTreeMap<String, String>,
}

/// A file's hash, as RECORD writes it, and its size.
type Seen = BTreeMap<String, (String, u64)>;

/// Refuses what is not a true wheel of this package and version for this builder. It takes its time, and
/// not much memory: not for a thread that has others to serve.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(
    name: &str,
    version: &str,
    it: &Wheel,
    builder: &BuilderInfo,
) -> Result<Checked, String> {
    let filename = &it.filename;
    let wheel = Some(filename).filter(|it| is_plain(it)).and_then(|it| WheelName::parse(it));
    let wheel = wheel.ok_or(format!("{filename:?} is no name of a wheel"))?;
    if !is_of(name, version, &wheel.name, &wheel.version) {
        return Err(format!("the build made {filename}, not {name} {version}"));
    }
    if !true_tags(&wheel, it, builder) {
        return Err(format!("the tags of {filename} are not of what built it"));
    }
    let contents = Contents::read(&it.bytes)?;
    contents.check_folder(name, version)?;
    check_about(contents.text(WHEEL)?, &wheel)?;
    let metadata = contents.text(METADATA)?;
    check_metadata(metadata, name, version)?;
    check_record(&contents.seen, contents.text(RECORD)?)?;
    let bundled = if it.repaired { bundled(&contents.seen) } else { BTreeMap::new() };
    Ok(Checked { metadata: metadata.to_owned(), bundled })
}

/// The libraries that were put into a wheel beside what was built: each in the one folder `….libs`.
fn bundled(seen: &Seen) -> BTreeMap<String, String> {
    let library = |(name, (hash, _)): (&String, &(String, u64))| {
        let (folder, _) = name.split_once('/')?;
        let hash = BASE64_URL_SAFE_NO_PAD.decode(hash.strip_prefix("sha256=")?).ok()?;
        let told = folder.ends_with(".libs") && name.len() <= NAME_LIMIT;
        told.then(|| (name.clone(), hex(&hash)))
    };
    seen.iter().filter_map(library).take(BUNDLED).collect()
}

/// Whether a name can be that of an object and of a file anywhere.
fn is_plain(filename: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+!-".contains(&b);
    filename.len() <= NAME_LIMIT && filename.bytes().all(plain) && !filename.starts_with('.')
}

fn is_of(name: &str, version: &str, said_name: &str, said_version: &str) -> bool {
    normalize(said_name).is_ok_and(|it| it == name) && same(said_version, version)
}

/// Each tag is one that is known here, and all together fit what built it. A package cannot call
/// itself manylinux; what was looked at can, for no newer C library than that of the image.
fn true_tags(wheel: &WheelName, it: &Wheel, builder: &BuilderInfo) -> bool {
    let [pythons, abis, platforms] = &wheel.tags;
    let python = |tag: &str| {
        let version = tag.strip_prefix("py").or(tag.strip_prefix("cp"));
        version
            .is_some_and(|it| it.starts_with(['2', '3']) && it.bytes().all(|b| b.is_ascii_digit()))
    };
    let library = minor_of_glibc(&builder.glibc);
    let platform = |tag: &str| {
        let needed = manylinux(tag, &builder.platform).filter(|_| it.repaired);
        tag == "any"
            || tag == builder.platform
            || needed.is_some_and(|needed| library.is_some_and(|own| needed <= own))
    };
    pythons.split('.').all(python)
        && abis.split('.').all(|tag| tag == builder.abi || tag == "none" || tag == "abi3")
        && platforms.split('.').all(platform)
        && wheel.fits(&builder.abi, &builder.platform, &builder.glibc)
}

/// What is inside a wheel.
#[derive(Default)]
struct Contents {
    seen: Seen,
    /// The folders that tell about it: there should be one.
    folders: BTreeSet<String>,
    kept: BTreeMap<&'static str, Vec<u8>>,
}

impl Contents {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let broken = |e: zip::result::ZipError| format!("the wheel is a broken zip: {e}");
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if zip.len() > FILES_LIMIT {
            return Err(format!("the wheel has {} files", zip.len()));
        }
        directory::check(bytes, zip.central_directory_start())?;
        let (mut contents, mut left) = (Self::default(), unpacked_limit(bytes.len() as u64));
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).map_err(broken)?;
            let name = safe_name(&file)?;
            if !file.is_dir() {
                contents.add(&mut file, name, &mut left)?;
            }
        }
        Ok(contents)
    }

    fn add<R: Read>(
        &mut self,
        file: &mut ZipFile<'_, R>,
        name: String,
        left: &mut u64,
    ) -> Result<(), String> {
        let about = about(&name);
        let kept = about.and_then(|(_, inner)| KEPT.into_iter().find(|(it, _)| *it == inner));
        self.folders.extend(about.map(|(folder, _)| folder.to_owned()));
        let mut bytes = Vec::new();
        let mut keep = kept.map(|(_, limit)| (&mut bytes, limit));
        let seen = passed(file, &name, left, &mut keep)?;
        if let Some((what, _)) = kept {
            self.kept.insert(what, bytes);
        }
        self.seen.insert(name, seen);
        Ok(())
    }

    fn text(&self, what: &str) -> Result<&str, String> {
        let bytes = self.kept.get(what).ok_or(format!("the wheel has no {what}"))?;
        std::str::from_utf8(bytes).map_err(|_| format!("the wheel's {what} is not UTF-8"))
    }

    /// There is one folder that tells about a wheel, and it is called like the wheel.
    fn check_folder(&self, name: &str, version: &str) -> Result<(), String> {
        let mine = |folder: &String| {
            let stem = folder.strip_suffix(".dist-info").and_then(|stem| stem.rsplit_once('-'));
            stem.is_some_and(|(said_name, said)| is_of(name, version, said_name, said))
        };
        match self.folders.len() == 1 && self.folders.iter().all(mine) {
            true => Ok(()),
            false => Err(format!("the wheel has not one folder about {name} {version} inside")),
        }
    }
}

/// The folder that tells about a wheel, and what of it this is; nothing for any other file.
fn about(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(folder, _)| folder.ends_with(".dist-info"))
}

/// How many bytes may come out of a wheel of so many.
fn unpacked_limit(packed: u64) -> u64 {
    packed.saturating_mul(RATIO_LIMIT).clamp(SMALL, SIZE_LIMIT)
}

/// The name of a file that stays where the wheel is unpacked, and is a file.
fn safe_name<R: Read>(file: &ZipFile<'_, R>) -> Result<String, String> {
    let name = file.name();
    let kind = file.unix_mode().map_or(0, |mode| mode & 0o170_000);
    let (link, plain) = (kind == 0o120_000, matches!(kind, 0 | 0o040_000 | 0o100_000));
    if !link && !plain {
        return Err(format!("the wheel has {name:?}, which is neither a file nor a folder"));
    }
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    let path = name.strip_suffix('/').unwrap_or(name);
    let escapes = path.split('/').any(bad_part) || name.contains(['\\', '\0', ':']);
    match escapes || link {
        true => Err(format!("the wheel has {name:?}, which leads out of it")),
        false => Ok(name.to_owned()),
    }
}

/// Hash and size of a file, read piece by piece, of which all together may have no more than `left`
/// bytes; those to be kept go into `keep`, up to its limit.
fn passed<R: Read>(
    file: &mut ZipFile<'_, R>,
    name: &str,
    left: &mut u64,
    keep: &mut Option<(&mut Vec<u8>, u64)>,
) -> Result<(String, u64), String> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece);
        let read = read.map_err(|e| format!("the wheel's {name} cannot be unpacked: {e}"))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > *left {
            let packed = file.compressed_size();
            return Err(format!(
                "the wheel is a bomb: with {name}, whose {packed} bytes become over {size}, it has more \
                 than a wheel of its size may have unpacked"
            ));
        }
        hash.update(&piece[..read]);
        if let Some((kept, limit)) = keep {
            if size > *limit {
                return Err(format!("the wheel's {name} has over {} KiB", *limit >> 10));
            }
            kept.extend_from_slice(&piece[..read]);
        }
    }
    *left -= size;
    Ok((format!("sha256={}", BASE64_URL_SAFE_NO_PAD.encode(hash.finalize())), size))
}

/// WHEEL is of a version that is known, and says the tags that the name says.
fn check_about(text: &str, wheel: &WheelName) -> Result<(), String> {
    let version = metadata::value(text, "Wheel-Version");
    if !version.starts_with("1.") {
        return Err(format!("the wheel's WHEEL is of version {version:?}, not 1.x"));
    }
    let said: Vec<Vec<&str>> =
        metadata::values(text, "Tag").map(|tag| tag.split('-').collect()).collect();
    let named: Vec<&str> = wheel.tags.iter().map(String::as_str).collect();
    match (expanded(&said), expanded(&[named])) {
        (Some(said), Some(named)) if said == named => Ok(()),
        _ => Err("the tags in the wheel's WHEEL are not those in its name".to_owned()),
    }
}

/// All combinations of compressed tags; `None` where one is no tag, or they are too many.
fn expanded(tags: &[Vec<&str>]) -> Option<BTreeSet<[String; 3]>> {
    let mut all = BTreeSet::new();
    for tag in tags {
        let [pythons, abis, platforms] = tag.as_slice() else { return None };
        let count = |tags: &str| tags.split('.').count();
        let more = count(pythons).saturating_mul(count(abis)).saturating_mul(count(platforms));
        if more.saturating_add(all.len()) > TAGS {
            return None;
        }
        for python in pythons.split('.') {
            for abi in abis.split('.') {
                all.extend(platforms.split('.').map(|it| [python, abi, it].map(str::to_owned)));
            }
        }
    }
    Some(all)
}

fn check_metadata(text: &str, name: &str, version: &str) -> Result<(), String> {
    let (said_name, said_version) =
        (metadata::value(text, "Name"), metadata::value(text, "Version"));
    match is_of(name, version, said_name, said_version) {
        true => Ok(()),
        false => Err(format!("the wheel's METADATA is of {said_name} {said_version}")),
    }
}

/// RECORD names every file with its hash, and no other.
fn check_record(seen: &Seen, record: &str) -> Result<(), String> {
    let mut unlisted: Seen = seen.clone();
    for line in record.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.rsplitn(3, ',');
        let (size, hash) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let name = fields.next().unwrap_or_default().trim_matches('"').replace("\"\"", "\"");
        let (found, length) =
            unlisted.remove(&name).ok_or(format!("RECORD lists {name}, which is not there"))?;
        let own = about(&name).is_some_and(|(_, inner)| inner == RECORD);
        let true_size = size.parse() == Ok(length) || (size.is_empty() && own);
        if (hash != found && !(own && hash.is_empty())) || !true_size {
            return Err(format!("RECORD is not true of {name}"));
        }
    }
    match unlisted.keys().next() {
        Some(name) => Err(format!("RECORD does not list {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
