//! What a build may say and ask while it goes on.

use aws_sdk_dynamodb::types::TransactWriteItem;
use flotilla_runtime::{Completion, Lease};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    builds::{Builds, Lock},
    error::Stopped,
    message::BuildOrder,
    steps::Step,
};

/// A build on its way, under its lease.
#[derive(Debug)]
pub struct Progress<'l> {
    /// What was chosen for an attempt before, or for an artifact that is gone.
    pub lock: Option<Lock>,
    /// Takes the log as it comes.
    pub live: UnboundedSender<Vec<u8>>,
    pub(crate) lease: &'l Lease,
    pub(crate) builds: &'l Builds,
    pub(crate) order: &'l BuildOrder,
    pub(crate) pause_at: Option<Step>,
}

impl Progress<'_> {
    /// A step is done.
    pub async fn reached(&self, step: Step) {
        step.reached(self.pause_at).await;
    }

    /// Records what the build is given, before it is: whoever builds it again gives it the same.
    ///
    /// # Errors
    /// Ours; superseded when the request was opened anew.
    pub async fn locked(&self, lock: &Lock) -> Result<(), Stopped> {
        let item: TransactWriteItem = self.builds.lock(self.order, lock)?;
        match self.lease.record(vec![item]).await? {
            Completion::Committed => Ok(()),
            Completion::Refused => {
                Err(Stopped::Superseded("the build was asked for anew meanwhile".to_owned()))
            }
        }
    }
}
