//! A hit: the page of a package whose wheels are known, and a wheel that is built, asked for in
//! turns on connections that are kept.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::process::Command;

use super::{
    cold,
    farm::Farm,
    servers::{Content, PEERS, Peer},
};
use crate::{
    Trouble,
    figure::{Better, Figure},
    http, peers,
    process::{self, Process},
    rates::median,
    settings::Settings,
};

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;
/// The name of the figure for the wait.
const P99: &str = "compile.hit_p99_ms";

/// What a server did in a window.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Requests a second.
    per_second: f64,
    /// Requests for a second of its processor time.
    per_core: f64,
    /// Of a hundred requests, 99 waited no longer, in ms.
    p99_ms: f64,
}

/// Measures the gateway, and every server that can be had beside it.
pub(super) async fn run(farm: &Farm, settings: &Settings) -> Result<(), Trouble> {
    let tools = match peers::install("nginx").await {
        Ok(place) => place,
        Err(why) => {
            eprintln!("left out: the figures of hits: wrk: {why}");
            return Ok(());
        }
    };
    let load = Load::new(tools)?;
    let (content, paths) = content(farm).await?;
    let ours = Side { process: &farm.gateway, address: &farm.address, paths: &paths };
    let alone = load.measure(&ours, settings).await?;
    Figure::new(P99, alone.p99_ms, "ms", Better::Lower)
        .target(10.0)
        .detail(
            json!({ "connections": CONNECTIONS, "requests_per_second": alone.per_second.round(),
            "page_bytes": content.page.len(), "machine_load": process::load() }),
        )
        .print();
    for peer in PEERS.iter().filter(|peer| settings.wants(&[peer.figure])) {
        match peers::install(peer.installed_by).await {
            Ok(place) => beside(&load, peer, &place, &ours, &content, settings).await?,
            Err(why) => eprintln!("left out: {}: {why}", peer.figure),
        }
    }
    Ok(())
}

async fn beside(
    load: &Load,
    peer: &Peer,
    place: &Path,
    ours: &Side<'_>,
    content: &Content,
    settings: &Settings,
) -> Result<(), Trouble> {
    let server = match peer.start(place, content).await {
        Ok(server) => server,
        Err(why) => {
            eprintln!("left out: {}: {why}", peer.figure);
            return Ok(());
        }
    };
    let theirs = Side { process: &server.process, address: &server.address, paths: &server.paths };
    let (mut pairs, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let (a, b) = (load.measure(ours, settings).await?, load.measure(&theirs, settings).await?);
        ratios.push(a.per_core / b.per_core);
        pairs.push(json!({ "flotilla": told(&a), "peer": told(&b) }));
    }
    server.process.kill().await;
    Figure::new(peer.figure, median(ratios), "ratio", Better::Higher)
        .target(peer.target)
        .detail(json!({ "per": "second of the server's processor time", "rounds": pairs,
            "connections": CONNECTIONS, "machine_load": process::load() }))
        .print();
    Ok(())
}

fn told(rate: &Rate) -> serde_json::Value {
    json!({ "per_second": rate.per_second.round(), "per_core": rate.per_core.round(),
        "p99_ms": rate.p99_ms })
}

/// Has a wheel built, and takes what pip would see.
async fn content(farm: &Farm) -> Result<(Content, [String; 2]), Trouble> {
    let package = &cold::PACKAGES[0];
    farm.package(package.name, package.version, "").await?;
    let page = format!("/o/default/simple/{}/", package.name);
    let body = http::get(&farm.address, &page).await?.body;
    let text = String::from_utf8_lossy(&body);
    let parts = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let names = parts.filter_map(|url| url.split('#').next()?.rsplit('/').next());
    let files: Vec<String> =
        names.filter(|name| name.ends_with(".whl")).map(str::to_owned).collect();
    let ours = format!("-{}-", package.version);
    let wheel = files.iter().find(|name| name.contains(&ours)).cloned();
    let wheel = wheel.ok_or_else(|| Trouble::new(format!("{page} has no wheel {ours}")))?;
    let path = format!("/o/default/wheels/{}/{}/{wheel}", package.name, package.version);
    let sent = http::get(&farm.address, &path).await?;
    let url = sent.headers.get("location").cloned().unwrap_or_default();
    let at = url.strip_prefix("http://").and_then(|url| url.split_once('/'));
    let (host, key) = at.ok_or_else(|| Trouble::new(format!("{path} leads to {url:?}")))?;
    let bytes = http::get(host, &format!("/{key}")).await?.body;
    Ok((Content { name: package.name.to_owned(), page: body, files, wheel, bytes }, [page, path]))
}

/// A server under load.
struct Side<'a> {
    process: &'a Process,
    address: &'a str,
    paths: &'a [String; 2],
}

/// wrk, with a script that asks for two paths in turns and counts.
struct Load {
    tools: PathBuf,
    folder: tempfile::TempDir,
}

impl Load {
    fn new(tools: PathBuf) -> Result<Self, Trouble> {
        let folder = tempfile::tempdir().map_err(|e| Trouble::new(format!("a folder: {e}")))?;
        Ok(Self { tools, folder })
    }

    async fn measure(&self, side: &Side<'_>, settings: &Settings) -> Result<Rate, Trouble> {
        self.run(side, settings.warm_up.max(Duration::from_secs(1))).await?;
        let (before, clock) = (side.process.cost().cpu, Instant::now());
        let (requests, p99_ms) = self.run(side, settings.window).await?;
        let (seconds, cpu) = (clock.elapsed().as_secs_f64(), side.process.cost().cpu - before);
        Ok(Rate { per_second: requests / seconds, per_core: requests / cpu, p99_ms })
    }

    /// Requests that were answered well, and the wait in ms.
    async fn run(&self, side: &Side<'_>, time: Duration) -> Result<(f64, f64), Trouble> {
        let script = self.folder.path().join("turns.lua");
        let failed = |e: String| Trouble::new(format!("wrk on {}: {e}", side.address));
        std::fs::write(&script, turns(side.paths)).map_err(|e| failed(e.to_string()))?;
        let mut command = Command::new(self.tools.join("usr/bin/wrk"));
        command.env("LD_LIBRARY_PATH", self.tools.join("usr/lib/x86_64-linux-gnu"));
        command.args([
            "-t1",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{}s", time.as_secs().max(1)),
        ]);
        command.args(["--timeout", "30s", "-s"]).arg(script);
        command.arg(format!("http://{}", side.address)).kill_on_drop(true);
        let output = command.output().await.map_err(|e| failed(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().find_map(|line| line.strip_prefix("counted "));
        let numbers: Vec<f64> =
            said.unwrap_or_default().split(' ').filter_map(|it| it.parse().ok()).collect();
        match numbers[..] {
            [requests, 0.0, p99] => Ok((requests, p99 / 1000.0)),
            _ => Err(failed(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))),
        }
    }
}

/// The script: the paths in turns, and at the end requests, errors, and the 99th of a hundred (in µs).
fn turns(paths: &[String; 2]) -> String {
    let [a, b] = paths;
    format!(
        "local paths, n = {{ '{a}', '{b}' }}, 0\n\
         request = function() n = n + 1; return wrk.format('GET', paths[n % 2 + 1]) end\n\
         done = function(summary, latency)\n\
           local e = summary.errors\n\
           local bad = e.connect + e.read + e.write + e.status + e.timeout\n\
           print(string.format('counted %d %d %d', summary.requests, bad, latency:percentile(99)))\n\
         end\n"
    )
}
