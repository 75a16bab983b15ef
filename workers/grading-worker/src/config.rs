//! The grading worker's settings.

use flotilla_runtime::{
    Needs,
    config::{Reader, WorkerConfig},
};
use flotilla_sandbox::{CellLimits, Isolation, SandboxConfig};

/// What the grading worker needs to know beside what every worker does.
#[derive(Debug, Clone)]
pub struct GradingConfig {
    /// `FLOTILLA_SUBMISSIONS_BUCKET`: submissions, problems and results.
    pub bucket: String,
    /// `FLOTILLA_SUBMISSIONS_TABLE`: a row per submission.
    pub table: String,
    /// Where submissions run: `FLOTILLA_SANDBOX_IMAGE` (default `flotilla-python3:latest`),
    /// `FLOTILLA_ISOLATION` (`namespaces`, or `container`), `FLOTILLA_CELL_MEMORY_MIB` (default
    /// 256), `FLOTILLA_CELL_PIDS` (default 64), `FLOTILLA_WARM_CELLS` (default 1). There is a
    /// cell for every slot.
    pub sandbox: SandboxConfig,
}

impl GradingConfig {
    /// Reads the settings, and has no more slots than fit into what the worker may use.
    pub fn read(settings: &mut Reader, worker: &mut WorkerConfig) -> Self {
        let needs = needs(settings);
        worker.fit(settings, &needs);
        Self {
            bucket: settings.required("FLOTILLA_SUBMISSIONS_BUCKET"),
            table: settings.required("FLOTILLA_SUBMISSIONS_TABLE"),
            sandbox: sandbox(settings, worker),
        }
    }
}

/// What a submission needs: a cell.
fn needs(settings: &mut Reader) -> Needs {
    let memory_mib = cell_memory_mib(settings);
    Needs {
        cpus: SandboxConfig::default().cell.cpus,
        memory_mib,
        disk_mib: 0,
        kept_memory_mib: memory_mib * warm_cells(settings) as u64,
    }
}

fn cell_memory_mib(settings: &mut Reader) -> u64 {
    settings.ranged("FLOTILLA_CELL_MEMORY_MIB", 256, 16..=65_536)
}

fn warm_cells(settings: &mut Reader) -> usize {
    settings.ranged("FLOTILLA_WARM_CELLS", 1, 0..=1024)
}

fn sandbox(settings: &mut Reader, worker: &WorkerConfig) -> SandboxConfig {
    let default = SandboxConfig::default();
    let (memory_mib, warm) = (cell_memory_mib(settings), warm_cells(settings));
    SandboxConfig {
        image: settings.optional("FLOTILLA_SANDBOX_IMAGE").unwrap_or(default.image),
        isolation: settings.parsed("FLOTILLA_ISOLATION", Isolation::Namespaces),
        worker_id: worker.worker_id.clone(),
        warm,
        max_cells: worker.slots + warm,
        cell: CellLimits {
            memory_bytes: memory_mib << 20,
            pids: settings.ranged("FLOTILLA_CELL_PIDS", default.cell.pids, 8..=4096),
            ..default.cell
        },
        ..SandboxConfig::default()
    }
}
