//! The key that the gateway of a local fleet signs statements with: made with the fleet, and gone with
//! it, like the stack whose artifacts it signs. No other program is told where it is, whoever made it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};

use crate::{
    error::{Doing, Error},
    places,
};

/// The variable that names a key's file.
pub(crate) const SETTING: &str = "FLOTILLA_SIGNING_KEY";

/// A key in a file, which goes with it.
#[derive(Debug)]
pub(crate) struct Key {
    path: PathBuf,
}

impl Key {
    /// Makes a key for the fleet on `stack`; nothing where the environment names one.
    pub(crate) fn make(stack: &str) -> Result<Option<Self>, Error> {
        if std::env::var_os(SETTING).is_some() {
            return Ok(None);
        }
        let path = places::running()?.join(format!("{stack}.pem"));
        let doing = || format!("writing {}", path.display());
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|_| Error::Fleet("no key can be made for signing".to_owned()))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).doing(doing)?;
        }
        // Of a fleet that was killed: the mode of a new file is what counts.
        let _ = fs::remove_file(&path);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).doing(doing)?;
        file.write_all(pem(made.as_ref()).as_bytes()).doing(doing)?;
        Ok(Some(Self { path }))
    }

    /// What the gateway is told.
    pub(crate) fn setting(&self) -> (&'static str, String) {
        (SETTING, self.path.display().to_string())
    }
}

/// The key that the environment names, for the gateway alone.
pub(crate) fn named() -> Option<(&'static str, String)> {
    std::env::var(SETTING).ok().map(|path| (SETTING, path))
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
