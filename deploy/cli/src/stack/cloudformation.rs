//! The calls to CloudFormation itself, with bounded waits and the failed resource's reason.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_sdk_cloudformation::{
    error::ProvideErrorMetadata,
    types::{Capability, Parameter, Stack as Description, StackEvent},
};

use super::template::Template;
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// The longest that a stack may take; in AWS ours takes about a minute.
const PATIENCE: Duration = Duration::from_secs(600);
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(3);

/// Asks for the stack and waits until it is complete; returns its description.
pub(crate) async fn create(
    clients: &Clients,
    name: &str,
    template: &Template,
) -> Result<Description, Error> {
    let parameters = template
        .given()
        .map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build());
    let call = clients.cfn.create_stack().stack_name(name).template_body(template.text());
    // The role of the clocks has a name, so that it can be compared and is seen to be gone.
    let call = call.capabilities(Capability::CapabilityNamedIam);
    let answer = call.set_parameters(Some(parameters.collect())).send().await;
    let id = answer.doing(|| format!("creating stack {name}"))?.stack_id;
    let id = id.unwrap_or_else(|| name.to_owned());
    let stack = wait(clients, &id).await?;
    match stack {
        Some(stack) if status(&stack) == "CREATE_COMPLETE" => Ok(stack),
        stack => Err(failed(clients, name, &id, stack.as_ref()).await),
    }
}

/// Deletes the stack of this id, and waits until it is gone.
pub(crate) async fn delete(clients: &Clients, name: &str, id: &str) -> Result<(), Error> {
    let answer = clients.cfn.delete_stack().stack_name(id).send().await;
    answer.doing(|| format!("deleting stack {name}"))?;
    match wait(clients, id).await? {
        None => Ok(()),
        Some(stack) if status(&stack) == "DELETE_COMPLETE" => Ok(()),
        Some(stack) => Err(failed(clients, name, id, Some(&stack)).await),
    }
}

/// The stack's description, `None` where there is none.
pub(crate) async fn describe(clients: &Clients, id: &str) -> Result<Option<Description>, Error> {
    let answer = clients.cfn.describe_stacks().stack_name(id).send().await;
    match answer {
        Ok(answer) => Ok(answer.stacks.unwrap_or_default().into_iter().next()),
        Err(e) if absent(e.code(), e.message()) => Ok(None),
        Err(e) => Err(Error::aws(format!("describing stack {id}"), e)),
    }
}

fn absent(code: Option<&str>, message: Option<&str>) -> bool {
    code == Some("ValidationError") && message.is_some_and(|it| it.contains("does not exist"))
}

/// Logical name to physical id of everything that the stack lists as made.
pub(crate) async fn physical(
    clients: &Clients,
    id: &str,
) -> Result<HashMap<String, String>, Error> {
    let mut pages =
        clients.cfn.list_stack_resources().stack_name(id).into_paginator().items().send();
    let mut physical = HashMap::new();
    while let Some(resource) = pages.next().await {
        let resource = resource.doing(|| format!("listing the resources of stack {id}"))?;
        if let (Some(logical), Some(made)) =
            (resource.logical_resource_id, resource.physical_resource_id)
        {
            physical.insert(logical, made);
        }
    }
    Ok(physical)
}

/// The template that the stack was made from.
pub(crate) async fn template(clients: &Clients, id: &str) -> Result<String, Error> {
    let answer = clients.cfn.get_template().stack_name(id).send().await;
    let text = answer.doing(|| format!("reading the template of stack {id}"))?.template_body;
    text.ok_or_else(|| Error::Template(format!("stack {id} has none")))
}

fn status(stack: &Description) -> &str {
    stack.stack_status().map_or("", |status| status.as_str())
}

/// Waits until nothing is in progress; `None` once the stack is gone.
async fn wait(clients: &Clients, id: &str) -> Result<Option<Description>, Error> {
    let start = Instant::now();
    let mut pause = FIRST_LOOK;
    loop {
        let stack = describe(clients, id).await?;
        let busy = stack.as_ref().is_some_and(|it| status(it).ends_with("_IN_PROGRESS"));
        if !busy {
            return Ok(stack);
        }
        if start.elapsed() > PATIENCE {
            let what = format!("stack {id} is still being changed");
            return Err(Error::Timeout { what, seconds: PATIENCE.as_secs() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

async fn failed(clients: &Clients, name: &str, id: &str, stack: Option<&Description>) -> Error {
    let reason = match first_failure(clients, id).await {
        Ok(Some(reason)) => reason,
        _ => stack
            .and_then(|it| it.stack_status_reason())
            .unwrap_or("it gave no reason: look at the endpoint's log")
            .to_owned(),
    };
    let status = stack.map_or("gone", status).to_owned();
    Error::StackFailed { stack: name.to_owned(), status, reason }
}

/// The reason of the resource that failed first; the others were cancelled because of it.
async fn first_failure(clients: &Clients, id: &str) -> Result<Option<String>, Error> {
    let mut pages =
        clients.cfn.describe_stack_events().stack_name(id).into_paginator().items().send();
    let mut first = None;
    while let Some(event) = pages.next().await {
        let event = event.doing(|| format!("reading the events of stack {id}"))?;
        // Newest first: the last one seen is the earliest.
        if let Some(reason) = failure(&event) {
            first = Some(reason);
        }
    }
    Ok(first)
}

fn failure(event: &StackEvent) -> Option<String> {
    let status = event.resource_status()?.as_str();
    let reason = event.resource_status_reason().unwrap_or("no reason given");
    let own = status.ends_with("_FAILED") && !reason.contains("cancelled");
    own.then(|| {
        let resource = event.logical_resource_id().unwrap_or("a resource");
        let kind = event.resource_type().unwrap_or("unknown type");
        format!("{resource} ({kind}): {reason}")
    })
}
