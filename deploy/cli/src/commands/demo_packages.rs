//! The part of the demo that compiles a package.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{error::Error, fleet::Fleet, http};

/// A small package with C in it.
const PACKAGE: (&str, &str) = ("markupsafe", "2.1.5");
const OPTIONS: &str = "march=x86-64-v3";
/// How long a build may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Has the gateway compile a package twice: the second answer must be the first. Gives what to
/// tell of it; where the registry cannot be reached, that.
pub(crate) async fn compile(fleet: &Fleet) -> Result<String, Error> {
    let (package, version) = PACKAGE;
    let gateway = fleet.gateway().unwrap_or_default();
    let query = format!("package={package}&version={version}&useflag={OPTIONS}&wait=1");
    let url = format!("http://{gateway}/package?{query}");
    let (cold, first) = ask(&url).await?;
    if first["status"] != "SUCCESS" {
        let why = first["errorMessage"].as_str().unwrap_or("it does not answer");
        let what = format!("{package} {version} was not compiled: {why}");
        // What upstream does not answer says nothing of the fleet.
        if !why.starts_with("GET ") {
            return Err(Error::Fleet(what));
        }
        return Ok(format!("\n{what} (NOT SHOWN: no registry can be reached)"));
    }
    let (warm, second) = ask(&url).await?;
    let object = |answer: &Value| {
        let url = answer["linkS3"].as_str().unwrap_or_default();
        url.split('?').next().unwrap_or_default().to_owned()
    };
    if object(&first) != object(&second) {
        return Err(Error::Fleet(format!("{package} {version} was compiled twice")));
    }
    let (cold, warm, blob) = (cold.as_secs_f64(), warm.as_secs_f64(), object(&first));
    Ok(format!(
        "\n{package} {version} with {OPTIONS}: compiled in {cold:.1} s, then had in {warm:.3} s\n  {blob}"
    ))
}

async fn ask(url: &str) -> Result<(Duration, Value), Error> {
    let start = Instant::now();
    let answer = http::get(url, PATIENCE).await;
    let (_, body) = answer.ok_or_else(|| Error::Fleet(format!("{url} does not answer")))?;
    let answer = serde_json::from_str(&body);
    Ok((start.elapsed(), answer.map_err(|e| Error::Fleet(format!("{url}: {e}: {body}")))?))
}
