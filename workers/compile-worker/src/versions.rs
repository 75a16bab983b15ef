//! Versions of Python packages (PEP 440): many spellings, one version.

use pep440_rs::Version;

/// The version that a text spells; `None` where it spells none. In names of files a `-` is written
/// `_`.
pub fn parsed(text: &str) -> Option<Version> {
    text.trim().replace('_', "-").parse().ok()
}

/// The one spelling that equal versions share: `1.0.rc1` and `v1.0-rc1` are `1rc1`, `2.1.5.0` is
/// `2.1.5`. What is no version stays as it is written.
pub fn canonical(text: &str) -> String {
    let Some(version) = parsed(text) else { return text.to_owned() };
    let release = version.release();
    let zeros = release.iter().skip(1).rev().take_while(|part| **part == 0).count();
    let kept = release[..release.len() - zeros].to_vec();
    version.with_release(kept).to_string()
}

/// The spelling that installers give files: `1.0.rc1` is `1.0rc1`, and zeros stay.
pub fn normal(text: &str) -> String {
    parsed(text).map_or_else(|| text.to_owned(), |version| version.to_string())
}

/// Whether two texts spell the same version.
pub fn same(left: &str, right: &str) -> bool {
    left == right || canonical(left) == canonical(right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_version_are_one() {
        for (one, other) in [
            ("2.1.5", "2.1.5.0"),
            ("1.0rc1", "1.0.rc1"),
            ("1.0rc1", "v1.0-RC_1"),
            ("1", "1.0.0"),
            ("0", "0.0"),
            ("1.0.post2", "1.0-2"),
            ("1!1.0", "1!1"),
            ("1.0+Ubuntu.1", "1.0+ubuntu-1"),
            ("1.0.dev0", " 1.0dev "),
        ] {
            assert!(same(one, other), "{one} {other}: {} {}", canonical(one), canonical(other));
        }
        for (one, other) in [("1.10", "1.1"), ("1.0rc1", "1.0"), ("1.0", "1.0+a"), ("x", "y")] {
            assert!(!same(one, other), "{one} {other}");
        }
        assert_eq!((canonical("2004d").as_str(), normal("v1.0.RC1").as_str()), ("2004d", "1.0rc1"));
    }

    proptest! {
        #[test]
        fn two_texts_have_one_spelling_where_they_are_one_version(
            one in "v?[0-2](\\.[0-2]){0,3}([-_.]?(a|RC|post|dev)[-_.]?[0-1]){0,2}(\\+[aB][-._]1)?",
            other in "[0-2](\\.[0-2]){0,3}((a|rc|.post|.dev)[0-1])?",
        ) {
            if let (Some(left), Some(right)) = (parsed(&one), parsed(&other)) {
                prop_assert_eq!(left == right, canonical(&one) == canonical(&other));
                prop_assert_eq!(parsed(&canonical(&one)), Some(left));
            }
        }
    }
}
