//! The part of the demo that stops an instance by its schedule.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_ec2::{Client, types::InstanceStateName};
use flotilla_runtime::tally;
use serde_json::json;

use crate::{error::Error, fleet::Fleet, http, ticker};

/// How long a tick may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// A local endpoint takes any image.
const IMAGE: &str = "ami-12345678";

/// Runs an instance under a schedule that says "stopped", sends one tick, and waits until it is.
/// Gives what to tell of it. In AWS nothing is started, since it would cost money.
pub(crate) async fn stop(fleet: &Fleet) -> Result<String, Error> {
    if fleet.clients().url.is_none() {
        return Ok("\nno instance was stopped by schedule (NOT SHOWN: this is AWS)".to_owned());
    }
    let ec2 = Client::new(&fleet.clients().sdk);
    let id = run_instance(&ec2).await?;
    let start = Instant::now();
    let stopped = stop_by_schedule(fleet, &ec2, &id).await;
    let ended = ec2.terminate_instances().instance_ids(&id).send().await;
    let reason = stopped?;
    ended.map_err(|e| Error::aws(format!("ending instance {id}"), e))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!("\ninstance {id}: stopped by its schedule in {seconds:.1} s\n  {reason}"))
}

async fn run_instance(ec2: &Client) -> Result<String, Error> {
    let call = ec2.run_instances().image_id(IMAGE).min_count(1).max_count(1);
    let answer = call.send().await.map_err(|e| Error::aws("running an instance".to_owned(), e))?;
    let id = answer.instances().first().and_then(|it| it.instance_id());
    Ok(id.ok_or_else(|| Error::Fleet("no instance was started".to_owned()))?.to_owned())
}

async fn stop_by_schedule(fleet: &Fleet, ec2: &Client, id: &str) -> Result<String, Error> {
    register(fleet, id).await?;
    let outputs = fleet.stack()?.outputs();
    let call = fleet.clients().sqs.send_message().queue_url(&outputs.schedule_queue_url);
    call.message_body(ticker::tick())
        .send()
        .await
        .map_err(|e| Error::aws(format!("sending a tick to {}", outputs.schedule_queue_url), e))?;
    tally::sent(&outputs.schedule_queue_url, 1);
    let deadline = Instant::now() + PATIENCE;
    while state(ec2, id).await? != Some(InstanceStateName::Stopped) {
        if Instant::now() > deadline {
            let seconds = PATIENCE.as_secs();
            return Err(Error::Fleet(format!("instance {id} runs {seconds} s after the tick")));
        }
        tokio::time::sleep(LOOK).await;
    }
    reason(fleet, id, deadline).await
}

/// On at the beginning of every year, off at every minute: off.
async fn register(fleet: &Fleet, id: &str) -> Result<(), Error> {
    let gateway = fleet.gateway().unwrap_or_default();
    let url = format!("http://{gateway}/v1/contexts/demo");
    let context = json!({
        "schedulingRuleStart": "0 0 1 1 *",
        "schedulingRuleStop": "* * * * *",
        "resources": { "ec2:instance": [id] },
    });
    match http::put(&url, &context, PATIENCE).await {
        Some((200..300, _)) => Ok(()),
        Some((status, body)) => Err(Error::Fleet(format!("PUT {url}: {status} {body}"))),
        None => Err(Error::Fleet(format!("PUT {url}: no answer"))),
    }
}

async fn state(ec2: &Client, id: &str) -> Result<Option<InstanceStateName>, Error> {
    let answer = ec2.describe_instances().instance_ids(id).send().await;
    let answer = answer.map_err(|e| Error::aws(format!("looking at instance {id}"), e))?;
    let mut found = answer.reservations().iter().flat_map(|it| it.instances());
    Ok(found.next().and_then(|it| it.state()?.name().cloned()))
}

/// What the audit says; its row is written after the act.
async fn reason(fleet: &Fleet, id: &str, deadline: Instant) -> Result<String, Error> {
    let key = format!("ec2:instance/{}/{id}", fleet.clients().region);
    let table = &fleet.stack()?.outputs().audit_table_name;
    loop {
        let call = fleet.clients().dynamo.query().table_name(table).consistent_read(true);
        let call =
            call.key_condition_expression("#r = :r").expression_attribute_names("#r", "resource");
        let call = call.expression_attribute_values(":r", AttributeValue::S(key.clone()));
        let answer = call
            .send()
            .await
            .map_err(|e| Error::aws(format!("reading the audit {table} of {key}"), e))?;
        let reason = answer.items().first().and_then(|it| it.get("reason")?.as_s().ok());
        if let Some(reason) = reason {
            return Ok(reason.clone());
        }
        if Instant::now() > deadline {
            return Err(Error::Fleet(format!("the audit does not say why {key} was stopped")));
        }
        tokio::time::sleep(LOOK).await;
    }
}
