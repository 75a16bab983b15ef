//! Option sets: how a package is to be compiled, in one canonical form.
//!
//! Written `march=x86-64-v3,opt=3`, with commas or white space between options, in any order. A
//! switch is also written as a USE flag: `+lto` or `lto`, `-lto`. What is the default is not part
//! of the canonical form, so that saying it makes no second build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use crate::names::normalize;

/// The text of the empty set.
pub const DEFAULT: &str = "default";
/// An option set has at most this many characters.
const LENGTH_LIMIT: usize = 512;
/// The Python that wheels are built for.
const PYTHON: &str = "3.11";
/// What `march` may be.
const MARCHES: [&str; 15] = [
    "x86-64",
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v4",
    "nehalem",
    "sandybridge",
    "ivybridge",
    "haswell",
    "broadwell",
    "skylake",
    "skylake-avx512",
    "icelake-server",
    "znver1",
    "znver2",
    "znver3",
];
/// Variables that a build may be given as `env.NAME=value`.
const VARIABLES: [&str; 5] =
    ["CFLAGS", "CPPFLAGS", "LDFLAGS", "CXXFLAGS", "SETUPTOOLS_SCM_PRETEND_VERSION"];

/// A canonical option set: sorted, without defaults.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Options(BTreeMap<String, String>);

/// Why a text is no option set, in words for the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOptions(String);

impl FromStr for Options {
    type Err = BadOptions;

    fn from_str(text: &str) -> Result<Self, BadOptions> {
        if text.len() > LENGTH_LIMIT {
            return Err(BadOptions(format!("an option set has at most {LENGTH_LIMIT} characters")));
        }
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
        Self::from_pairs(words.filter(|word| *word != DEFAULT).map(split))
    }
}

impl Options {
    /// From names and values, of which each may be said more than once if it says the same.
    ///
    /// # Errors
    /// Names the option that does not exist, cannot be that, or is said twice differently.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, BadOptions>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut said = BTreeMap::new();
        for (name, value) in pairs {
            let (name, value) = canonical(name.as_ref().trim(), value.as_ref().trim())?;
            if let Some(other) = said.insert(name.clone(), value.clone())
                && other != value
            {
                let what = format!("{name} is said to be {other:?} and {value:?}");
                return Err(BadOptions(format!("{what}: say it once")));
            }
        }
        said.retain(|name, value| default(name) != Some(value.as_str()));
        Ok(Self(said))
    }

    /// The names and values that are not the default.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The variables that a compiler is told by.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = self.prefixed("env.").collect();
        let flags = self.flags();
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
        self.prefixed("config.").collect()
    }

    /// The extras of the package whose requirements are there while it is built.
    pub fn extras(&self) -> impl Iterator<Item = &str> {
        self.0.get("extras").into_iter().flat_map(|names| names.split('+'))
    }

    fn flags(&self) -> String {
        let march = self.0.get("march").map(|march| format!("-march={march}"));
        let level = self.0.get("opt").map(|level| format!("-O{level}"));
        let debug = if self.is_on("debug") { "-g" } else { "-g0" };
        let lto = self.is_on("lto").then(|| "-flto".to_owned());
        let flags = [march, level, Some(debug.to_owned()), lto];
        flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn is_on(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "yes")
    }

    fn prefixed(&self, prefix: &str) -> impl Iterator<Item = (String, String)> {
        let named = move |(name, value): (&String, &String)| {
            Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
        };
        self.0.iter().filter_map(named)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(DEFAULT);
        }
        let words: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&words.join(","))
    }
}

/// A word's name and value; a USE flag is a name that is `yes` or `no`.
fn split(word: &str) -> (&str, &str) {
    match (word.split_once('='), word.strip_prefix('+'), word.strip_prefix('-')) {
        (Some((name, value)), _, _) => (name.trim_start_matches('+'), value),
        (None, Some(name), _) => (name, "yes"),
        (None, None, Some(name)) => (name, "no"),
        (None, None, None) => (word, "yes"),
    }
}

fn canonical(name: &str, value: &str) -> Result<(String, String), BadOptions> {
    if let Some((kind, rest)) = name.split_once('.') {
        return named(kind, rest, value);
    }
    let (name, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
    let value = match name.as_str() {
        "march" => one_of(&name, &value.replace('_', "-"), &MARCHES)?,
        "opt" => {
            let level = value.trim_start_matches('-').trim_start_matches('o');
            one_of(&name, level, &["0", "1", "2", "3", "s", "fast"])?
        }
        "debug" | "lto" => switch(&name, &value)?,
        "extras" => extras(&value)?,
        "python" => {
            one_of(&name, value.trim_start_matches("cp").trim_start_matches("py"), &[PYTHON])?
        }
        _ => {
            let known = "march, opt, debug, lto, extras, python, env.NAME, config.NAME";
            return Err(BadOptions(format!("there is no option {name:?}; there are: {known}")));
        }
    };
    Ok((name, value))
}

/// `env.NAME` and `config.NAME`, whose names and values are taken as they are.
fn named(kind: &str, name: &str, value: &str) -> Result<(String, String), BadOptions> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+=/:@%".contains(c);
    let good = |text: &str| !text.is_empty() && text.chars().all(plain);
    let refuse = |why: String| Err(BadOptions(format!("{kind}.{name}={value}: {why}")));
    match kind {
        "env" if !VARIABLES.contains(&name) => {
            refuse(format!("a build may be given only {}", VARIABLES.join(", ")))
        }
        "env" | "config" if !good(name) || !good(value) => {
            refuse("names and values are of letters, digits and -_.+=/:@%".to_owned())
        }
        "env" | "config" => Ok((format!("{kind}.{name}"), value.to_owned())),
        _ => refuse(format!("there is no kind of option {kind:?}; there are env and config")),
    }
}

fn one_of(name: &str, value: &str, allowed: &[&str]) -> Result<String, BadOptions> {
    match allowed.contains(&value) {
        true => Ok(value.to_owned()),
        false => {
            Err(BadOptions(format!("{name} cannot be {value:?}; it can be {}", allowed.join(", "))))
        }
    }
}

/// Names of extras, joined with `+` (or `:`), in one order.
fn extras(value: &str) -> Result<String, BadOptions> {
    let names = value.split(['+', ':']).map(str::trim).filter(|name| !name.is_empty());
    let names: Result<BTreeSet<_>, _> = names.map(normalize).collect();
    let names = names.map_err(|_| BadOptions(format!("extras cannot be {value:?}; say a+b")))?;
    Ok(names.into_iter().collect::<Vec<_>>().join("+"))
}

fn switch(name: &str, value: &str) -> Result<String, BadOptions> {
    match value {
        "yes" | "on" | "true" | "1" => Ok("yes".to_owned()),
        "no" | "off" | "false" | "0" => Ok("no".to_owned()),
        _ => Err(BadOptions(format!("{name} cannot be {value:?}; it can be yes or no"))),
    }
}

fn default(name: &str) -> Option<&'static str> {
    match name {
        "march" => Some("x86-64"),
        "opt" => Some("2"),
        "debug" | "lto" => Some("no"),
        "extras" => Some(""),
        "python" => Some(PYTHON),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> String {
        text.parse::<Options>().map_or_else(|why| why.to_string(), |options| options.to_string())
    }

    #[test]
    fn what_is_the_default_is_not_said() {
        for text in ["", "default", "march=x86-64", "opt=2,-lto", "debug=off python=3.11"] {
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
            ("python=2.7", "python"),
        ] {
            let why = text.parse::<Options>().unwrap_err().to_string();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn options_become_flags() {
        let options: Options = "march=x86-64-v3,opt=3,lto,env.CFLAGS=-DX=1".parse().unwrap();
        let environment = options.environment();
        assert_eq!(environment["CFLAGS"], "-march=x86-64-v3 -O3 -g0 -flto -DX=1");
        assert_eq!(environment["LDFLAGS"], "-flto");
        let config: Options = "config.--build-option=fast".parse().unwrap();
        assert_eq!(config.config_settings()["--build-option"], "fast");
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
        fn the_canonical_form_is_read_as_itself(text in "[a-z0-9=,+. -]{0,40}") {
            if let Ok(options) = text.parse::<Options>() {
                prop_assert_eq!(options.to_string().parse(), Ok(options));
            }
        }
    }
}
