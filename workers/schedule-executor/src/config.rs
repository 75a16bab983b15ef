//! The scheduler's settings.

use std::time::Duration;

use flotilla_runtime::config::{Reader, WorkerConfig};

use crate::{
    arn::{account_of_queue, region},
    handlers::Accounts,
    store::TableNames,
};

/// How many messages are worked on at a time: most of that is waiting for answers, and where one
/// account's are slow the others are not to wait for them.
const SLOTS: usize = 64;

/// What the scheduler needs to know beside what every worker does.
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// Contexts, resources and tags.
    pub tables: TableNames,
    /// `FLOTILLA_AUDIT_TABLE`: the reason of every action and every skip.
    pub audit: String,
    /// `FLOTILLA_REGIONS`: where tags are looked up, separated by commas (default: the worker's
    /// own region).
    pub regions: Vec<String>,
    /// `FLOTILLA_ACCOUNT` (default: that of the queue), `FLOTILLA_ROLE`, `FLOTILLA_EXTERNAL_ID`:
    /// how resources of other accounts are reached.
    pub accounts: Accounts,
    /// `FLOTILLA_TAG_ACCOUNTS`: the other accounts in which tags are looked up, separated by
    /// commas.
    pub tag_accounts: Vec<String>,
    /// `FLOTILLA_STAGE_WAIT_SECONDS`: how long a stage waits for those before it until it is left
    /// to the next tick (default 45 s).
    pub stage_wait: Duration,
    /// `FLOTILLA_STAGE_LIMIT_SECONDS`: after how long a stage goes on although one before it is
    /// not ready (default 900 s).
    pub stage_limit: Duration,
    /// How many stages may wait at a time: half of the slots, so that what can be done is done
    /// meanwhile.
    pub seats: usize,
    /// `FLOTILLA_DRY_RUN`: whether nothing is switched at all.
    pub dry_run: bool,
}

impl ScheduleConfig {
    /// Reads the settings. Where `FLOTILLA_SLOTS` is not set, the worker gets 64.
    pub fn read(settings: &mut Reader, worker: &mut WorkerConfig) -> Self {
        worker.slots_by_default(settings, SLOTS);
        let regions = list(settings, "FLOTILLA_REGIONS");
        for why in regions.iter().filter_map(|it| region(it).err()) {
            settings.mistake(format!("FLOTILLA_REGIONS: {why}"));
        }
        let accounts = accounts(settings);
        let tag_accounts = list(settings, "FLOTILLA_TAG_ACCOUNTS");
        if !tag_accounts.is_empty() && accounts.role.is_none() {
            settings.mistake("FLOTILLA_TAG_ACCOUNTS needs FLOTILLA_ROLE: a role to take in them");
        }
        let tables = TableNames::read(settings);
        Self {
            tables,
            audit: settings.required("FLOTILLA_AUDIT_TABLE"),
            regions,
            accounts,
            tag_accounts,
            stage_wait: settings.seconds("FLOTILLA_STAGE_WAIT_SECONDS", 45.0, (0.0, 600.0)),
            stage_limit: settings.seconds("FLOTILLA_STAGE_LIMIT_SECONDS", 900.0, (0.0, 86_400.0)),
            seats: worker.slots / 2,
            dry_run: settings.parsed("FLOTILLA_DRY_RUN", false),
        }
    }
}

fn list(settings: &mut Reader, name: &str) -> Vec<String> {
    let text = settings.optional(name).unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts.map(str::to_owned).collect()
}

fn accounts(settings: &mut Reader) -> Accounts {
    let queue = settings.optional("FLOTILLA_QUEUE_URL").unwrap_or_default();
    let of_queue = account_of_queue(&queue);
    Accounts {
        own: settings.optional("FLOTILLA_ACCOUNT").unwrap_or_else(|| of_queue.to_owned()),
        role: settings.optional("FLOTILLA_ROLE"),
        external_id: settings.optional("FLOTILLA_EXTERNAL_ID"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_for_waiting_and_half_of_them_for_stages() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut settings = Reader::from_pairs(pairs.iter().copied());
            let mut worker = WorkerConfig::read(&mut settings);
            let seats = ScheduleConfig::read(&mut settings, &mut worker).seats;
            (worker.slots, seats)
        };
        assert_eq!(read(&[]), (64, 32));
        assert_eq!(read(&[("FLOTILLA_SLOTS", "3")]), (3, 1));
        let room = [("FLOTILLA_MEMORY_MIB", "64"), ("FLOTILLA_JOB_MEMORY_MIB", "16")];
        assert_eq!(read(&room), (4, 2));
        assert_eq!(read(&[("FLOTILLA_SLOTS", "1")]), (1, 0), "it is for what can be done now");
    }
}
