//! The scheduler's settings.

use flotilla_runtime::config::Reader;

use crate::store::TableNames;

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
}

impl ScheduleConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Reader) -> Self {
        let regions = settings.optional("FLOTILLA_REGIONS").unwrap_or_default();
        let regions = regions.split(',').map(str::trim).filter(|it| !it.is_empty());
        let regions = regions.map(str::to_owned).collect();
        let tables = TableNames::read(settings);
        Self { tables, audit: settings.required("FLOTILLA_AUDIT_TABLE"), regions }
    }
}
