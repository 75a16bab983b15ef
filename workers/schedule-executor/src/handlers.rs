//! How each kind of resource is observed and switched.
//!
//! A handler is one module behind [`Handler`]: it knows its service's calls and states, and
//! nothing of schedules, tables or messages.

mod appstream;
mod ec2;
mod rds;
pub mod tagging;

use std::{collections::HashMap, future::Future};

use aws_config::{Region, SdkConfig};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use flotilla_runtime::failure::chain;

use crate::{
    plan::{Action, Observed},
    rows::Service,
};

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The bounded kind: `throttled`, `denied`, `capacity`, `gone`, `transitional`,
    /// `unreachable` or `refused`.
    pub kind: &'static str,
    /// In the service's own words.
    pub message: String,
}

/// A resource and what it is given beside the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The id within the service.
    pub id: String,
    /// The new class for MODCLASS; empty otherwise.
    pub attrib: String,
}

/// What became of an action, by id.
pub type Outcomes = Vec<(String, Result<(), Refusal>)>;

/// A kind of resource in one region.
pub trait Handler: Send + Sync {
    /// The state of each; what the service does not know is missing from the answer.
    fn observe(
        &self,
        ids: &[String],
    ) -> impl Future<Output = Result<HashMap<String, Observed>, Refusal>> + Send;

    /// Does it to each: one that is refused does not keep the others from it.
    fn act(&self, action: Action, subjects: &[Subject]) -> impl Future<Output = Outcomes> + Send;
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
}

impl AnyHandler {
    /// The handler of a kind in a region.
    pub fn new(service: Service, region: &str, sdk: &SdkConfig) -> Self {
        let sdk = in_region(sdk, region);
        match service {
            Service::Ec2 => Self::Ec2(ec2::Ec2::new(&sdk)),
            Service::Rds => Self::Rds(rds::Rds::new(&sdk)),
            Service::AppStream => Self::AppStream(appstream::AppStream::new(&sdk)),
        }
    }
}

impl Handler for AnyHandler {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Observed>, Refusal> {
        match self {
            Self::Ec2(it) => it.observe(ids).await,
            Self::Rds(it) => it.observe(ids).await,
            Self::AppStream(it) => it.observe(ids).await,
        }
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        match self {
            Self::Ec2(it) => it.act(action, subjects).await,
            Self::Rds(it) => it.act(action, subjects).await,
            Self::AppStream(it) => it.act(action, subjects).await,
        }
    }
}

fn in_region(sdk: &SdkConfig, region: &str) -> SdkConfig {
    sdk.clone().into_builder().region(Region::new(region.to_owned())).build()
}

/// An action that a service does not have.
fn impossible(action: Action, service: Service) -> Refusal {
    let message = format!("{} has no {}", service.name(), action.name());
    Refusal { kind: "refused", message }
}

impl Refusal {
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
        let kind = metadata.map_or("unreachable", |it| kind(it.code().unwrap_or_default()));
        Self { kind, message }
    }

    /// Whether another attempt soon may not meet it.
    pub fn passes(&self) -> bool {
        matches!(self.kind, "throttled" | "unreachable")
    }

    /// Whether it may be about one id of many, so that the others are worth a call of their own.
    fn may_be_about_one(&self) -> bool {
        !self.passes() && self.kind != "denied"
    }
}

fn kind(code: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if has(&["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown"]) {
        "throttled"
    } else if has(&["Unauthorized", "AccessDenied", "AuthFailure", "NotPermitted"]) {
        "denied"
    } else if has(&["Insufficient", "Capacity"]) {
        "capacity"
    } else if has(&["NotFound", "Malformed"]) {
        "gone"
    } else if has(&["State", "InUse", "Concurrent"]) {
        "transitional"
    } else if has(&["InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable"]) {
        "unreachable"
    } else {
        "refused"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("InternalError", "unreachable"),
            ("UnsupportedOperation", "refused"),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
