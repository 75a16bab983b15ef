//! Message bodies that are larger than SQS takes travel as a pointer to S3.

use std::{borrow::Cow, sync::Arc};

use aws_sdk_s3::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    failure::Failure,
    store::{self, Missing},
};

/// The most that SQS takes of body and attributes together, 1 MiB; a queue may be set to take less.
pub const SQS_LIMIT: usize = 1024 * 1024;
/// The largest body that is read back from S3.
const PAYLOAD_LIMIT: u64 = 64 * 1024 * 1024;
/// Room for the attribute that is added to a body.
const ATTRIBUTES: usize = 16 * 1024;

/// The bucket of large bodies.
#[derive(Debug, Clone)]
pub struct Payloads {
    client: Client,
    bucket: Arc<str>,
}

/// The body of a message whose real body is in the payloads bucket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pointer {
    flotilla_payload: Place,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// The key; always below `payloads/`, and the bucket is never taken from a message.
    key: String,
    sha256: String,
}

impl Payloads {
    /// Payloads in `bucket`.
    pub fn new(client: Client, bucket: &str) -> Self {
        Self { client, bucket: bucket.into() }
    }

    /// The body to send: itself, or where it was put because it is too large together with the
    /// `attributes` bytes that travel with it: its queue takes `most` bytes of both.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub(crate) async fn shrink(
        &self,
        body: &str,
        attributes: usize,
        most: usize,
    ) -> Result<String, Failure> {
        if body.len() + attributes + ATTRIBUTES <= most {
            return Ok(body.to_owned());
        }
        let pointer = Pointer { flotilla_payload: self.put(body).await? };
        serde_json::to_string(&pointer).map_err(|e| Failure::permanent("payload", e.to_string()))
    }

    async fn put(&self, text: &str) -> Result<Place, Failure> {
        let sha256 = hex(&Sha256::digest(text));
        let key = format!("payloads/{sha256}");
        let bytes = text.as_bytes().to_vec();
        store::put(&self.client, &self.bucket, &key, bytes, "application/json").await?;
        Ok(Place { key, sha256 })
    }

    /// Puts JSON where a message has no room for it; gives what to [take it back](Self::taken_back) by.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub(crate) async fn put_aside(&self, json: &str) -> Result<Value, Failure> {
        let place = self.put(json).await?;
        serde_json::to_value(place).map_err(|e| Failure::permanent("payload", e.to_string()))
    }

    /// What was put aside.
    ///
    /// # Errors
    /// Permanent, when it is not there, or is not what was put there.
    pub(crate) async fn taken_back(&self, place: &Value) -> Result<String, Failure> {
        let place = Place::deserialize(place)
            .map_err(|e| Failure::permanent("payload", format!("{place} names no payload: {e}")))?;
        self.got(place).await
    }

    /// Puts a text under a key of its own; gives its address, `s3://bucket/key`.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub async fn keep(&self, key: &str, text: String) -> Result<String, Failure> {
        let kind = "text/plain; charset=utf-8";
        store::put(&self.client, &self.bucket, key, text.into_bytes(), kind).await?;
        Ok(format!("s3://{}/{key}", self.bucket))
    }

    /// The real body of a message.
    ///
    /// # Errors
    /// Permanent, when it is a pointer to what is not there or is not what was put there.
    pub async fn expand<'b>(&self, body: &'b str) -> Result<Cow<'b, str>, Failure> {
        // The name is looked for first, so that ordinary bodies are not parsed twice. What it takes to
        // ask S3 is kept out of every message's future.
        match body.contains("flotilla_payload") {
            true => Box::pin(self.fetched(body)).await,
            false => Ok(body.into()),
        }
    }

    async fn fetched<'b>(&self, body: &'b str) -> Result<Cow<'b, str>, Failure> {
        let Ok(pointer) = serde_json::from_str::<Pointer>(body) else {
            return Ok(body.into());
        };
        self.got(pointer.flotilla_payload).await.map(Cow::Owned)
    }

    async fn got(&self, Place { key, sha256 }: Place) -> Result<String, Failure> {
        let bad = |why: &str| Failure::permanent("payload", format!("payload {key}: {why}"));
        if !key.starts_with("payloads/") {
            return Err(bad("lies outside payloads/"));
        }
        let object = store::fetch(&self.client, &self.bucket, &key, None, PAYLOAD_LIMIT).await;
        let bytes = object.map_err(|missing| match missing {
            Missing::Absent => bad("is not in the payloads bucket"),
            Missing::TooLarge(size) => bad(&format!("has {size} bytes, over the limit")),
            Missing::Unavailable(failure) => failure,
        })?;
        if hex(&Sha256::digest(&bytes.bytes)) != sha256 {
            return Err(bad("is not what the message was sent with (its SHA-256 differs)"));
        }
        String::from_utf8(bytes.bytes).map_err(|_| bad("is not UTF-8"))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::FakeAws;

    /// What is made of a pointer by who finds this text in S3, and how often S3 was asked.
    async fn expanded(
        key: &str,
        sha256: &str,
        stored: &'static str,
    ) -> (Result<String, String>, usize) {
        let fake = FakeAws::new(move |_, _| json!({ "__text": stored }));
        let payloads = Payloads::new(crate::aws::s3_client(&fake.sdk()), "payloads");
        let body = json!({ "flotilla_payload": { "key": key, "sha256": sha256 } }).to_string();
        let read = payloads.expand(&body).await.map(Cow::into_owned);
        (read.map_err(|failure| failure.kind().to_owned()), fake.calls().len())
    }

    #[tokio::test]
    async fn a_pointer_brings_back_what_the_message_was_sent_with_and_nothing_else() {
        let sha256 = hex(&Sha256::digest("{}"));
        let key = format!("payloads/{sha256}");
        assert_eq!(expanded(&key, &sha256, "{}").await, (Ok("{}".to_owned()), 1));
        let refused = || Err("payload".to_owned());
        assert_eq!(expanded(&key, &sha256, "[]").await, (refused(), 1), "it is another's");
        assert_eq!(
            expanded("dead-letters/a", &sha256, "{}").await,
            (refused(), 0),
            "not asked for"
        );
    }

    #[tokio::test]
    async fn a_body_that_only_speaks_of_a_pointer_is_none() {
        let fake = FakeAws::new(|_, _| json!({}));
        let payloads = Payloads::new(crate::aws::s3_client(&fake.sdk()), "payloads");
        for body in [
            r#"{"text":"flotilla_payload"}"#,
            r#"{"flotilla_payload":{"key":"payloads/a","sha256":""},"id":1}"#,
        ] {
            assert_eq!(payloads.expand(body).await.unwrap(), body);
        }
        assert!(fake.calls().is_empty());
    }
}
