//! The options of crates, and what they come to in a build.

use std::collections::BTreeMap;

use crate::options::{BadOptions, Options, Rules, level, march, names, switch};

/// Variables that a build may be given as `env.NAME=value`.
const VARIABLES: &[&str] = &["CFLAGS", "CPPFLAGS", "LDFLAGS", "CXXFLAGS", "RUSTFLAGS"];
/// A feature's name is at most this long.
const FEATURE_LIMIT: usize = 100;

pub(super) const RULES: Rules = Rules {
    known: "march, opt, debug, lto, features, default-features, env.NAME",
    value,
    kinds: &[("env", VARIABLES)],
    default,
};

fn value(name: &str, value: &str) -> Option<Result<String, BadOptions>> {
    Some(match name {
        "march" => march(value),
        "opt" => level(value, &["0", "1", "2", "3", "s", "z"]),
        "debug" | "lto" | "default-features" => switch(name, value),
        "features" => names(name, value, feature),
        _ => return None,
    })
}

/// What is not said about the profile is as the crate has it.
fn default(name: &str) -> Option<&'static str> {
    match name {
        "march" => Some("x86-64"),
        "features" => Some(""),
        "default-features" => Some("yes"),
        _ => None,
    }
}

fn feature(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./?".contains(c);
    match name.len() <= FEATURE_LIMIT && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is no name of a feature")),
    }
}

/// The arguments of cargo.
pub(super) fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = Vec::new();
    if options.get("default-features") == Some("no") {
        arguments.push("--no-default-features".to_owned());
    }
    if let Some(features) = options.get("features") {
        arguments.extend(["--features".to_owned(), features.replace('+', ",")]);
    }
    arguments
}

/// The variables that cargo, and the compilers that build scripts call, are told by.
pub(super) fn environment(options: &Options) -> BTreeMap<String, String> {
    let mut variables = options.of_kind("env");
    if let Some(march) = options.get("march") {
        let mut add = |name: &str, flag: String| {
            let own = variables.remove(name).unwrap_or_default();
            variables.insert(name.to_owned(), format!("{flag} {own}").trim().to_owned());
        };
        add("RUSTFLAGS", format!("-Ctarget-cpu={march}"));
        add("CFLAGS", format!("-march={march}"));
        add("CXXFLAGS", format!("-march={march}"));
    }
    let switched = |name: &str, on: &'static str, off: &'static str| {
        options.get(name).map(|value| if value == "yes" { on } else { off }.to_owned())
    };
    let profile = [
        ("OPT_LEVEL", options.get("opt").map(str::to_owned)),
        ("DEBUG", switched("debug", "2", "0")),
        ("LTO", switched("lto", "fat", "off")),
    ];
    for (name, value) in profile {
        variables.extend(value.map(|value| (format!("CARGO_PROFILE_RELEASE_{name}"), value)));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        Options::parse(text, &RULES).map_or_else(|why| why.to_string(), |it| it.to_string())
    }

    #[test]
    fn features_have_one_order_and_the_crates_own_profile_is_the_default() {
        assert_eq!(parse("features=b+a:a"), "features=a+b");
        assert_eq!(parse("default-features=on,march=x86-64 features="), "default");
        assert_eq!(parse("opt=-O3 -default-features +lto"), "default-features=no,lto=yes,opt=3");
        for (text, word) in [
            ("extras=a", "extras"),
            ("opt=fast", "opt"),
            ("config.a=b", "config"),
            ("python=3.11", "python"),
        ] {
            assert!(parse(text).contains(word), "{text}: {}", parse(text));
        }
    }

    #[test]
    fn options_become_arguments_and_variables() {
        let text =
            "features=b+a,-default-features,march=haswell,lto,opt=s,env.RUSTFLAGS=-Cpanic=abort";
        let options = Options::parse(text, &RULES).unwrap();
        assert_eq!(arguments(&options), ["--no-default-features", "--features", "a,b"]);
        let environment = environment(&options);
        assert_eq!(environment["RUSTFLAGS"], "-Ctarget-cpu=haswell -Cpanic=abort");
        assert_eq!(environment["CARGO_PROFILE_RELEASE_LTO"], "fat");
        assert_eq!(environment["CARGO_PROFILE_RELEASE_OPT_LEVEL"], "s");
        assert_eq!(environment.get("CARGO_PROFILE_RELEASE_DEBUG"), None);
    }
}
