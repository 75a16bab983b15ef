//! The life of a cell: prove that it works, then answer the host until that is gone.

use flotilla_supervisor::PROTOCOL_VERSION;
use flotilla_supervisor::frame::FrameError;
use flotilla_supervisor::protocol::{Exit, File, Limits, Reply, Request, Run, safe_name};
use nix::sys::prctl;

use super::host::Host;
use super::run::Cell;
use super::{Failed, Isolation};

/// Answers the host for ever.
///
/// # Errors
/// Says why the cell cannot go on: it does not work here, or the host does not keep to the
/// protocol.
pub(crate) fn serve(isolation: Isolation) -> Result<(), String> {
    prctl::set_dumpable(false).map_err(|errno| format!("prctl: {errno}"))?;
    let mut host = Host::default();
    let mut cell = match Cell::new(isolation) {
        Ok(cell) => cell,
        Err(failed) => return refuse(&mut host, false, failed.to_string()),
    };
    if let Err(why) = self_check(&cell, &mut host) {
        return refuse(&mut host, isolation == Isolation::Namespaces, why);
    }
    let Err(why) = answer_for_ever(&mut cell, &mut host);
    Err(why.to_string())
}

fn refuse(host: &mut Host, namespaces: bool, why: String) -> Result<(), String> {
    host.send(&Reply::Unsupported { namespaces, why: why.clone() }).map_err(|e| e.to_string())?;
    Err(why)
}

/// A whole run of a program that is surely there: ourselves.
fn self_check(cell: &Cell, host: &mut Host) -> Result<(), String> {
    let ourselves = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let argv = vec![ourselves.to_string_lossy().into_owned(), "--version".into()];
    let run = Run { argv, stdin: Vec::new(), limits: Limits::default() };
    match cell.run(host, 0, &run).map_err(|e| e.to_string())? {
        Ok(report) if report.exit == Exit::Exited(0) => Ok(()),
        Ok(report) => Err(format!("a first run ended with {:?}", report.exit)),
        Err(failed) => Err(failed.to_string()),
    }
}

fn answer_for_ever(
    cell: &mut Cell,
    host: &mut Host,
) -> Result<std::convert::Infallible, FrameError> {
    host.send(&Reply::Ready {
        version: PROTOCOL_VERSION,
        isolation: isolation_name(cell.isolation).into(),
        cgroup: cell.cgroup.version().into(),
    })?;
    loop {
        let reply = match host.request()? {
            Request::Ping => Reply::Pong,
            Request::Kill { .. } => continue,
            Request::Load { files } => load(cell, files)?,
            Request::Run { id, run } => match cell.run(host, id, &run)? {
                Ok(report) => Reply::Report { id, report },
                Err(Failed { stage, errno }) => Reply::SetupFailed { id, stage, errno },
            },
        };
        host.send(&reply)?;
    }
}

fn isolation_name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Namespaces => "namespaces",
        Isolation::Container => "container",
    }
}

fn load(cell: &mut Cell, files: Vec<File>) -> Result<Reply, FrameError> {
    if let Some(file) = files.iter().find(|file| !safe_name(&file.name)) {
        return Err(FrameError::Json(format!("{:?} is not the name of a file", file.name)));
    }
    cell.files = files;
    Ok(Reply::Loaded)
}
