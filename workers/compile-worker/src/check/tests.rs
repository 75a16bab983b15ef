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
    let verdict = |platform: &str, repaired: bool| {
        let tags = format!("cp311-cp311-{platform}");
        let (filename, about) = (format!("a-1.0-{tags}.whl"), about(&tags));
        let bytes = packed(
            &[
                ("a-1.0.dist-info/METADATA", METADATA_TEXT.as_bytes()),
                ("a-1.0.dist-info/WHEEL", about.as_bytes()),
            ],
            |record| record,
        );
        let it = Wheel { filename, bytes, repaired };
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
    for bad in [
        "manylinux_2_37_x86_64",
        "manylinux2014_aarch64",
        "manylinux_x86_64",
        "linux_x86_64.win_amd64",
        "linux_x86_64.musllinux_1_2_x86_64",
        "macosx_11_0_arm64",
    ] {
        assert!(!verdict(bad, true), "{bad}");
    }
}

const METADATA_TEXT: &str = "Metadata-Version: 2.1\nName: A\nVersion: 1\n\nText";

/// What tells about a wheel of these tags.
fn about(tags: &str) -> String {
    let parts: Vec<&str> = tags.split('-').collect();
    let tags = parts[2].split('.').map(|it| format!("Tag: {}-{}-{it}\n", parts[0], parts[1]));
    format!("Wheel-Version: 1.0\nRoot-Is-Purelib: true\n{}", tags.collect::<String>())
}

/// A pure wheel with these files beside those that tell about it, and a RECORD that `spoil` has
/// passed over.
fn wheel(files: &[(&str, &[u8])], spoil: impl Fn(String) -> String) -> Vec<u8> {
    let about = about("py3-none-any");
    let own: [(&str, &[u8]); 2] = [
        ("a-1.0.dist-info/METADATA", METADATA_TEXT.as_bytes()),
        ("a-1.0.dist-info/WHEEL", about.as_bytes()),
    ];
    packed(&[files, &own].concat(), spoil)
}

/// A wheel of these files and their RECORD.
fn packed(files: &[(&str, &[u8])], spoil: impl Fn(String) -> String) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut record = String::from("a-1.0.dist-info/RECORD,,\n");
    for (name, bytes) in files {
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
fn a_repaired_wheel_tells_of_the_libraries_that_it_brings_along() {
    let files: [(&str, &[u8]); 3] =
        [("a.libs/libx.so.1", b"x"), ("a/own.so", b"y"), ("a.libs.py", b"")];
    let told = |repaired| {
        let bytes = wheel(&files, |record| record);
        let it = Wheel { filename: NAME.into(), bytes, repaired };
        check("a", "1.0", &it, &builder()).unwrap().bundled
    };
    let hash = hex(&Sha256::digest(b"x"));
    assert_eq!(told(true), BTreeMap::from([("a.libs/libx.so.1".to_owned(), hash)]));
    assert_eq!(told(false), BTreeMap::new());
}

#[test]
fn a_true_wheel_is_taken() {
    assert_eq!(verdict(&wheel(&[("a.py", b"x = 1")], |record| record)), Ok(()));
}

/// What is said of a wheel of one file with this RECORD.
fn with_record(spoil: impl Fn(String) -> String) -> Result<(), String> {
    verdict(&wheel(&[("a.py", b"x = 1")], spoil))
}

fn without(record: &str, start: &str) -> String {
    record.lines().filter(|line| !line.starts_with(start)).fold(String::new(), |a, b| a + b + "\n")
}

#[test]
fn a_file_that_record_lists_and_the_wheel_has_not_is_refused() {
    let why = with_record(|record| record + "b.py,,0\n").unwrap_err();
    assert_eq!(why, "RECORD lists b.py, which is not there");
    let twice = with_record(|record| format!("{record}{}", record.lines().nth(1).unwrap()));
    assert_eq!(twice.unwrap_err(), "RECORD lists a.py, which is not there");
}

#[test]
fn a_file_of_another_hash_or_size_than_record_says_is_refused() {
    for (true_one, false_one) in
        [("a.py,sha256=", "a.py,sha256=x"), ("a.py,sha256=", "a.py,md5="), (",5\n", ",6\n")]
    {
        let why = with_record(|record| record.replace(true_one, false_one)).unwrap_err();
        assert_eq!(why, "RECORD is not true of a.py", "{false_one}");
    }
    // Only its own line has neither: it cannot name its own hash.
    let bare = with_record(|record| without(&record, "a.py") + "a.py,,\n").unwrap_err();
    assert_eq!(bare, "RECORD is not true of a.py");
}

#[test]
fn a_file_that_record_does_not_list_is_refused() {
    for file in ["a.py", "a-1.0.dist-info/METADATA", "a-1.0.dist-info/RECORD"] {
        let why = with_record(|record| without(&record, file)).unwrap_err();
        assert_eq!(why, format!("RECORD does not list {file}"));
    }
}

#[test]
fn a_wheel_that_has_a_file_twice_is_refused() {
    let mut bytes = wheel(&[("a.py", b"x = 1"), ("b.py", b"x = 2")], |it| without(&it, "b.py"));
    let names: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"b.py")).collect();
    assert_eq!(names.len(), 2, "before the file, and in the directory");
    names.into_iter().for_each(|at| bytes[at] = b'a');
    assert_eq!(verdict(&bytes).unwrap_err(), "the wheel has \"a.py\" twice");
}

#[test]
fn a_wheel_that_is_another_one_without_its_directory_is_refused() {
    let whole = wheel(&[("a.py", b"x = 1"), ("b.py", b"x = 2")], |record| record);
    let at = |what: &[u8]| whole.windows(what.len()).position(|it| it == what).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        verdict(&bytes)
    };
    assert_eq!(with(at(b"b.py"), b'b'), Ok(()));
    // The name and the size that stand before the file itself.
    for (at, byte) in [(at(b"b.py"), b'/'), (at(b"b.py") - 12, 1)] {
        let why = with(at, byte).unwrap_err();
        assert_eq!(why, "the directory of the wheel is not true of \"b.py\"");
    }
    let directory = at(b"PK\x01\x02");
    let mut hidden = whole.clone();
    hidden.splice(directory..directory, b"PK\x03\x04hidden".iter().copied());
    let offset = hidden.len() - 6;
    let moved = u32::try_from(directory + 10).unwrap().to_le_bytes();
    hidden[offset..offset + 4].copy_from_slice(&moved);
    assert!(verdict(&hidden).unwrap_err().contains("more than its directory says"));
    assert!(verdict(&[b"before", &whole[..]].concat()).is_err());
}

#[test]
fn a_wheel_whose_files_are_described_behind_them_is_taken_and_hides_nothing_there() {
    let about = about("py3-none-any");
    let mut zip = ZipWriter::new_stream(Vec::new());
    let mut record = String::from("a-1.0.dist-info/RECORD,,\n");
    for (name, bytes) in [
        ("a.py", b"x = 1".as_slice()),
        ("a-1.0.dist-info/METADATA", METADATA_TEXT.as_bytes()),
        ("a-1.0.dist-info/WHEEL", about.as_bytes()),
    ] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
        let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(bytes));
        record.push_str(&format!("{name},sha256={hash},{}\n", bytes.len()));
    }
    zip.start_file("a-1.0.dist-info/RECORD", SimpleFileOptions::default()).unwrap();
    zip.write_all(record.as_bytes()).unwrap();
    let whole = zip.finish().unwrap().into_inner();
    let described = whole.windows(4).any(|it| it == b"PK\x07\x08");
    assert!(described, "sizes behind a file");
    assert_eq!(verdict(&whole), Ok(()));
    let directory = whole.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
    // As little as the header of a file.
    let hidden = [&whole[..directory], &[0; 30], &whole[directory..]].concat();
    let mut hidden = hidden;
    let offset = hidden.len() - 6;
    let moved = u32::try_from(directory + 30).unwrap().to_le_bytes();
    hidden[offset..offset + 4].copy_from_slice(&moved);
    assert!(verdict(&hidden).unwrap_err().contains("more than its directory says"));
}

#[test]
fn a_wheel_of_too_many_files_is_refused() {
    let count = u16::try_from(FILES_LIMIT + 1).unwrap();
    // The directory alone: as many empty files, each called by its number.
    let mut bytes = Vec::new();
    for number in 0..count {
        let mut entry = [0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[28] = 5;
        bytes.extend(entry);
        bytes.extend(format!("{number:05}").bytes());
    }
    let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let count = count.to_le_bytes();
    bytes.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &[0; 6]].concat());
    assert_eq!(verdict(&bytes).unwrap_err(), "the wheel has 50001 files");
}

#[test]
fn only_the_record_of_the_wheel_itself_need_not_name_its_own_hash() {
    let name = "a/b-1.0.dist-info/RECORD";
    let why = verdict(&wheel(&[(name, b"x")], |record| without(&record, name) + name + ",,\n"));
    assert_eq!(why.unwrap_err(), format!("RECORD is not true of {name}"));
}

#[test]
fn names_that_end_a_line_of_record_are_refused() {
    let name = "a.py\nb.py,,";
    assert!(verdict(&wheel(&[(name, b"x")], |record| record)).is_err());
}

#[test]
fn links_devices_and_pipes_in_a_wheel_are_refused() {
    for kind in [0o120_777_u32, 0o020_666, 0o060_666, 0o010_666] {
        let mut bytes = wheel(&[("node", b"")], |record| record);
        // Its entry in the directory: 46 bytes, with what made it and what it is, then its name.
        let entry = |it: &[u8]| it.starts_with(b"PK\x01\x02") && it[46..].starts_with(b"node");
        let at = bytes.windows(50).position(entry).expect("its entry");
        bytes[at + 5] = 3;
        bytes[at + 38..at + 42].copy_from_slice(&(kind << 16_u32).to_le_bytes());
        let why = verdict(&bytes).unwrap_err();
        assert!(why.contains("\"node\""), "{kind:o}: {why}");
    }
}

#[test]
fn what_leads_out_of_the_wheel_is_refused() {
    for name in ["../a.py", "/etc/a", "a/../../b", "a\\b", "c:/a", "a//b"] {
        let why = verdict(&wheel(&[(name, b"")], |record| record)).unwrap_err();
        assert!(why.contains("leads out"), "{name}: {why}");
    }
}

#[test]
fn a_bomb_is_not_unpacked_and_a_file_of_zeros_is_none() {
    let zeros = vec![0; 11 << 20];
    let table: (&str, &[u8]) = ("a.bin", &zeros);
    assert_eq!(verdict(&wheel(&[table, ("b.bin", &zeros)], |record| record)), Ok(()));
    let why = wheel(&[table, ("b.bin", &zeros), ("c.bin", &zeros)], |record| record);
    let why = verdict(&why).unwrap_err();
    assert!(why.contains("bomb") && why.contains("c.bin"), "{why}");
}

#[test]
fn a_wheel_becomes_no_more_than_its_size_and_the_limit_allow() {
    assert_eq!(unpacked_limit(0), SMALL);
    assert_eq!(unpacked_limit(1 << 20), 200 << 20);
    assert_eq!(unpacked_limit(u64::MAX), SIZE_LIMIT);
}

#[test]
fn another_package_version_or_platform_is_refused() {
    let bytes = wheel(&[], |record| record);
    for name in [
        "b-1.0-py3-none-any.whl",
        "a-1.1-py3-none-any.whl",
        "a-1.0-cp312-cp312-linux_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux2014_x86_64.whl",
        "a-1.0-cp311-cp311.cp312-linux_x86_64.whl",
        "a-1.0-py2-none-any.whl",
        "a-1.0.zip",
    ] {
        let why = checked("1.0", name, &bytes).unwrap_err();
        let told = ["the build made", "the tags of", "no name of a wheel"];
        assert!(told.iter().any(|it| why.contains(it)), "{name}: {why}");
    }
    assert!(checked("2.0", "a-2.0-py3-none-any.whl", &bytes).is_err());
    assert!(verdict(b"not a zip").is_err());
}

#[test]
fn what_tells_about_a_wheel_is_there_once_and_says_what_its_name_says() {
    let (metadata, about) = (METADATA_TEXT.as_bytes(), about("py3-none-any"));
    let of = |files: &[(&str, &[u8])]| verdict(&packed(files, |record| record));
    let whole = ("a-1.0.dist-info/METADATA", metadata);
    assert!(of(&[whole]).unwrap_err().contains("no WHEEL"));
    let wheel_of = |text: &str| of(&[whole, ("a-1.0.dist-info/WHEEL", text.as_bytes())]);
    assert_eq!(wheel_of(&about), Ok(()));
    for bad in [
        "",
        "Tag: py3-none-any\n",
        "Wheel-Version: 2.0\nTag: py3-none-any\n",
        "Wheel-Version: 1.0\n",
        "Wheel-Version: 1.0\nTag: py2-none-any\n",
        "Wheel-Version: 1.0\nTag: py3-none-any\nTag: cp311-cp311-linux_x86_64\n",
        "Wheel-Version: 1.0\nTag: py3-none\n",
    ] {
        assert!(wheel_of(bad).unwrap_err().contains("WHEEL"), "{bad}");
    }
    let many = format!("Wheel-Version: 1.0\nTag: {}-none-any\n", ["py3"; 9000].join("."));
    assert!(wheel_of(&many).unwrap_err().contains("WHEEL"));
    let own = ("a-1.0.dist-info/WHEEL", about.as_bytes());
    let other = [whole, own, ("b-1.0.dist-info/METADATA", metadata)];
    assert!(of(&other).unwrap_err().contains("not one folder"));
    let elsewhere =
        [("b-1.0.dist-info/METADATA", metadata), ("b-1.0.dist-info/WHEEL", about.as_bytes())];
    assert!(of(&elsewhere).unwrap_err().contains("not one folder"));
}

#[test]
fn what_is_kept_in_memory_of_a_wheel_is_bounded() {
    // Not so regular that it would be taken for a bomb.
    let line = |n: u32| format!("Classifier: {:x}\n", n.wrapping_mul(2_654_435_761));
    let long = (0..210_000).map(line).collect::<String>();
    let text = format!("Metadata-Version: 2.1\nName: a\nVersion: 1\n{long}");
    let about = about("py3-none-any");
    let files: [(&str, &[u8]); 2] = [
        ("a-1.0.dist-info/METADATA", text.as_bytes()),
        ("a-1.0.dist-info/WHEEL", about.as_bytes()),
    ];
    let why = verdict(&packed(&files, |record| record)).unwrap_err();
    assert!(why.contains("METADATA has over 4096 KiB"), "{why}");
}

#[test]
fn a_wheel_for_this_python_and_later_ones_is_taken() {
    let verdict = |python: &str| {
        let about = about(&format!("{python}-none-any"));
        let bytes = packed(
            &[
                ("a-1.0.dist-info/METADATA", METADATA_TEXT.as_bytes()),
                ("a-1.0.dist-info/WHEEL", about.as_bytes()),
            ],
            |record| record,
        );
        checked("1.0", &format!("a-1.0-{python}-none-any.whl"), &bytes)
    };
    for good in ["py38", "py311", "py2.py3"] {
        assert_eq!(verdict(good), Ok(()), "{good}");
    }
    assert!(verdict("py312").unwrap_err().contains("the tags of"));
}

#[test]
fn a_name_that_is_no_file_name_anywhere_is_refused() {
    let bytes = wheel(&[], |record| record);
    for name in [
        "a-1.0-py3-none-any/../x.whl",
        "a-1.0-py3\n-none-any.whl",
        "a-1.0+\u{e4}-py3-none-any.whl",
        "a-1.0-py3-none-any?.whl",
    ] {
        let why = checked("1.0", name, &bytes).unwrap_err();
        assert!(why.contains("no name of a wheel"), "{name}: {why}");
    }
    for tags in ["py3.jy3-none-any", "py3-none.cp39-any", "py3-none-any.win32"] {
        let why = checked("1.0", &format!("a-1.0-{tags}.whl"), &bytes).unwrap_err();
        assert!(why.contains("the tags of"), "{tags}: {why}");
    }
}
