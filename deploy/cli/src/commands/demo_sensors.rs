//! The part of the demo in which a sewer is blocked, and freed.

use std::time::{Duration, Instant};

use flotilla_runtime::tally;
use serde_json::{Value, json};

use crate::{
    error::{Doing, Error},
    fleet::Fleet,
    http,
};

/// How long a reading may take to its problem.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// When the first reading is of, in Unix seconds.
const THEN: i64 = 1_700_000_000;

/// Has the second of two sensors fall and rise again: one problem, opened and resolved. Gives what
/// to tell of it.
pub(crate) async fn block(fleet: &Fleet) -> Result<String, Error> {
    for id in ["01", "02"] {
        say(fleet, id, 100, THEN).await?;
    }
    let start = Instant::now();
    say(fleet, "02", 0, THEN + 60).await?;
    until(fleet, "OBSTRUCTION", "UNRESOLVED").await?;
    let opened = start.elapsed().as_secs_f64();
    say(fleet, "02", 100, THEN + 600).await?;
    let problem = until(fleet, "OBSTRUCTION", "RESOLVED").await?;
    Ok(format!("\nsensors 01 and 02: a blockage told in {opened:.1} s, and resolved\n  {problem}"))
}

async fn say(fleet: &Fleet, id: &str, filling: u32, at: i64) -> Result<(), Error> {
    let queue = &fleet.stack()?.outputs().anomaly_queue_url;
    let body = json!({ "id": id, "filling": filling.to_string(), "at": at }).to_string();
    let call = fleet.clients().sqs.send_message().queue_url(queue).message_body(body);
    call.send().await.doing(|| format!("sending a reading to {queue}"))?;
    tally::sent(queue, 1);
    Ok(())
}

async fn until(fleet: &Fleet, kind: &str, status: &str) -> Result<Value, Error> {
    let url = format!("http://{}/problem/0102", fleet.gateway().unwrap_or_default());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = http::get(&url, PATIENCE).await.map(|(_, page)| page).unwrap_or_default();
        let item = serde_json::from_str::<Value>(&page).unwrap_or_default()["Item"].take();
        if item["problem"] == kind && item["problem_status"] == status {
            return Ok(item);
        }
        if Instant::now() > deadline {
            let seconds = PATIENCE.as_secs();
            let what = format!("{url} is not {kind}, {status} after {seconds} s: {page}");
            return Err(Error::Fleet(what));
        }
        tokio::time::sleep(LOOK).await;
    }
}
