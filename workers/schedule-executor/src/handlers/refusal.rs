//! Why a call was refused, and what can be done about it.

use std::any::Any;

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use flotilla_runtime::failure::chain;

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The bounded kind: `throttled`, `denied`, `capacity`, `gone`, `transitional`,
    /// `unreachable`, `foreign_account`, `no_endpoint` or `refused`.
    pub kind: &'static str,
    /// The service's code, empty where it said none.
    pub code: String,
    /// In the service's own words.
    pub message: String,
}

impl Refusal {
    /// All kinds.
    pub const KINDS: [&str; 9] = [
        "throttled",
        "denied",
        "capacity",
        "gone",
        "transitional",
        "unreachable",
        "foreign_account",
        "no_endpoint",
        "refused",
    ];

    /// A refusal of our own.
    pub(super) fn new(kind: &'static str, message: String) -> Self {
        Self { kind, code: String::new(), message }
    }

    /// That another does the contrary to a resource at this moment.
    pub(crate) fn under_way(key: &str, why: &str) -> Self {
        Self::new("transitional", format!("{key}: {why}"))
    }

    /// The refusal behind an error of any service.
    pub(super) fn of<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let message = match metadata.and_then(|it| Some((it.code()?, it.message()?))) {
            Some((code, message)) => format!("{code}: {message}"),
            None => chain(error),
        };
        let code = metadata.and_then(|it| it.code()).unwrap_or_default().to_owned();
        let kind = metadata.map_or_else(|| unasked(&message), |_| kind(&code));
        let raw = error.raw_response().and_then(|it| (it as &dyn Any).downcast_ref());
        let status = raw.map_or(0, |it: &HttpResponse| it.status().as_u16());
        Self { kind: of_status(kind, status), code, message }
    }

    /// Whether another attempt soon may not meet it.
    pub fn passes(&self) -> bool {
        Self::passing(self.kind)
    }

    /// The same of a kind.
    pub(crate) fn passing(kind: &str) -> bool {
        matches!(kind, "throttled" | "unreachable")
    }

    /// What whoever asked for it can do about it.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            "throttled" => "others ask for too much as well: ask again in a while",
            "denied" => "give the role or user this permission, and ask again",
            "capacity" => {
                "ask again later, or name other types: --attrib types=m5a.large,m6i.large"
            }
            "gone" => "correct the id, or name where it is with --region or by its ARN",
            "transitional" => "ask again once it has settled",
            "unreachable" => "look at the network and AWS_ENDPOINT_URL, and ask again",
            "no_endpoint" => "correct the region, or name an endpoint by AWS_ENDPOINT_URL",
            "foreign_account" => "name the role with --role, or with --account the own account",
            _ => "correct what the service does not take, and ask again",
        }
    }

    /// Whether it may be about one id of many, so that the others are worth a call of their own.
    pub(super) fn may_be_about_one(&self) -> bool {
        !self.passes()
    }
}

/// The kind where the service itself said nothing: it was not reached, or the role of its account
/// was not given.
fn unasked(message: &str) -> &'static str {
    let denied = ["AccessDenied", "is not authorized", "InvalidClientTokenId", "ExpiredToken"];
    // Of the resolvers of glibc, musl and others: an answer, and not the lack of one.
    let nowhere = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname",
        "No address associated",
    ];
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&denied) {
        "denied"
    } else if has(&nowhere) {
        "no_endpoint"
    } else {
        "unreachable"
    }
}

/// The kind, where the code is one that nobody knows: a fault of the service passes, whatever it is called
/// (`ServerException` of ECS, `InternalServiceException` of the tagging service).
fn of_status(kind: &'static str, status: u16) -> &'static str {
    match (kind, status) {
        ("refused", 429) => "throttled",
        ("refused", 500..) => "unreachable",
        _ => kind,
    }
}

fn kind(code: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if has(&["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown", "BandwidthLimit"]) {
        "throttled"
    } else if has(&[
        "Unauthorized",
        "AccessDenied",
        "AuthFailure",
        "NotPermitted",
        "Token",
        "OptIn",
    ]) {
        "denied"
    } else if has(&["Insufficient", "Capacity"]) {
        "capacity"
    } else if code.is_empty() {
        "unreachable"
    } else if has(&["NotFound", "Malformed"]) {
        "gone"
    } else if has(&["State", "InUse", "Concurrent", "InProgress", "Contention"]) {
        "transitional"
    } else if has(&["InternalError", "InternalFailure", "InternalServer", "Unavailable", "Timeout"])
    {
        "unreachable"
    } else {
        "refused"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_does_not_exist_is_refused_and_one_that_does_not_answer_tried_again() {
        let lookup =
            "dispatch failure: io error: dns error: failed to lookup address information: ";
        for (why, expected) in [
            ("Name or service not known", "no_endpoint"),
            ("Name does not resolve", "no_endpoint"),
            ("Temporary failure in name resolution", "unreachable"),
            ("Try again", "unreachable"),
        ] {
            let kind = unasked(&format!("{lookup}{why}"));
            assert_eq!(
                (kind, Refusal::passing(kind)),
                (expected, expected == "unreachable"),
                "{why}"
            );
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let advice = |kind| Refusal::new(kind, String::new()).advice();
        let all: std::collections::BTreeSet<_> = Refusal::KINDS.into_iter().map(advice).collect();
        assert_eq!(all.len(), Refusal::KINDS.len());
    }

    #[test]
    fn a_fault_of_a_service_passes_whatever_it_is_called() {
        let at = |code: &str, status| of_status(kind(code), status);
        for code in ["ServerException", "InternalServiceException", "InternalError", ""] {
            assert_eq!(at(code, 500), "unreachable", "{code}");
        }
        assert_eq!((at("ServerException", 400), at("Slow", 429)), ("refused", "throttled"));
        assert_eq!(at("InsufficientInstanceCapacity", 500), "capacity");
        assert_eq!(at("InvalidParameterException", 400), "refused");
    }

    #[test]
    fn refusals_are_sorted_by_what_can_be_done_about_them() {
        for (code, expected) in [
            ("RequestLimitExceeded", "throttled"),
            ("ThrottlingException", "throttled"),
            ("UnauthorizedOperation", "denied"),
            ("AccessDeniedException", "denied"),
            ("InsufficientInstanceCapacity", "capacity"),
            ("InvalidInstanceID.NotFound", "gone"),
            ("InvalidInstanceID.Malformed", "gone"),
            ("DBInstanceNotFound", "gone"),
            ("IncorrectInstanceState", "transitional"),
            ("InvalidDBInstanceState", "transitional"),
            ("ScalingActivityInProgress", "transitional"),
            ("ExpiredTokenException", "denied"),
            ("InternalError", "unreachable"),
            ("UnsupportedOperation", "refused"),
            ("", "unreachable"),
        ] {
            assert_eq!(kind(code), expected, "{code}");
            assert!(Refusal::KINDS.contains(&expected), "{expected}");
        }
    }
}
