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
mod look;
mod places;
mod rds;
mod refusal;
pub mod tagging;

use std::{collections::HashMap, future::Future};

use aws_config::SdkConfig;

pub use self::{
    caller::{Caller, Limits},
    places::{Accounts, Places},
    refusal::Refusal,
};
use crate::{
    plan::{Action, Observed},
    rows::Service,
};

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

    /// Asks for the permission to do it to each and does nothing, where the service can be asked; tells
    /// where it cannot.
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
