//! What others make, to be compared with: installed from their registries where it is not there yet.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::Trouble;

/// Installs what a folder of `benches/peers` names, if it is not there yet; gives its place.
///
/// # Errors
/// When it cannot be installed here: why is on standard error.
pub async fn install(name: &str) -> Result<PathBuf, Trouble> {
    eprintln!("   {name}: installing, where it is not there yet");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/install");
    let mut command = Command::new(&script);
    command.arg(name).stdin(Stdio::null()).stderr(Stdio::inherit());
    let failed = |e| Trouble::new(format!("cannot run {}: {e}", script.display()));
    let output = command.output().await.map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match (output.status.success(), text.lines().last()) {
        (true, Some(place)) => Ok(PathBuf::from(place)),
        _ => Err(Trouble::new("it cannot be installed here (the lines above say why)")),
    }
}
