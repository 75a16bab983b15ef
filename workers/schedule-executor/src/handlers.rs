//! How each kind of resource is observed and switched.
//!
//! A handler is one module behind [`Handler`]: it knows its service's calls and states, and
//! nothing of schedules, tables or messages. Every call goes through a [`Caller`], which keeps to
//! the rate that the service takes.

mod appstream;
mod caller;
mod clusters;
mod ec2;
mod ecs;
mod groups;
mod places;
mod rds;
pub mod tagging;

use std::{collections::HashMap, future::Future};

use aws_config::SdkConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use flotilla_runtime::failure::chain;

pub use self::{
    caller::{Caller, Limits},
    places::{Accounts, Places},
};
use crate::{
    plan::{Action, Observed},
    rows::Service,
};

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

/// A resource and what it is given beside the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The id within the service.
    pub id: String,
    /// The new class for MODCLASS; else words such as `hibernate` or `types=m5a.large,m6i.large`.
    pub attrib: String,
    /// The size to be restored.
    pub size: Option<String>,
}

impl Subject {
    /// The value of `name=value` among the words of the attribute.
    fn word(&self, name: &str) -> Option<&str> {
        let mut words = self.attrib.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What was seen of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: Observed,
    /// Its size, where a stop would lose it.
    pub size: Option<String>,
    /// Its class, or the one that it is about to have: of databases.
    pub class: Option<String>,
    /// When its service starts it by itself, in seconds since 1970: of databases that are stopped.
    pub restarts: Option<i64>,
    /// Why it could not be looked at, though others could.
    pub refused: Option<Refusal>,
}

impl Seen {
    /// What could not be looked at, though others could: nothing is done to it.
    fn refused(why: Refusal) -> Self {
        let state = Observed::Stuck("not to be seen".to_owned());
        Self { refused: Some(why), ..state.into() }
    }
}

impl From<Observed> for Seen {
    fn from(state: Observed) -> Self {
        Self { state, size: None, class: None, restarts: None, refused: None }
    }
}

/// What became of an action, by id: what is worth telling beside that it was done, or why not.
pub type Outcomes = Vec<(String, Result<String, Refusal>)>;

/// A kind of resource in one region.
pub trait Handler: Send + Sync {
    /// The state of each; what the service does not know is missing from the answer.
    fn observe(
        &self,
        ids: &[String],
    ) -> impl Future<Output = Result<HashMap<String, Seen>, Refusal>> + Send;

    /// Does it to each: one that is refused does not keep the others from it.
    fn act(&self, action: Action, subjects: &[Subject]) -> impl Future<Output = Outcomes> + Send;

    /// Asks for the permission to do it to each and does nothing, where the service can be asked.
    fn permitted(&self, action: Action, ids: &[String]) -> impl Future<Output = Outcomes> + Send {
        let _ = action;
        let all: Outcomes = ids.iter().map(|id| (id.clone(), Ok(String::new()))).collect();
        async move { all }
    }
}

/// The handler of a kind.
#[derive(Debug)]
pub enum AnyHandler {
    /// EC2 instances.
    Ec2(ec2::Ec2),
    /// RDS instances.
    Rds(rds::Rds),
    /// AppStream fleets.
    AppStream(appstream::AppStream),
    /// Auto Scaling groups.
    Group(groups::Groups),
    /// Aurora clusters.
    Cluster(clusters::Clusters),
    /// ECS services.
    Ecs(ecs::Ecs),
}

impl AnyHandler {
    /// The handler of a kind, on the configuration of an account and region.
    pub fn new(service: Service, sdk: &SdkConfig, caller: Caller) -> Self {
        match service {
            Service::Ec2 => Self::Ec2(ec2::Ec2::new(sdk, caller)),
            Service::Rds => Self::Rds(rds::Rds::new(sdk, caller)),
            Service::AppStream => Self::AppStream(appstream::AppStream::new(sdk, caller)),
            Service::Group => Self::Group(groups::Groups::new(sdk, caller)),
            Service::Cluster => Self::Cluster(clusters::Clusters::new(sdk, caller)),
            Service::Ecs => Self::Ecs(ecs::Ecs::new(sdk, caller)),
        }
    }
}

impl Handler for AnyHandler {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        match self {
            Self::Ec2(it) => it.observe(ids).await,
            Self::Rds(it) => it.observe(ids).await,
            Self::AppStream(it) => it.observe(ids).await,
            Self::Group(it) => it.observe(ids).await,
            Self::Cluster(it) => it.observe(ids).await,
            Self::Ecs(it) => it.observe(ids).await,
        }
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        match self {
            Self::Ec2(it) => it.act(action, subjects).await,
            Self::Rds(it) => it.act(action, subjects).await,
            Self::AppStream(it) => it.act(action, subjects).await,
            Self::Group(it) => it.act(action, subjects).await,
            Self::Cluster(it) => it.act(action, subjects).await,
            Self::Ecs(it) => it.act(action, subjects).await,
        }
    }

    async fn permitted(&self, action: Action, ids: &[String]) -> Outcomes {
        match self {
            Self::Ec2(it) => it.permitted(action, ids).await,
            Self::Rds(it) => it.permitted(action, ids).await,
            Self::AppStream(it) => it.permitted(action, ids).await,
            Self::Group(it) => it.permitted(action, ids).await,
            Self::Cluster(it) => it.permitted(action, ids).await,
            Self::Ecs(it) => it.permitted(action, ids).await,
        }
    }
}

/// An action that a service does not have.
fn impossible(action: Action, service: Service) -> Refusal {
    Refusal::new("refused", format!("{} has no {}", service.name(), action.name()))
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
    fn new(kind: &'static str, message: String) -> Self {
        Self { kind, code: String::new(), message }
    }

    /// That another does the contrary to a resource at this moment.
    pub(crate) fn under_way(key: &str, why: &str) -> Self {
        Self::new("transitional", format!("{key}: {why}"))
    }

    /// The refusal behind an error of any service.
    fn of<E, R>(error: &SdkError<E, R>) -> Self
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
        Self { kind, code, message }
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
    fn may_be_about_one(&self) -> bool {
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
