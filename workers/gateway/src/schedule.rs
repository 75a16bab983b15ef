//! The scheduler's part of the gateway: contexts, tags and resources.
//!
//! [`original`] answers the requests of the original system in its shapes, [`v1`] the same as
//! resources; what both do is in [`ops`]. Rows are written here, and orders by hand are sent to
//! the scheduler's queue; nothing is started or stopped from here.

mod changes;
pub mod ops;
pub mod original;
mod overrides;
mod savings;
mod strict;
mod tried;
pub mod v1;

use aws_config::SdkConfig;
use axum::{Router, middleware};
use flotilla_runtime::{aws, config::Reader};
use schedule_executor::{
    arn::{Home, account_of_queue},
    store::{Store, TableNames},
};

use crate::cors;

/// Where contexts and orders go.
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// `FLOTILLA_CONTEXTS_TABLE`, `FLOTILLA_RESOURCES_TABLE`, `FLOTILLA_TAGS_TABLE`,
    /// `FLOTILLA_STATES_TABLE`.
    pub tables: TableNames,
    /// `FLOTILLA_AUDIT_TABLE`: why what was done.
    pub audit: String,
    /// `FLOTILLA_SCHEDULE_QUEUE_URL`: the scheduler's queue.
    pub queue_url: String,
    /// `FLOTILLA_ACCOUNT`: the scheduler's own account (default: that of its queue).
    pub account: String,
}

impl ScheduleConfig {
    /// Reads the settings; none, where no table of contexts is named: the gateway then serves
    /// without this part.
    pub fn read(settings: &mut Reader) -> Option<Self> {
        settings.optional("FLOTILLA_CONTEXTS_TABLE")?;
        let tables = TableNames::read(settings);
        let audit = settings.required("FLOTILLA_AUDIT_TABLE");
        let queue_url = settings.required("FLOTILLA_SCHEDULE_QUEUE_URL");
        let account = settings.optional("FLOTILLA_ACCOUNT");
        let account = account.unwrap_or_else(|| account_of_queue(&queue_url).to_owned());
        Some(Self { tables, audit, queue_url, account })
    }
}

/// What every request needs.
#[derive(Debug, Clone)]
pub struct Schedules {
    pub(crate) store: Store,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) queue_url: String,
    pub(crate) audit: String,
    /// Where ids are that are no ARNs.
    pub(crate) home: Home,
}

impl Schedules {
    /// The part, on the SDK's endpoint.
    pub fn new(config: ScheduleConfig, sdk: &SdkConfig) -> Self {
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        Self {
            store: Store::new(aws::dynamo_client(sdk), config.tables),
            sqs: aws::sqs_client(sdk),
            queue_url: config.queue_url,
            audit: config.audit,
            home: Home { account: config.account, region },
        }
    }

    /// All its requests.
    pub fn router(self) -> Router {
        let router = original::router().merge(v1::router()).merge(v1::more::router());
        let router = router.with_state(self).layer(middleware::from_fn(v1::parameters));
        router.layer(middleware::from_fn(cors::allow))
    }
}
