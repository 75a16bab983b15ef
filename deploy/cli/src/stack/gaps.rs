//! The list of what local endpoints are known to leave out of a template.

use serde::Deserialize;

use super::compare::Difference;
use crate::{aws::Endpoint, error::Error};

/// The list that Flotilla ships, `deploy/dev/known-gaps.toml`.
const KNOWN: &str = include_str!("../../../dev/known-gaps.toml");

/// One property that one version of one endpoint does not create.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// `ministack` or `localstack`.
    pub endpoint: String,
    /// The endpoint's exact version.
    pub version: String,
    /// The resource's logical name.
    pub resource: String,
    /// The property, as the report of the difference names it, or the start of its path.
    pub property: String,
    /// Why it is acceptable.
    pub reason: String,
    /// Whether the service's own API can set it, from the template's value.
    #[serde(default)]
    pub fill: bool,
}

/// Known gaps, of all endpoints.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gaps {
    #[serde(default)]
    gap: Vec<Gap>,
}

/// What remains of a comparison once the known gaps are taken out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict<'g> {
    /// Differences that nobody listed.
    pub(crate) unknown: Vec<Difference>,
    /// Listed gaps that were found.
    pub(crate) found: Vec<&'g Gap>,
    /// Listed gaps that are no difference (any more).
    pub(crate) vanished: Vec<&'g Gap>,
}

impl Gaps {
    /// The list embedded in this program.
    pub fn known() -> Result<Self, Error> {
        Self::parse(KNOWN)
    }

    /// Reads a list in the form of known-gaps.toml: `[[gap]]` tables.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| Error::Gaps(e.to_string()))
    }

    /// The gaps of one endpoint.
    pub(crate) fn of(&self, endpoint: &Endpoint) -> impl Iterator<Item = &Gap> {
        self.gap
            .iter()
            .filter(|gap| gap.endpoint == endpoint.name && gap.version == endpoint.version)
    }

    /// Sorts differences into known and unknown, and finds the listed gaps that have vanished.
    /// `filled` says that the gaps that can be filled have been, so that they must be gone.
    pub(crate) fn judge(
        &self,
        endpoint: &Endpoint,
        differences: Vec<Difference>,
        filled: bool,
    ) -> Verdict<'_> {
        let allowed: Vec<&Gap> = self.of(endpoint).filter(|gap| !(filled && gap.fill)).collect();
        let (found, vanished) =
            allowed.iter().partition(|gap| differences.iter().any(|it| gap.covers(it)));
        let unknown = differences.into_iter();
        let unknown = unknown.filter(|it| !allowed.iter().any(|gap| gap.covers(it))).collect();
        Verdict { unknown, found, vanished }
    }
}

impl Verdict<'_> {
    /// What makes the comparison fail, a line each; empty when it passes.
    pub(crate) fn complaints(&self, endpoint: &Endpoint) -> Vec<String> {
        let unknown = self.unknown.iter().map(ToString::to_string);
        let vanished = self.vanished.iter().map(|gap| {
            let Gap { resource, property, .. } = gap;
            format!("{resource}.{property}: no gap of {endpoint} any more, remove it from known-gaps.toml")
        });
        unknown.chain(vanished).collect()
    }
}

impl Gap {
    /// The property that the path begins with: what one call of an API sets.
    pub(crate) fn top(&self) -> &str {
        self.property.split('.').next().unwrap_or_default()
    }

    fn covers(&self, difference: &Difference) -> bool {
        let rest = difference.property.strip_prefix(&self.property);
        self.resource == difference.resource
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(version: &str) -> Endpoint {
        Endpoint { name: "ministack".to_owned(), version: version.to_owned() }
    }

    fn gaps(fill: bool) -> Gaps {
        let text = format!(
            "[[gap]]\nendpoint = 'ministack'\nversion = '1'\nresource = 'T'\n\
             property = 'Ttl'\nreason = 'r'\nfill = {fill}\n"
        );
        Gaps::parse(&text).expect("parses")
    }

    fn difference(property: &str) -> Difference {
        Difference {
            resource: "T".to_owned(),
            property: property.to_owned(),
            expected: "1".to_owned(),
            found: "nothing".to_owned(),
        }
    }

    #[test]
    fn a_listed_gap_is_no_complaint() {
        let gaps = gaps(true);
        let verdict = gaps.judge(&endpoint("1"), vec![difference("Ttl.Enabled")], false);
        assert_eq!(verdict.complaints(&endpoint("1")), Vec::<String>::new());
        assert_eq!(verdict.found.len(), 1);
    }

    #[test]
    fn a_difference_that_nobody_listed_is_a_complaint() {
        let gaps = gaps(true);
        let found = vec![difference("Ttl"), difference("TtlOther")];
        let complaints = gaps.judge(&endpoint("1"), found, false).complaints(&endpoint("1"));
        assert_eq!(complaints, ["T.TtlOther: expected 1, found nothing"]);
    }

    #[test]
    fn a_listed_gap_that_has_vanished_is_a_complaint() {
        let complaints = gaps(true).judge(&endpoint("1"), vec![], false).complaints(&endpoint("1"));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("T.Ttl") && complaints[0].contains("remove it"));
    }

    #[test]
    fn gaps_of_another_version_do_not_count() {
        let gaps = gaps(true);
        let complaints = gaps.judge(&endpoint("2"), vec![difference("Ttl")], false);
        assert_eq!(complaints.unknown.len(), 1);
        assert!(gaps.judge(&endpoint("2"), vec![], false).vanished.is_empty());
    }

    #[test]
    fn after_filling_only_what_cannot_be_filled_may_differ() {
        let once = vec![difference("Ttl")];
        assert_eq!(gaps(true).judge(&endpoint("1"), once.clone(), true).unknown.len(), 1);
        assert!(
            gaps(true).judge(&endpoint("1"), vec![], true).complaints(&endpoint("1")).is_empty()
        );
        assert!(gaps(false).judge(&endpoint("1"), once, true).unknown.is_empty());
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        assert!(Gaps::parse("[[gap]]\nendpont = 'x'").is_err());
        Gaps::known().expect("the shipped list parses");
    }
}
