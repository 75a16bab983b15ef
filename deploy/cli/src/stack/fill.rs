//! Sets what an endpoint dropped from a template, from the template's own values.

use aws_sdk_dynamodb::types::{PointInTimeRecoverySpecification, TimeToLiveSpecification};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule,
};
use serde_json::Value;

use super::describe::{Found, name};
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// Sets one property of a resource of type `kind` from its resolved properties `wanted`.
///
/// A property for which no call was written is an error: its gap must say `fill = false`.
pub(crate) async fn fill(
    clients: &Clients,
    kind: &str,
    property: &str,
    wanted: &Found,
) -> Result<(), Error> {
    let value = wanted.get(property).unwrap_or(&Value::Null);
    match (kind, property) {
        ("AWS::DynamoDB::Table", "TimeToLiveSpecification") => {
            time_to_live(clients, &name(wanted, "TableName")?, value).await
        }
        ("AWS::DynamoDB::Table", "PointInTimeRecoverySpecification") => {
            recovery(clients, &name(wanted, "TableName")?, value).await
        }
        ("AWS::S3::Bucket", "BucketEncryption") => {
            encryption(clients, &name(wanted, "BucketName")?, value).await
        }
        ("AWS::S3::Bucket", "LifecycleConfiguration") => {
            lifecycle(clients, &name(wanted, "BucketName")?, value).await
        }
        _ => Err(Error::Gaps(format!(
            "{property} of a {kind} cannot be filled: say fill = false, or write the call"
        ))),
    }
}

/// Takes back what [`fill`] set on a table, before the table is deleted: an endpoint that drops a
/// setting from its template may also keep it for the next table of the same name.
pub(crate) async fn withdraw(
    clients: &Clients,
    kind: &str,
    property: &str,
    wanted: &Found,
) -> Result<(), Error> {
    let switch = match (kind, property) {
        ("AWS::DynamoDB::Table", "TimeToLiveSpecification") => "Enabled",
        ("AWS::DynamoDB::Table", "PointInTimeRecoverySpecification") => {
            "PointInTimeRecoveryEnabled"
        }
        _ => return Ok(()),
    };
    let mut off = wanted.clone();
    off[property][switch] = Value::Bool(false);
    fill(clients, kind, property, &off).await
}

async fn time_to_live(clients: &Clients, table: &str, value: &Value) -> Result<(), Error> {
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(text(value, "AttributeName")?)
        .enabled(value["Enabled"].as_bool().unwrap_or(false))
        .build();
    let specification = built(specification)?;
    let call = clients.dynamo.update_time_to_live().table_name(table);
    let answer = call.time_to_live_specification(specification).send().await;
    answer.doing(|| format!("setting the TTL of table {table}")).map(drop)
}

async fn recovery(clients: &Clients, table: &str, value: &Value) -> Result<(), Error> {
    let specification = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(value["PointInTimeRecoveryEnabled"] == true)
        .set_recovery_period_in_days(days(value, "RecoveryPeriodInDays"))
        .build();
    let specification = built(specification)?;
    let call = clients.dynamo.update_continuous_backups().table_name(table);
    let answer = call.point_in_time_recovery_specification(specification).send().await;
    answer.doing(|| format!("setting point-in-time recovery of table {table}")).map(drop)
}

async fn encryption(clients: &Clients, bucket: &str, value: &Value) -> Result<(), Error> {
    let rules = items(value, "ServerSideEncryptionConfiguration").iter().map(encryption_rule);
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let configuration = ServerSideEncryptionConfiguration::builder().set_rules(Some(rules)).build();
    let configuration = built(configuration)?;
    let call = clients.s3.put_bucket_encryption().bucket(bucket);
    let answer = call.server_side_encryption_configuration(configuration).send().await;
    answer.doing(|| format!("setting the encryption of bucket {bucket}")).map(drop)
}

fn encryption_rule(rule: &Value) -> Result<ServerSideEncryptionRule, Error> {
    let default = &rule["ServerSideEncryptionByDefault"];
    let default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::from(text(default, "SSEAlgorithm")?))
        .set_kms_master_key_id(default["KMSMasterKeyID"].as_str().map(str::to_owned))
        .build();
    let default = built(default)?;
    Ok(ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default)
        .set_bucket_key_enabled(rule["BucketKeyEnabled"].as_bool())
        .build())
}

async fn lifecycle(clients: &Clients, bucket: &str, value: &Value) -> Result<(), Error> {
    let rules = items(value, "Rules").iter().map(lifecycle_rule).collect::<Result<Vec<_>, _>>()?;
    let configuration =
        built(BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build())?;
    let call = clients.s3.put_bucket_lifecycle_configuration().bucket(bucket);
    let answer = call.lifecycle_configuration(configuration).send().await;
    answer.doing(|| format!("setting the lifecycle of bucket {bucket}")).map(drop)
}

fn lifecycle_rule(rule: &Value) -> Result<LifecycleRule, Error> {
    let filter = LifecycleRuleFilter::builder().prefix(rule["Prefix"].as_str().unwrap_or_default());
    let expiration = days(rule, "ExpirationInDays");
    let noncurrent = days(&rule["NoncurrentVersionExpiration"], "NoncurrentDays");
    let abort = days(&rule["AbortIncompleteMultipartUpload"], "DaysAfterInitiation");
    let rule = LifecycleRule::builder()
        .set_id(rule["Id"].as_str().map(str::to_owned))
        .status(ExpirationStatus::from(text(rule, "Status")?))
        .filter(filter.build())
        .set_expiration(expiration.map(|it| LifecycleExpiration::builder().days(it).build()))
        .set_noncurrent_version_expiration(
            noncurrent.map(|it| NoncurrentVersionExpiration::builder().noncurrent_days(it).build()),
        )
        .set_abort_incomplete_multipart_upload(
            abort.map(|it| {
                AbortIncompleteMultipartUpload::builder().days_after_initiation(it).build()
            }),
        )
        .build();
    built(rule)
}

fn built<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, Error> {
    result.map_err(|e| Error::Template(e.to_string()))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str, Error> {
    value[key].as_str().ok_or_else(|| Error::Template(format!("no {key} in {value}")))
}

fn days(value: &Value, key: &str) -> Option<i32> {
    value[key].as_i64().and_then(|days| i32::try_from(days).ok())
}

fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
