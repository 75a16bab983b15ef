//! Objects in the bucket of submissions, problems and results.

use aws_sdk_s3::primitives::ByteStream;

use crate::{
    aws::Clients,
    error::{Doing, Error},
    submission::Results,
    versions,
};

/// What an upload is called: its version, if the bucket has versions, and its ETag.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: Option<String>,
    pub(crate) tag: String,
}

/// Uploads bytes.
pub(crate) async fn put(
    clients: &Clients,
    bucket: &str,
    key: &str,
    bytes: Vec<u8>,
) -> Result<Stored, Error> {
    let call = clients.s3.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes));
    let answer = call.send().await.doing(|| format!("uploading s3://{bucket}/{key}"))?;
    let tag = answer.e_tag.unwrap_or_default().trim_matches('"').to_owned();
    let version = answer.version_id.filter(|id| versions::is_version(id));
    Ok(Stored { version, tag })
}

/// A result, as a worker stored it.
pub(crate) async fn fetch(clients: &Clients, bucket: &str, key: &str) -> Result<Results, Error> {
    let bytes = read(clients, bucket, key).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Fleet(format!("s3://{bucket}/{key} is no result: {e}")))
}

/// A text, with marks where it is not UTF-8.
pub(crate) async fn text(clients: &Clients, bucket: &str, key: &str) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&read(clients, bucket, key).await?).into_owned())
}

async fn read(clients: &Clients, bucket: &str, key: &str) -> Result<Vec<u8>, Error> {
    let doing = || format!("reading s3://{bucket}/{key}");
    let answer = clients.s3.get_object().bucket(bucket).key(key).send().await.doing(doing)?;
    let bytes = answer.body.collect().await;
    Ok(bytes.map_err(|e| Error::Fleet(format!("{}: {e}", doing())))?.to_vec())
}
