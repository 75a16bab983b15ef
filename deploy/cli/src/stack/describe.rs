//! What is really there: every resource as its own service describes it, in the words of a
//! template.

mod clock;
mod dynamodb;
pub(crate) mod s3;
mod sns;
mod sqs;

use serde_json::{Map, Value};

use crate::{aws::Clients, error::Error};

/// A resource's properties as found.
pub(crate) type Found = Map<String, Value>;

/// What describing a resource says.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It is there, with these properties.
    There(Found),
    /// The service knows no such resource.
    Missing,
    /// No comparison was written for resources of this type.
    Uncompared,
}

/// Describes the resource of type `kind` that has the resolved properties `wanted`; it is found
/// by the name in them.
pub(crate) async fn describe(clients: &Clients, kind: &str, wanted: &Found) -> Result<Seen, Error> {
    let found = match kind {
        "AWS::SQS::Queue" => sqs::queue(clients, &name(wanted, "QueueName")?).await?,
        "AWS::SQS::QueuePolicy" => sqs::policy(clients, wanted).await?,
        "AWS::S3::Bucket" => s3::bucket(clients, &name(wanted, "BucketName")?).await?,
        "AWS::DynamoDB::Table" => dynamodb::table(clients, &name(wanted, "TableName")?).await?,
        "AWS::Scheduler::Schedule" => clock::schedule(clients, &name(wanted, "Name")?).await?,
        "AWS::IAM::Role" => clock::role(clients, &name(wanted, "RoleName")?).await?,
        "AWS::SNS::Topic" => sns::topic(clients, &name(wanted, "TopicName")?).await?,
        _ => return Ok(Seen::Uncompared),
    };
    Ok(found.map_or(Seen::Missing, Seen::There))
}

/// The name by which a resource is found: every resource of our templates says it.
pub(crate) fn name(wanted: &Found, property: &str) -> Result<String, Error> {
    let name = wanted.get(property).and_then(Value::as_str);
    let name = name.ok_or_else(|| Error::Template(format!("a resource has no {property}")))?;
    Ok(name.to_owned())
}

/// Keeps the entries that have a value: a service's "unset" is a template's absence.
fn present<const N: usize>(entries: [(&str, Option<Value>); N]) -> Found {
    let entries = entries.into_iter();
    entries.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
