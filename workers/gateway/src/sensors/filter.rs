//! Which devices and problems are meant.

use super::zones::Zones;

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
    pub(super) fn admits(&self, it: &About<'_>, zones: &Zones) -> bool {
        let one =
            |kinds: &[String], name: &str| kinds.is_empty() || kinds.iter().any(|it| it == name);
        one(&self.kinds, it.kind)
            && (self.statuses.is_empty() || it.status.is_some_and(|it| one(&self.statuses, it)))
            && self.admits_devices(it.devices, zones)
            && self.from.is_none_or(|from| it.opened.is_some_and(|at| at >= from))
            && self.to.is_none_or(|to| it.opened.is_some_and(|at| at < to))
    }

    /// Whether one of these devices is meant.
    pub(super) fn admits_devices(&self, devices: &[String], zones: &Zones) -> bool {
        let any = |fits: &dyn Fn(&str) -> bool| devices.iter().any(|id| fits(id));
        (self.devices.is_empty() || any(&|id| self.devices.iter().any(|it| it == id)))
            && (self.zones.is_empty()
                || any(&|id| zones.of(id).is_some_and(|it| self.zones.contains(&it))))
            && (self.prefixes.is_empty()
                || any(&|id| self.prefixes.iter().any(|it| id.starts_with(it.as_str()))))
    }
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
            assert_eq!(filter.admits(&about, &Zones::default()), admitted, "{filter:?}");
        }
        let nameless = About { status: None, opened: None, ..about };
        assert!(
            !Filter { statuses: list(&["UNRESOLVED"]), ..none() }
                .admits(&nameless, &Zones::default())
        );
        assert!(!Filter { from: Some(0), ..none() }.admits(&nameless, &Zones::default()));
    }
}
