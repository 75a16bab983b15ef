//! Core metadata of a package: METADATA in a wheel, PKG-INFO in a source distribution.

/// What a build may still change, where metadata says that it is dynamic; a resolver needs these.
const RESOLVED_BY: [&str; 3] = ["requires-dist", "requires-python", "provides-extra"];

/// The values of a field, in order.
pub fn values<'t>(text: &'t str, field: &str) -> impl Iterator<Item = &'t str> {
    let lines = text.lines().take_while(|line| !line.trim_end().is_empty());
    lines.filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(field).then(|| value.trim())
    })
}

/// The first value of a field, or nothing.
pub fn value<'t>(text: &'t str, field: &str) -> &'t str {
    values(text, field).next().unwrap_or_default()
}

/// Whether the PKG-INFO of a source says for sure what every wheel of it requires (PEP 643).
pub fn is_static(text: &str) -> bool {
    let version = value(text, "Metadata-Version").split_once('.');
    let version =
        version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let dynamic = |field: &str| RESOLVED_BY.contains(&field.to_ascii_lowercase().as_str());
    version.is_some_and(|version: (u32, u32)| version >= (2, 2))
        && !values(text, "Dynamic").any(dynamic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_with_the_head() {
        let text =
            "Name: a\nrequires-dist: b>1\nRequires-Dist: c ; extra == 'x'\n\nRequires-Dist: d";
        assert_eq!(values(text, "Requires-Dist").collect::<Vec<_>>(), ["b>1", "c ; extra == 'x'"]);
        assert_eq!((value(text, "Name"), value(text, "Version")), ("a", ""));
    }

    #[test]
    fn only_metadata_that_says_so_is_static() {
        for (text, is) in [
            ("Metadata-Version: 2.1\nName: a\n", false),
            ("Metadata-Version: 2.2\nName: a\n", true),
            ("Metadata-Version: 2.10\nDynamic: License-File\n", true),
            ("Metadata-Version: 2.4\nDynamic: requires-dist\n", false),
            ("Metadata-Version: 2.4\nDynamic: Requires-Python\n", false),
            ("Metadata-Version: two\n", false),
            ("Name: a\n", false),
        ] {
            assert_eq!(is_static(text), is, "{text}");
        }
    }
}
