//! Which devices and problems are meant.

use anomaly_worker::topology;

/// What a filter asks about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The devices that it is about.
    pub(super) devices: &'a [String],
    /// What is wrong, or was said.
    pub(super) kind: &'a str,
    /// The status, where there is one.
    pub(super) status: Option<&'a str>,
    /// When it opened, in Unix milliseconds, where it did.
    pub(super) opened: Option<i64>,
}

/// A choice: of each list that is not empty, one must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) devices: Vec<String>,
    /// Zones by their names: the tubes.
    pub(super) zones: Vec<String>,
    /// Beginnings of ids.
    pub(super) prefixes: Vec<String>,
    /// In capitals.
    pub(super) kinds: Vec<String>,
    /// In capitals.
    pub(super) statuses: Vec<String>,
    /// Opened from then on, in Unix milliseconds.
    pub(super) from: Option<i64>,
    /// Opened before, in Unix milliseconds.
    pub(super) to: Option<i64>,
}

impl Filter {
    /// Whether this is meant.
    pub(super) fn admits(&self, it: &About<'_>) -> bool {
        let one =
            |kinds: &[String], name: &str| kinds.is_empty() || kinds.iter().any(|it| it == name);
        one(&self.kinds, it.kind)
            && (self.statuses.is_empty() || it.status.is_some_and(|it| one(&self.statuses, it)))
            && self.admits_devices(it.devices)
            && self.from.is_none_or(|from| it.opened.is_some_and(|at| at >= from))
            && self.to.is_none_or(|to| it.opened.is_some_and(|at| at < to))
    }

    /// Whether one of these devices is meant.
    pub(super) fn admits_devices(&self, devices: &[String]) -> bool {
        let any = |fits: &dyn Fn(&str) -> bool| devices.iter().any(|id| fits(id));
        (self.devices.is_empty() || any(&|id| self.devices.iter().any(|it| it == id)))
            && (self.zones.is_empty() || any(&|id| self.zones.iter().any(|it| in_zone(id, it))))
            && (self.prefixes.is_empty()
                || any(&|id| self.prefixes.iter().any(|it| id.starts_with(it.as_str()))))
    }
}

fn in_zone(id: &str, zone: &str) -> bool {
    topology::tube(id) == Some(zone)
}

/// A list of names separated by commas, in capitals.
///
/// # Errors
/// Where one cannot be such a name.
pub(super) fn names(what: &str, list: &str) -> Result<Vec<String>, String> {
    list.split(',').map(|name| self::name(what, name)).collect()
}

/// A name such as `UNRESOLVED` or `LAST SENSOR`, in capitals.
///
/// # Errors
/// Where it cannot be one.
pub(super) fn name(what: &str, name: &str) -> Result<String, String> {
    let name = name.trim().to_ascii_uppercase().replace('_', " ");
    let fits = (1..=40).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ' ' | '-'));
    if fits { Ok(name) } else { Err(format!("{what}: {name:.60?} is no name of one")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_list_one_must_fit_and_an_empty_list_asks_nothing() {
        let devices = ["101".to_owned(), "102".to_owned()];
        let status = Some("UNRESOLVED");
        let about = About { devices: &devices, kind: "PROBLEM", status, opened: Some(50) };
        let list = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let none = Filter::default;
        for (filter, admitted) in [
            (none(), true),
            (Filter { devices: list(&["7", "102"]), ..none() }, true),
            (Filter { devices: list(&["10"]), ..none() }, false),
            (Filter { zones: list(&["1"]), ..none() }, true),
            (Filter { zones: list(&["10"]), ..none() }, false),
            (Filter { prefixes: list(&["10"]), ..none() }, true),
            (Filter { kinds: list(&["OBSTRUCTION"]), ..none() }, false),
            (
                Filter { kinds: list(&["OBSTRUCTION", "PROBLEM"]), zones: list(&["1"]), ..none() },
                true,
            ),
            (Filter { kinds: list(&["PROBLEM"]), zones: list(&["2"]), ..none() }, false),
            (Filter { statuses: list(&["RESOLVED"]), ..none() }, false),
            (Filter { from: Some(50), to: Some(51), ..none() }, true),
            (Filter { to: Some(50), ..none() }, false),
        ] {
            assert_eq!(filter.admits(&about), admitted, "{filter:?}");
        }
        let nameless = About { status: None, opened: None, ..about };
        assert!(!Filter { statuses: list(&["UNRESOLVED"]), ..none() }.admits(&nameless));
        assert!(!Filter { from: Some(0), ..none() }.admits(&nameless));
    }

    #[test]
    fn names_are_told_from_nonsense() {
        assert_eq!(names("status", "resolved, last_sensor").unwrap(), ["RESOLVED", "LAST SENSOR"]);
        for nonsense in ["", "a,,b", "a;b", "\u{7}", &"x".repeat(99)] {
            assert!(names("status", nonsense).unwrap_err().starts_with("status: "), "{nonsense:?}");
        }
    }
}
