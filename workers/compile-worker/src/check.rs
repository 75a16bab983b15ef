//! A wheel is looked through before anybody gets it: what came out of a build is not to be
//! trusted.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zip::{ZipArchive, read::ZipFile};

use crate::{
    builder::BuilderInfo,
    metadata,
    names::{WheelName, normalize},
    recipe::Wheel,
};

const FILES_LIMIT: usize = 50_000;
const SIZE_LIMIT: u64 = 1 << 30;
/// Larger than any honest file shrinks.
const RATIO_LIMIT: u64 = 1000;
const SMALL: u64 = 1 << 20;

/// A file's hash, as RECORD writes it, and its size.
type Seen = BTreeMap<String, (String, u64)>;

/// Refuses what is not a true wheel of this package and version for this builder; gives its
/// METADATA.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(
    name: &str,
    version: &str,
    it: &Wheel,
    builder: &BuilderInfo,
) -> Result<String, String> {
    let filename = &it.filename;
    let wheel = WheelName::parse(filename).ok_or(format!("{filename:?} is no name of a wheel"))?;
    let mine = normalize(&wheel.name).is_ok_and(|it| it == name);
    if !mine || !same_version(&wheel.version, version) {
        return Err(format!("the build made {filename}, not {name} {version}"));
    }
    let own = [builder.abi.as_str(), "none", "abi3"].iter().any(|abi| wheel.tags[1] == **abi);
    if !own || !wheel.fits(&builder.abi, &builder.platform) || !true_platforms(&wheel, it, builder)
    {
        return Err(format!("the tags of {filename} are not of what built it"));
    }
    let contents = Contents::read(&it.bytes)?;
    let metadata = contents.text(&contents.metadata, "METADATA")?;
    check_metadata(metadata, name, version)?;
    check_record(&contents.seen, contents.text(&contents.record, "RECORD")?)?;
    Ok(metadata.to_owned())
}

/// A package cannot call itself manylinux; what was looked at can, for no newer C library than that
/// of the image.
fn true_platforms(wheel: &WheelName, it: &Wheel, builder: &BuilderInfo) -> bool {
    let machine = builder.platform.split_once('_').map_or("", |(_, machine)| machine);
    let own = builder.glibc.split_once('.').and_then(|(_, minor)| minor.parse::<u32>().ok());
    wheel.tags[2].split('.').all(|tag| {
        let Some(policy) = tag.strip_prefix("manylinux") else { return true };
        let policy = policy.strip_suffix(machine).map(|policy| policy.trim_end_matches('_'));
        let minor = match policy {
            Some("1") => Some(5),
            Some("2010") => Some(12),
            Some("2014") => Some(17),
            Some(policy) => policy.strip_prefix("_2_").and_then(|minor| minor.parse().ok()),
            None => None,
        };
        it.repaired && minor.is_some_and(|minor: u32| own.is_some_and(|own| minor <= own))
    })
}

fn same_version(left: &str, right: &str) -> bool {
    let parse = |text: &str| text.replace('_', "-").parse::<pep440_rs::Version>();
    match (parse(left), parse(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

/// What is inside a wheel.
#[derive(Default)]
struct Contents {
    seen: Seen,
    record: Option<Vec<u8>>,
    metadata: Option<Vec<u8>>,
}

impl Contents {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let broken = |e: zip::result::ZipError| format!("the wheel is a broken zip: {e}");
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if zip.len() > FILES_LIMIT {
            return Err(format!("the wheel has {} files", zip.len()));
        }
        let (mut contents, mut left) = (Self::default(), SIZE_LIMIT);
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).map_err(broken)?;
            let name = safe_name(&file)?;
            if !file.is_dir() {
                let bytes = unpacked(&mut file, &name, &mut left)?;
                contents.add(name, bytes)?;
            }
        }
        Ok(contents)
    }

    fn add(&mut self, name: String, bytes: Vec<u8>) -> Result<(), String> {
        let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
        let seen = (format!("sha256={hash}"), bytes.len() as u64);
        match name.split_once('/') {
            Some((folder, "RECORD")) if folder.ends_with(".dist-info") => self.record = Some(bytes),
            Some((folder, "METADATA")) if folder.ends_with(".dist-info") => {
                self.metadata = Some(bytes);
            }
            _ => {}
        }
        match self.seen.insert(name.clone(), seen) {
            Some(_) => Err(format!("the wheel has {name} twice")),
            None => Ok(()),
        }
    }

    fn text<'b>(&self, bytes: &'b Option<Vec<u8>>, what: &str) -> Result<&'b str, String> {
        let bytes = bytes.as_ref().ok_or(format!("the wheel has no {what}"))?;
        std::str::from_utf8(bytes).map_err(|_| format!("the wheel's {what} is not UTF-8"))
    }
}

/// The name of a file that stays where the wheel is unpacked.
fn safe_name<R: Read>(file: &ZipFile<'_, R>) -> Result<String, String> {
    let name = file.name();
    let link = file.unix_mode().is_some_and(|mode| mode & 0o170_000 == 0o120_000);
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    let path = name.strip_suffix('/').unwrap_or(name);
    let escapes = path.split('/').any(bad_part) || name.contains(['\\', '\0', ':']);
    match escapes || link {
        true => Err(format!("the wheel has {name:?}, which leads out of it")),
        false => Ok(name.to_owned()),
    }
}

/// The content of a file, of which all together may have no more than `left` bytes.
fn unpacked<R: Read>(
    file: &mut ZipFile<'_, R>,
    name: &str,
    left: &mut u64,
) -> Result<Vec<u8>, String> {
    let packed = file.compressed_size();
    let allowed = (*left).min(packed.saturating_mul(RATIO_LIMIT).max(SMALL));
    let mut bytes = Vec::new();
    let read = file.take(allowed + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("the wheel's {name} cannot be unpacked: {e}"))?;
    if bytes.len() as u64 > allowed {
        return Err(format!("the wheel's {name} is a bomb: {packed} bytes become too many"));
    }
    *left -= bytes.len() as u64;
    Ok(bytes)
}

fn check_metadata(text: &str, name: &str, version: &str) -> Result<(), String> {
    let (said_name, said_version) =
        (metadata::value(text, "Name"), metadata::value(text, "Version"));
    let mine = normalize(said_name).is_ok_and(|it| it == name);
    match mine && same_version(said_version, version) {
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
        let own = name.ends_with(".dist-info/RECORD");
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
mod tests {
    use std::io::Write;

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const NAME: &str = "a-1.0-py3-none-any.whl";

    fn builder() -> BuilderInfo {
        BuilderInfo {
            image: "i".into(),
            abi: "cp311".into(),
            python: "3.11.2".into(),
            platform: "linux_x86_64".into(),
            glibc: "2.36".into(),
            ..BuilderInfo::default()
        }
    }

    #[test]
    fn only_what_was_looked_at_may_be_manylinux_and_only_for_old_enough_a_library() {
        let bytes = wheel(&[], |record| record);
        let verdict = |platform: &str, repaired: bool| {
            let filename = format!("a-1.0-cp311-cp311-{platform}.whl");
            let it = Wheel { filename, bytes: bytes.clone(), repaired };
            check("a", "1.0", &it, &builder()).is_ok()
        };
        for good in [
            "manylinux_2_17_x86_64.manylinux2014_x86_64",
            "manylinux1_x86_64",
            "manylinux_2_36_x86_64",
            "linux_x86_64",
        ] {
            assert!(verdict(good, true), "{good}");
        }
        assert!(!verdict("manylinux2014_x86_64", false));
        for bad in ["manylinux_2_37_x86_64", "manylinux2014_aarch64", "manylinux_x86_64"] {
            assert!(!verdict(bad, true), "{bad}");
        }
    }

    /// A wheel with these files beside METADATA, and a RECORD that `spoil` has passed over.
    fn wheel(files: &[(&str, &[u8])], spoil: impl Fn(String) -> String) -> Vec<u8> {
        let metadata: (&str, &[u8]) =
            ("a-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: A\nVersion: 1\n\nText");
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut record = String::from("a-1.0.dist-info/RECORD,,\n");
        for (name, bytes) in files.iter().chain([&metadata]) {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
            let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(bytes));
            record.push_str(&format!("{name},sha256={hash},{}\n", bytes.len()));
        }
        zip.start_file("a-1.0.dist-info/RECORD", SimpleFileOptions::default()).unwrap();
        zip.write_all(spoil(record).as_bytes()).unwrap();
        zip.finish().unwrap().into_inner()
    }

    fn verdict(bytes: &[u8]) -> Result<(), String> {
        checked("1.0", NAME, bytes)
    }

    fn checked(version: &str, filename: &str, bytes: &[u8]) -> Result<(), String> {
        let it = Wheel { filename: filename.into(), bytes: bytes.to_vec(), repaired: false };
        check("a", version, &it, &builder()).map(drop)
    }

    #[test]
    fn a_true_wheel_is_taken() {
        assert_eq!(verdict(&wheel(&[("a.py", b"x = 1")], |record| record)), Ok(()));
    }

    #[test]
    fn a_record_that_is_not_true_is_refused() {
        let file: &[(&str, &[u8])] = &[("a.py", b"x = 1")];
        let other = wheel(file, |record| record.replace("a.py,sha256=", "a.py,sha256=x"));
        assert!(verdict(&other).unwrap_err().contains("not true of a.py"));
        let short = wheel(file, |record| record.lines().skip(2).fold(String::new(), |a, l| a + l));
        assert!(verdict(&short).unwrap_err().contains("RECORD"));
        let long = wheel(file, |record| record + "b.py,,0\n");
        assert!(verdict(&long).unwrap_err().contains("not there"));
    }

    #[test]
    fn what_leads_out_of_the_wheel_is_refused() {
        for name in ["../a.py", "/etc/a", "a/../../b", "a\\b", "c:/a", "a//b"] {
            let why = verdict(&wheel(&[(name, b"")], |record| record)).unwrap_err();
            assert!(why.contains("leads out"), "{name}: {why}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 8 << 20];
        let why = verdict(&wheel(&[("a.bin", &zeros)], |record| record)).unwrap_err();
        assert!(why.contains("bomb"), "{why}");
    }

    #[test]
    fn another_package_version_or_platform_is_refused() {
        let bytes = wheel(&[], |record| record);
        for name in [
            "b-1.0-py3-none-any.whl",
            "a-1.1-py3-none-any.whl",
            "a-1.0-cp312-cp312-linux_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux2014_x86_64.whl",
            "a-1.0.zip",
        ] {
            assert!(checked("1.0", name, &bytes).is_err(), "{name}");
        }
        assert!(checked("2.0", "a-2.0-py3-none-any.whl", &bytes).is_err());
        assert!(verdict(b"not a zip").is_err());
    }
}
