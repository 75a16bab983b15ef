//! A real Prometheus that scrapes real workers.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::wait::{eventually, http_get};

/// A Prometheus on 127.0.0.1, ended with the test; its data are in a folder of its own.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    addr: String,
    folder: tempfile::TempDir,
}

/// A file of `deploy/mixin`.
pub fn mixin(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/mixin").join(file)
}

impl Prometheus {
    /// Starts it, scraping `targets` once a second.
    ///
    /// # Panics
    /// Where it is not installed: `deploy/dev/setup-tests` does that.
    pub async fn start(targets: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yaml");
        fs::write(&config, configuration(targets)).expect("a file");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let addr = port.expect("a free port").to_string();
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("prometheus; deploy/dev/setup-tests installs it");
        let prometheus = Self { child, addr, folder };
        eventually("a ready Prometheus", Duration::from_secs(30), async || {
            let (status, _) = http_get(&prometheus.addr, "/-/ready").await?;
            (status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// The samples of an instant query: labels and value.
    ///
    /// # Errors
    /// What Prometheus has to say against the query.
    pub async fn query(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let path = format!("/api/v1/query?query={}", escaped(query));
        let (_, body) = http_get(&self.addr, &path).await.ok_or("no answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        let samples = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let sample = |s: &Value| {
            let value = s["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
            (s["metric"].clone(), value)
        };
        Ok(samples.iter().map(sample).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- log of Prometheus ---\n{log}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(targets: &[&str]) -> String {
    let scrape = serde_json::json!({
        "job_name": "flotilla",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{ "targets": targets }],
    });
    let rules = mixin("alerts.yaml").canonicalize().expect("the alerts");
    // JSON is YAML.
    let global = serde_json::json!({ "evaluation_interval": "1s" });
    let all =
        serde_json::json!({ "global": global, "rule_files": [rules], "scrape_configs": [scrape] });
    all.to_string()
}

/// A query string's value: every byte but letters and digits as %XX.
fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b if b.is_ascii_alphanumeric() => (b as char).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}
