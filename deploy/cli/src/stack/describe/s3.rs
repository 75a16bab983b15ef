//! Buckets.

use std::fmt::Debug;

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    types::{LifecycleRule, LifecycleRuleFilter, QueueConfiguration, ServerSideEncryptionRule},
};
use serde_json::{Map, Value, json};

use super::{Found, present};
use crate::{aws::Clients, error::Error};

/// The services' ways to say that a bucket has no configuration of some kind.
const UNSET: [&str; 4] = [
    "NoSuchLifecycleConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchConfiguration",
];

/// A bucket's properties; `None` where there is no bucket of this name.
pub(super) async fn bucket(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    if !is_there(clients, name).await? {
        return Ok(None);
    }
    Ok(Some(present([
        ("BucketName", Some(json!(name))),
        ("VersioningConfiguration", versioning(clients, name).await?),
        ("PublicAccessBlockConfiguration", access(clients, name).await?),
        ("BucketEncryption", encryption(clients, name).await?),
        ("NotificationConfiguration", notification(clients, name).await?),
        ("LifecycleConfiguration", lifecycle(clients, name).await?),
    ])))
}

/// Whether there is a bucket of this name.
pub(crate) async fn is_there(clients: &Clients, name: &str) -> Result<bool, Error> {
    match clients.s3.head_bucket().bucket(name).send().await {
        Ok(_) => Ok(true),
        Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(false),
        Err(e) => Err(Error::aws(format!("describing bucket {name}"), e)),
    }
}

/// The answer, or `None` where the service says that nothing is configured.
fn configured<T, E, R>(
    answer: Result<T, SdkError<E, R>>,
    what: &str,
    bucket: &str,
) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.code().is_some_and(|code| UNSET.contains(&code)) => Ok(None),
        Err(e) => Err(Error::aws(format!("describing the {what} of bucket {bucket}"), e)),
    }
}

async fn versioning(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.s3.get_bucket_versioning().bucket(name).send().await;
    let answer = configured(answer, "versioning", name)?;
    Ok(answer.and_then(|it| it.status).map(|status| json!({ "Status": status.as_str() })))
}

async fn access(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.s3.get_public_access_block().bucket(name).send().await;
    let answer = configured(answer, "public access block", name)?;
    let block = answer.and_then(|it| it.public_access_block_configuration);
    Ok(block.map(|it| {
        json!({
            "BlockPublicAcls": it.block_public_acls(),
            "BlockPublicPolicy": it.block_public_policy(),
            "IgnorePublicAcls": it.ignore_public_acls(),
            "RestrictPublicBuckets": it.restrict_public_buckets(),
        })
    }))
}

async fn encryption(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.s3.get_bucket_encryption().bucket(name).send().await;
    let answer = configured(answer, "encryption", name)?;
    let rules = answer.and_then(|it| it.server_side_encryption_configuration);
    Ok(rules.map(|it| {
        let rules: Vec<_> = it.rules().iter().map(encryption_rule).collect();
        json!({ "ServerSideEncryptionConfiguration": rules })
    }))
}

fn encryption_rule(rule: &ServerSideEncryptionRule) -> Value {
    let default = rule.apply_server_side_encryption_by_default();
    let default = present([
        ("SSEAlgorithm", default.map(|it| json!(it.sse_algorithm().as_str()))),
        ("KMSMasterKeyID", default.and_then(|it| it.kms_master_key_id()).map(|id| json!(id))),
    ]);
    let mut found = json!({ "ServerSideEncryptionByDefault": default });
    if rule.bucket_key_enabled() == Some(true) {
        found["BucketKeyEnabled"] = json!(true);
    }
    found
}

async fn notification(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.s3.get_bucket_notification_configuration().bucket(name).send().await;
    let Some(found) = configured(answer, "notifications", name)? else {
        return Ok(None);
    };
    let queues: Vec<_> = found.queue_configurations().iter().flat_map(queue_events).collect();
    let others = found.topic_configurations().len() + found.lambda_function_configurations().len();
    let mut entries = Map::new();
    if !queues.is_empty() {
        entries.insert("QueueConfigurations".to_owned(), json!(queues));
    }
    if others > 0 {
        entries.insert("(topics and functions)".to_owned(), json!(others));
    }
    Ok((!entries.is_empty()).then_some(Value::Object(entries)))
}

/// A template has one entry per event, the API one per queue and filter.
fn queue_events(it: &QueueConfiguration) -> Vec<Value> {
    let rules = it.filter().and_then(|filter| filter.key()).map(|key| key.filter_rules());
    // S3 answers `Prefix` where it was told `prefix`.
    let rules = rules.unwrap_or_default().iter().map(|rule| {
        let name = rule.name().map(|name| name.as_str().to_lowercase());
        json!({"Name": name, "Value": rule.value()})
    });
    let rules: Vec<_> = rules.collect();
    let event = |event: &str| {
        let mut found = json!({"Event": event, "Queue": it.queue_arn()});
        if !rules.is_empty() {
            found["Filter"] = json!({"S3Key": {"Rules": rules}});
        }
        found
    };
    it.events().iter().map(|it| event(it.as_str())).collect()
}

async fn lifecycle(clients: &Clients, name: &str) -> Result<Option<Value>, Error> {
    let answer = clients.s3.get_bucket_lifecycle_configuration().bucket(name).send().await;
    let answer = configured(answer, "lifecycle", name)?;
    let rules = answer.map(|it| it.rules().iter().map(lifecycle_rule).collect::<Vec<_>>());
    Ok(rules.map(|rules| json!({ "Rules": rules })))
}

fn lifecycle_rule(rule: &LifecycleRule) -> Value {
    let noncurrent = rule.noncurrent_version_expiration().and_then(|it| it.noncurrent_days());
    let abort = rule.abort_incomplete_multipart_upload().and_then(|it| it.days_after_initiation());
    let days = rule.expiration().and_then(|it| it.days());
    Value::Object(present([
        ("Id", rule.id().map(|id| json!(id))),
        ("Status", Some(json!(rule.status().as_str()))),
        ("Prefix", rule.filter().and_then(prefix)),
        ("ExpirationInDays", days.map(Value::from)),
        ("NoncurrentVersionExpiration", noncurrent.map(|it| json!({ "NoncurrentDays": it }))),
        ("AbortIncompleteMultipartUpload", abort.map(|it| json!({ "DaysAfterInitiation": it }))),
    ]))
}

/// An empty prefix is a template's absent one.
fn prefix(filter: &LifecycleRuleFilter) -> Option<Value> {
    filter.prefix().filter(|prefix| !prefix.is_empty()).map(|prefix| json!(prefix))
}
