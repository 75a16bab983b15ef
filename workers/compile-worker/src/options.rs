//! Option sets: how a package is to be compiled, in one canonical form.
//!
//! Written `march=x86-64-v3,opt=3`, with commas or white space between options, in any order. A
//! switch is also written as a USE flag: `+lto` or `lto`, `-lto`. What is the default is not part
//! of the canonical form, so that saying it makes no second build. Which options there are is the
//! ecosystem's to say ([`Rules`]). The value of `env.NAME` or `config.NAME` may hold any printable
//! character: commas and blanks, which end an option, as `%2C` and `%20`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The text of the empty set.
pub const DEFAULT: &str = "default";
/// An option set has at most this many characters.
const LENGTH_LIMIT: usize = 512;
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

/// What stands as `%` and two digits in the value of an option of a kind.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'+')
    .remove(b'=')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');

/// What a shell would make something of: makefiles hand flags to one.
const SHELL: &str = "$`\\;|&<>";

/// Which options an ecosystem has.
#[derive(Debug)]
pub struct Rules {
    /// Their names, for who asks for another.
    pub known: &'static str,
    /// The one spelling of a value of the option of this name (in lower case); nothing where there
    /// is no such option.
    pub value: fn(name: &str, value: &str) -> Option<Result<String, BadOptions>>,
    /// The kinds of options whose names and values are taken as they are (`env.NAME`), each with the
    /// names that it may have; without names any.
    pub kinds: &'static [(&'static str, &'static [&'static str])],
    /// What an option is that nobody names, where it is something.
    pub default: fn(name: &str) -> Option<&'static str>,
}

/// A canonical option set: sorted, without defaults.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Options(BTreeMap<String, String>);

/// Why a text is no option set, in words for the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOptions(pub(crate) String);

impl Options {
    /// From a text.
    ///
    /// # Errors
    /// As [`from_pairs`](Self::from_pairs), and for a text that is too long.
    pub fn parse(text: &str, rules: &Rules) -> Result<Self, BadOptions> {
        if text.len() > LENGTH_LIMIT {
            return Err(BadOptions(format!("an option set has at most {LENGTH_LIMIT} characters")));
        }
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
        Self::from_pairs(words.filter(|word| !word.eq_ignore_ascii_case(DEFAULT)).map(split), rules)
    }

    /// From names and values, of which each may be said more than once if it says the same.
    ///
    /// # Errors
    /// Names the option that does not exist, cannot be that, or is said twice differently.
    pub fn from_pairs<N, V>(
        pairs: impl IntoIterator<Item = (N, V)>,
        rules: &Rules,
    ) -> Result<Self, BadOptions>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut said = BTreeMap::new();
        for (name, value) in pairs {
            let (name, value) = rules.canonical(name.as_ref().trim(), value.as_ref().trim())?;
            if let Some(other) = said.insert(name.clone(), value.clone())
                && other != value
            {
                let what = format!("{name} is said to be {other:?} and {value:?}");
                return Err(BadOptions(format!("{what}: say it once")));
            }
        }
        said.retain(|name, value| (rules.default)(name) != Some(value.as_str()));
        let options = Self(said);
        match options.to_string().len() > LENGTH_LIMIT {
            true => Err(BadOptions(format!("an option set has at most {LENGTH_LIMIT} characters"))),
            false => Ok(options),
        }
    }

    /// The names and values that are not the default.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What an option is, unless it is the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a switch is on that is off by default.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("yes")
    }

    /// The set without an option.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// The options of a kind, without it: names and plain values of `env.NAME`.
    pub(crate) fn of_kind(&self, kind: &str) -> BTreeMap<String, String> {
        let named = |(name, value): (&String, &String)| {
            let name = name.strip_prefix(kind)?.strip_prefix('.')?;
            Some((name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()))
        };
        self.0.iter().filter_map(named).collect()
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

impl Rules {
    /// Whether a name is that of a kind of options.
    pub(crate) fn is_kind(&self, name: &str) -> bool {
        let name = spelled(name);
        self.kinds.iter().any(|(kind, _)| *kind == name)
    }

    fn canonical(&self, name: &str, value: &str) -> Result<(String, String), BadOptions> {
        if let Some((kind, rest)) = name.split_once('.') {
            return self.named(&spelled(kind), rest, value);
        }
        let name = name.to_ascii_lowercase();
        let known = self.known;
        let none = || BadOptions(format!("there is no option {name:?}; there are: {known}"));
        let value = (self.value)(&name, value).ok_or_else(none)??;
        Ok((name, value))
    }

    /// `env.NAME` and the like, whose names and values are taken as they are, however they are
    /// encoded.
    fn named(&self, kind: &str, name: &str, value: &str) -> Result<(String, String), BadOptions> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+=/:@".contains(c);
        let refuse = |why: String| Err(BadOptions(format!("{kind}.{name}={value}: {why}")));
        let Some((_, names)) = self.kinds.iter().find(|(it, _)| *it == kind) else {
            let kinds: Vec<&str> = self.kinds.iter().map(|(kind, _)| *kind).collect();
            let kinds = kinds.join(" and ");
            return refuse(format!("there is no kind of option {kind:?}; there are {kinds}"));
        };
        if !names.is_empty() && !names.contains(&name) {
            return refuse(format!("a build may be given only {}", names.join(", ")));
        }
        if name.is_empty() || !name.chars().all(plain) {
            return refuse("a name is of letters, digits and -_.+=/:@".to_owned());
        }
        let value = percent_decode_str(value).decode_utf8_lossy();
        let printed = |c: char| (c == ' ' || c.is_ascii_graphic()) && !SHELL.contains(c);
        if value.is_empty() || !value.chars().all(printed) {
            return refuse(format!("a value is of printable ASCII characters, without {SHELL}"));
        }
        Ok((format!("{kind}.{name}"), utf8_percent_encode(&value, ENCODED).to_string()))
    }
}

/// The one spelling of a kind of options; `config-settings` is what PEP 517 calls it.
fn spelled(kind: &str) -> String {
    match kind.to_ascii_lowercase().replace('_', "-").as_str() {
        "config-settings" => "config".to_owned(),
        kind => kind.to_owned(),
    }
}

/// The instruction set, `x86-64-v3`.
pub(crate) fn march(value: &str) -> Result<String, BadOptions> {
    one_of("march", &value.to_ascii_lowercase().replace('_', "-"), &MARCHES)
}

/// The level of optimisation, `3`, `-O3` or `O3`.
pub(crate) fn level(value: &str, allowed: &[&str]) -> Result<String, BadOptions> {
    let value = value.to_ascii_lowercase();
    one_of("opt", value.trim_start_matches('-').trim_start_matches('o'), allowed)
}

pub(crate) fn one_of(name: &str, value: &str, allowed: &[&str]) -> Result<String, BadOptions> {
    match allowed.contains(&value) {
        true => Ok(value.to_owned()),
        false => {
            Err(BadOptions(format!("{name} cannot be {value:?}; it can be {}", allowed.join(", "))))
        }
    }
}

/// Names joined with `+` (or `:`), in one order, each in the one spelling that `normal` gives it.
pub(crate) fn names(
    option: &str,
    value: &str,
    normal: impl Fn(&str) -> Result<String, String>,
) -> Result<String, BadOptions> {
    let names = value.split(['+', ':']).map(str::trim).filter(|name| !name.is_empty());
    let names: Result<BTreeSet<_>, _> = names.map(normal).collect();
    let names = names.map_err(|_| BadOptions(format!("{option} cannot be {value:?}; say a+b")))?;
    Ok(names.into_iter().collect::<Vec<_>>().join("+"))
}

pub(crate) fn switch(name: &str, value: &str) -> Result<String, BadOptions> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" | "1" => Ok("yes".to_owned()),
        "no" | "off" | "false" | "0" => Ok("no".to_owned()),
        _ => Err(BadOptions(format!("{name} cannot be {value:?}; it can be yes or no"))),
    }
}
