//! The options of PyPI's packages, and what they come to in a build.

use std::collections::BTreeMap;

use crate::{
    builder::BuilderInfo,
    names::normalize,
    options::{BadOptions, Options, Rules, level, march, names, switch},
};

/// Variables that a build may be given as `env.NAME=value`.
const VARIABLES: &[&str] =
    &["CFLAGS", "CPPFLAGS", "LDFLAGS", "CXXFLAGS", "SETUPTOOLS_SCM_PRETEND_VERSION"];

/// Every name.
const ANY: &[&str] = &[];

pub(super) const RULES: Rules = Rules {
    known: "march, opt, debug, lto, extras, python, env.NAME, config.NAME",
    value,
    kinds: &[("env", VARIABLES), ("config", ANY)],
    default,
};

/// An option set from a text.
///
/// # Errors
/// As [`Options::from_pairs`].
pub fn options(text: &str) -> Result<Options, BadOptions> {
    Options::parse(text, &RULES)
}

fn value(name: &str, value: &str) -> Option<Result<String, BadOptions>> {
    Some(match name {
        "march" => march(value),
        "opt" => level(value, &["0", "1", "2", "3", "s", "fast"]),
        "debug" | "lto" => switch(name, value),
        "extras" => names(name, value, normalize),
        "python" => python(value),
        _ => return None,
    })
}

fn default(name: &str) -> Option<&'static str> {
    match name {
        "march" => Some("x86-64"),
        "opt" => Some("2"),
        "debug" | "lto" => Some("no"),
        "extras" => Some(""),
        _ => None,
    }
}

/// A minor version, `3.11`; also written `cp311` or `py3.11`.
fn python(value: &str) -> Result<String, BadOptions> {
    let text = value.to_ascii_lowercase();
    let named = ["cpython", "python", "cp", "py"];
    let text = named.into_iter().find_map(|it| text.strip_prefix(it)).unwrap_or(&text);
    let minor = text.strip_prefix('3').map(|rest| rest.strip_prefix('.').unwrap_or(rest));
    match minor.and_then(|minor| minor.parse::<u8>().ok()) {
        Some(minor) => Ok(format!("3.{minor}")),
        None => Err(BadOptions(format!("python cannot be {value:?}; say a version such as 3.11"))),
    }
}

/// The set for this builder, whose Python is the default.
///
/// # Errors
/// When another Python is asked for.
pub fn settled(options: Options, builder: &BuilderInfo) -> Result<Options, BadOptions> {
    let own = builder.minor();
    match options.get("python") {
        Some(asked) if asked != own => {
            let what = format!("python cannot be {asked:?}; the builder here has {own}");
            Err(BadOptions(what))
        }
        _ => Ok(options.without("python")),
    }
}

impl Options {
    /// The variables that a compiler is told by.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = self.of_kind("env");
        let flags = flags(self);
        for name in ["CFLAGS", "CXXFLAGS"] {
            let own = variables.remove(name).unwrap_or_default();
            variables.insert(name.to_owned(), format!("{flags} {own}").trim().to_owned());
        }
        if self.is_on("lto") {
            let own = variables.remove("LDFLAGS").unwrap_or_default();
            variables.insert("LDFLAGS".to_owned(), format!("-flto {own}").trim().to_owned());
        }
        variables
    }

    /// What the build backend is told (`config.NAME=value`).
    pub fn config_settings(&self) -> BTreeMap<String, String> {
        self.of_kind("config")
    }

    /// The extras of the package whose requirements are there while it is built.
    pub fn extras(&self) -> impl Iterator<Item = &str> {
        self.get("extras").into_iter().flat_map(|names| names.split('+'))
    }
}

fn flags(options: &Options) -> String {
    let march = options.get("march").map(|march| format!("-march={march}"));
    // Said in full: some backends take these in place of the interpreter's own, and not beside them.
    let level = format!("-O{} -fwrapv -DNDEBUG", options.get("opt").unwrap_or("2"));
    let debug = if options.is_on("debug") { "-g" } else { "-g0" };
    // What is compiled says with which flags, also where these make no difference to its code.
    let fixed = format!("{debug} -frecord-gcc-switches");
    let lto = options.is_on("lto").then(|| "-flto".to_owned());
    let flags = [march, Some(level), Some(fixed), lto];
    flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::options::DEFAULT;

    fn parse(text: &str) -> String {
        super::options(text).map_or_else(|why| why.to_string(), |options| options.to_string())
    }

    #[test]
    fn what_is_the_default_is_not_said() {
        for text in ["", "default", "Default", "march=x86-64", "opt=2,-lto", "debug=off"] {
            assert_eq!(parse(text), DEFAULT, "{text}");
        }
    }

    #[test]
    fn an_option_has_one_spelling() {
        for text in ["opt=3,lto=yes", "+lto OPT=-O3", "lto, opt=3 , lto=on", "opt=O3,LTO=1"] {
            assert_eq!(parse(text), "lto=yes,opt=3", "{text}");
        }
        assert_eq!(parse("march=x86_64_v3"), "march=x86-64-v3");
        for text in
            ["extras=speed-ups+b", "extras=B:Speed_Ups", "extras=b+b+speed.ups,extras=b:speed-ups"]
        {
            assert_eq!(parse(text), "extras=b+speed-ups", "{text}");
        }
        assert_eq!(parse("extras="), DEFAULT);
        for text in ["config.a=B", "Config.a=B", "config-settings.a=B", "CONFIG_SETTINGS.a=B"] {
            assert_eq!(parse(text), "config.a=B", "{text}");
        }
    }

    #[test]
    fn what_is_no_option_is_refused_by_name() {
        for (text, word) in [
            ("static-libs", "static-libs"),
            ("march=native", "native"),
            ("opt=7", "opt"),
            ("extras=a/b", "extras"),
            ("+lto,-lto", "say it once"),
            ("env.LD_PRELOAD=x", "LD_PRELOAD"),
            ("env.CFLAGS=a$b", "CFLAGS"),
            ("env.CFLAGS=a%24b", "CFLAGS"),
            ("python=2.7", "python"),
        ] {
            let why = super::options(text).unwrap_err().to_string();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn the_builders_own_python_is_the_default_and_another_is_refused() {
        let builder = BuilderInfo { python: "3.11.2".into(), ..BuilderInfo::default() };
        for text in ["python=3.11", "python=cp311", "PYTHON=py3.11", "python=Python3.11"] {
            let settled = settled(super::options(text).unwrap(), &builder).unwrap();
            assert_eq!(settled, Options::default(), "{text}");
        }
        let why = settled(super::options("python=3.12").unwrap(), &builder).unwrap_err();
        assert!(why.to_string().contains("3.12") && why.to_string().contains("3.11"), "{why}");
    }

    #[test]
    fn options_become_flags() {
        let options = super::options("march=x86-64-v3,opt=3,lto,env.CFLAGS=-DX=1").unwrap();
        let environment = options.environment();
        assert_eq!(
            environment["CFLAGS"],
            "-march=x86-64-v3 -O3 -fwrapv -DNDEBUG -g0 -frecord-gcc-switches -flto -DX=1"
        );
        assert_eq!(environment["LDFLAGS"], "-flto");
        // The default is said too.
        assert!(Options::default().environment()["CFLAGS"].starts_with("-O2 "));
        let config = super::options("config.--build-option=fast").unwrap();
        assert_eq!(config.config_settings()["--build-option"], "fast");
    }

    #[test]
    fn several_flags_fit_into_one_variable_however_they_are_written() {
        let encoded = super::options("env.CFLAGS=-O3%20-g").unwrap();
        assert_eq!(encoded.environment()["CFLAGS"].split_once("-O3").unwrap().1, " -g");
        let named = [("env.CFLAGS", "-O3 -g")];
        assert_eq!(Options::from_pairs(named, &RULES).unwrap(), encoded);
        assert_eq!(super::options(&encoded.to_string()).unwrap(), encoded);
        let settings = super::options("config.a=1%2C2").unwrap().config_settings();
        assert_eq!(settings["a"], "1,2");
        assert!(super::options("env.CFLAGS=a%0Ab").is_err(), "no line may end in it");
    }

    proptest! {
        #[test]
        fn order_spelling_and_separators_never_matter(
            words in Just(["march=haswell", "+lto", "opt=3", "debug", "config.a=B"].to_vec())
                .prop_shuffle(),
            take in 0..=5usize,
            separators in proptest::collection::vec("[, ]{1,3}", 5),
            upper in any::<bool>(),
        ) {
            let mut text = String::new();
            for (word, separator) in words[..take].iter().zip(&separators) {
                let plain = word.contains('.') || !upper;
                text.push_str(&if plain { (*word).to_owned() } else { word.to_uppercase() });
                text.push_str(separator);
            }
            let mut sorted = words[..take].to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(parse(&text), parse(&sorted.join(",")));
        }

        #[test]
        fn the_canonical_form_is_read_as_itself(text in "[a-z0-9=,+.% -]{0,40}|env.CFLAGS=[ -~]{0,20}") {
            if let Ok(options) = super::options(&text) {
                prop_assert_eq!(super::options(&options.to_string()), Ok(options));
            }
        }
    }
}
