//! Notifications: who is told of a problem, by webhook or SNS, and who next if nobody acknowledges.
//!
//! One gateway tells at a time, by a lease in the table of notifications, where it notes what it
//! has told ([`store`]). It follows the stream of problems from where the owner before it was, and
//! keeps a notice for each episode that lasts ([`notice`]); what is due is sent, and written down
//! at once. Killed between the two, it sends once more, under the same id.

mod notice;
mod send;
mod settings;
mod store;
mod turn;

use std::sync::Arc;

use anomaly_worker::tables::Problems;
use aws_config::SdkConfig;
use flotilla_runtime::{Failure, aws, config::default_worker_id};

pub(super) use self::settings::Policy;
use self::{send::Sender, store::Store, turn::Teller};
use super::{stream::Stream, zones::Zones};

/// Where and how to notify.
#[derive(Debug, Clone)]
pub struct Notify {
    /// `FLOTILLA_NOTIFICATIONS_TABLE`: what was told.
    pub table: String,
    /// From the file that `FLOTILLA_NOTIFY_FILE` names.
    pub(super) policy: Policy,
}

/// Starts to notify, in a task that does not end.
///
/// # Errors
/// Permanent, where this machine has no certificates to trust.
pub(super) fn start(
    notify: &Notify,
    sdk: &SdkConfig,
    problems: &Problems,
    streams: &Arc<[Stream; 2]>,
    zones: &Arc<Zones>,
) -> Result<(), Failure> {
    let teller = Teller {
        // One process, one owner: another one on this machine must wait for the lease to end.
        me: format!("{}-{}", default_worker_id(), std::process::id()),
        policy: notify.policy.clone(),
        store: Store::new(aws::dynamo_client(sdk), &notify.table),
        sender: Sender::new(aws_sdk_sns::Client::new(sdk))?,
        problems: problems.clone(),
        streams: Arc::clone(streams),
        zones: Arc::clone(zones),
    };
    tokio::spawn(teller.run());
    Ok(())
}
