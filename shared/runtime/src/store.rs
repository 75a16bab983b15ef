//! S3, bounded: nothing is read that is larger than the caller said it would take.

use std::time::SystemTime;

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::get_object::{GetObjectError, GetObjectOutput},
    primitives::ByteStream,
};

use crate::failure::{Failure, chain};

/// An object, or one version of it, in memory.
#[derive(Debug, Clone)]
pub struct Object {
    /// The content.
    pub bytes: Vec<u8>,
    /// The version id; the ETag in a bucket without versions.
    pub version: String,
    /// When this version was stored (S3 tells whole seconds).
    pub modified: SystemTime,
}

/// Why there is no object.
#[derive(Debug)]
pub enum Missing {
    /// There is none of that name or version.
    Absent,
    /// It has more bytes than the limit.
    TooLarge(u64),
    /// S3 did not answer.
    Unavailable(Failure),
}

/// Fetches an object of at most `limit` bytes, one version of it if `version` names one.
///
/// # Errors
/// [`Missing`] says why there is nothing.
pub async fn fetch(
    client: &Client,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    limit: u64,
) -> Result<Object, Missing> {
    let call = client.get_object().bucket(bucket).key(key);
    let call = call.set_version_id(version.filter(|v| *v != "null").map(str::to_owned));
    let answer = call.send().await.map_err(|e| missing(bucket, key, e))?;
    let size = answer.content_length().unwrap_or_default().unsigned_abs();
    if size > limit {
        return Err(Missing::TooLarge(size));
    }
    let (version, modified) = (version_of(&answer), modified(&answer));
    let bytes = read(answer.body, limit).await.map_err(|why| match why {
        Some(why) => {
            Missing::Unavailable(Failure::transient("s3", format!("{bucket}/{key}: {why}")))
        }
        None => Missing::TooLarge(limit + 1),
    })?;
    Ok(Object { bytes, version, modified })
}

async fn read(mut body: ByteStream, limit: u64) -> Result<Vec<u8>, Option<String>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.try_next().await.map_err(|e| Some(e.to_string()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > limit {
            return Err(None);
        }
    }
    Ok(bytes)
}

fn version_of(answer: &GetObjectOutput) -> String {
    let version = answer.version_id().filter(|v| *v != "null");
    version.or(answer.e_tag()).unwrap_or_default().trim_matches('"').to_owned()
}

fn modified(answer: &GetObjectOutput) -> SystemTime {
    let time = answer.last_modified().and_then(|t| SystemTime::try_from(*t).ok());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn missing<R>(bucket: &str, key: &str, error: SdkError<GetObjectError, R>) -> Missing
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(|e| e.meta().code());
    let absent = ["NoSuchKey", "NoSuchVersion", "NotFound", "MethodNotAllowed"];
    if code.is_some_and(|code| absent.contains(&code)) {
        return Missing::Absent;
    }
    Missing::Unavailable(Failure::transient(
        "s3",
        format!("GetObject {bucket}/{key}: {}", chain(&error)),
    ))
}

/// Stores an object.
///
/// # Errors
/// Transient, when S3 does not take it.
pub async fn put(
    client: &Client,
    bucket: &str,
    key: &str,
    bytes: Vec<u8>,
    content_type: &str,
) -> Result<(), Failure> {
    let call = client.put_object().bucket(bucket).key(key).content_type(content_type);
    let sent = call.body(ByteStream::from(bytes)).send().await;
    let failed = |e| Failure::transient("s3", format!("PutObject {bucket}/{key}: {}", chain(&e)));
    sent.map(drop).map_err(failed)
}
