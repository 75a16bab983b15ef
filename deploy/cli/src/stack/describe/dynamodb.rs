//! Tables.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, ContinuousBackupsDescription, KeySchemaElement, StreamSpecification,
    TableDescription, TimeToLiveDescription, TimeToLiveStatus,
};
use serde_json::{Value, json};

use super::{Found, present};
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// The window of point-in-time recovery where a template names none, in days.
const DEFAULT_WINDOW: i32 = 35;

/// A table's properties; `None` where there is no table of this name.
pub(super) async fn table(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    let answer = clients.dynamo.describe_table().table_name(name).send().await;
    let table = match answer {
        Ok(answer) => answer.table,
        Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => None,
        Err(e) => return Err(Error::aws(format!("describing table {name}"), e)),
    };
    let Some(table) = table else { return Ok(None) };
    let mut found = schema(name, &table);
    found.append(&mut present([
        ("TimeToLiveSpecification", time_to_live(clients, name).await?),
        ("PointInTimeRecoverySpecification", recovery(clients, name).await?),
    ]));
    Ok(Some(found))
}

fn schema(name: &str, table: &TableDescription) -> Found {
    let billing = table.billing_mode_summary().and_then(|it| it.billing_mode());
    let attributes: Vec<_> = table.attribute_definitions().iter().map(attribute).collect();
    let keys: Vec<_> = table.key_schema().iter().map(key).collect();
    present([
        ("TableName", Some(json!(name))),
        ("BillingMode", billing.map(|mode| json!(mode.as_str()))),
        ("AttributeDefinitions", Some(json!(attributes))),
        ("KeySchema", Some(json!(keys))),
        ("StreamSpecification", table.stream_specification().and_then(stream)),
        ("DeletionProtectionEnabled", table.deletion_protection_enabled().map(Value::Bool)),
    ])
}

fn attribute(it: &AttributeDefinition) -> Value {
    json!({"AttributeName": it.attribute_name(), "AttributeType": it.attribute_type().as_str()})
}

fn key(it: &KeySchemaElement) -> Value {
    json!({"AttributeName": it.attribute_name(), "KeyType": it.key_type().as_str()})
}

fn stream(it: &StreamSpecification) -> Option<Value> {
    let view = it.stream_view_type().filter(|_| it.stream_enabled())?;
    Some(json!({ "StreamViewType": view.as_str() }))
}

async fn time_to_live(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.dynamo.describe_time_to_live().table_name(name).send().await;
    let answer = answer.doing(|| format!("describing the TTL of table {name}"))?;
    Ok(answer.time_to_live_description.as_ref().and_then(ttl))
}

/// Enabling takes up to an hour in AWS: what is on its way counts.
fn ttl(it: &TimeToLiveDescription) -> Option<Value> {
    let enabled = matches!(
        it.time_to_live_status(),
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
    );
    let attribute = it.attribute_name().filter(|_| enabled)?;
    Some(json!({"AttributeName": attribute, "Enabled": true}))
}

async fn recovery(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.dynamo.describe_continuous_backups().table_name(name).send().await;
    let answer = answer.doing(|| format!("describing the backups of table {name}"))?;
    Ok(answer.continuous_backups_description.as_ref().and_then(window))
}

fn window(it: &ContinuousBackupsDescription) -> Option<Value> {
    let recovery = it.point_in_time_recovery_description()?;
    let enabled = recovery.point_in_time_recovery_status()?.as_str() == "ENABLED";
    let days = recovery.recovery_period_in_days().filter(|days| *days != DEFAULT_WINDOW);
    let mut found = json!({ "PointInTimeRecoveryEnabled": enabled });
    if let Some(days) = days {
        found["RecoveryPeriodInDays"] = json!(days);
    }
    Some(found)
}
