//! Makes an artifact durable: the blob under its own hash, read back; then the row may point to
//! it.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::{
    Client, operation::put_object::builders::PutObjectFluentBuilder, primitives::ByteStream,
    types::Object,
};
use flotilla_runtime::{
    Failure,
    failure::chain,
    store::{self, Missing},
};
use hyper::body::Bytes;

use crate::{keys::sha256, message::BuildOrder};

/// The bucket of artifacts and logs. Clones share the client.
#[derive(Debug, Clone)]
pub struct Artifacts {
    client: Client,
    bucket: String,
}

impl Artifacts {
    /// The bucket of this name.
    pub fn new(client: Client, bucket: &str) -> Self {
        Self { client, bucket: bucket.to_owned() }
    }

    /// Stores an artifact under a key of its SHA-256 ([`blob_key`]), unless it is there, and reads it
    /// back.
    ///
    /// # Errors
    /// Transient, when S3 does not take it, or gives back something else.
    pub async fn store(&self, key: &str, hash: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let size = bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        let call = self.put(key, bytes.clone()).if_none_match("*");
        if let Err(error) = call.send().await {
            let status = error.raw_response().map(|it| it.status().as_u16());
            // 412: it is there; 409: another is just putting the same.
            if !matches!(status, Some(412 | 409)) {
                return Err(self.failed("PutObject", key, chain(&error)));
            }
            // The same bytes once more: what is of no row is swept when it is old.
            let sent = self.put(key, bytes).send().await;
            sent.map_err(|e| self.failed("PutObject", key, chain(&e)))?;
        }
        let stored = store::fetch(&self.client, &self.bucket, key, None, size).await;
        let stored = stored.map_err(|missing| match missing {
            Missing::Unavailable(failure) => failure,
            Missing::Absent => self.failed("GetObject", key, "it is not there".into()),
            Missing::TooLarge(size) => self.failed("GetObject", key, format!("{size} bytes")),
        })?;
        match sha256(&stored.bytes) == hash {
            true => Ok(()),
            false => Err(self.failed("GetObject", key, "it is not what was stored".into())),
        }
    }

    fn put(&self, key: &str, bytes: Bytes) -> PutObjectFluentBuilder {
        let call = self.client.put_object().bucket(&self.bucket).key(key).content_type(kind(key));
        call.body(ByteStream::from(bytes))
    }

    /// The keys of artifacts and logs that were stored as long ago as this.
    ///
    /// # Errors
    /// Transient, when S3 does not answer.
    pub async fn older_than(&self, age: Duration) -> Result<Vec<String>, Failure> {
        let mut old = Vec::new();
        for prefix in ["blobs/", "logs/"] {
            let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let mut pages = call.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|e| self.failed("ListObjectsV2", prefix, chain(&e)))?;
                let objects = page.contents.unwrap_or_default().into_iter();
                let is_old = |it: &Object| {
                    let modified = it.last_modified.and_then(|at| SystemTime::try_from(at).ok());
                    modified.is_some_and(|at| at.elapsed().is_ok_and(|it| it >= age))
                };
                old.extend(objects.filter(is_old).filter_map(|it| it.key));
            }
        }
        Ok(old)
    }

    /// Whether an object is there, and was stored as long ago as this.
    ///
    /// # Errors
    /// Transient, when S3 does not answer.
    pub async fn is_older(&self, key: &str, age: Duration) -> Result<bool, Failure> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let modified = match head {
            Ok(head) => head.last_modified.and_then(|at| SystemTime::try_from(at).ok()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => None,
            Err(e) => return Err(self.failed("HeadObject", key, chain(&e))),
        };
        Ok(modified.is_some_and(|at| at.elapsed().is_ok_and(|it| it >= age)))
    }

    /// Stores the metadata of an artifact beside it; gives its key.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub async fn store_metadata(&self, blob: &str, text: &str) -> Result<String, Failure> {
        let key = format!("{blob}.metadata");
        let (bytes, kind) = (text.as_bytes().to_vec(), "text/plain; charset=utf-8");
        store::put(&self.client, &self.bucket, &key, bytes, kind).await?;
        Ok(key)
    }

    /// Stores a piece of the log of a running build.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub async fn store_piece(
        &self,
        order: &BuildOrder,
        generation: u64,
        piece: u64,
        said: Vec<u8>,
    ) -> Result<(), Failure> {
        let key = piece_key(&order.request, order.epoch, generation, piece);
        store::put(&self.client, &self.bucket, &key, said, "text/plain; charset=utf-8").await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Transient, when S3 does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        let call = self.client.delete_object().bucket(&self.bucket).key(key);
        let sent = call.send().await;
        sent.map(drop).map_err(|e| self.failed("DeleteObject", key, chain(&e)))
    }

    /// Stores the log of a build; gives its key.
    ///
    /// # Errors
    /// Transient, when S3 does not take it.
    pub async fn store_log(
        &self,
        order: &BuildOrder,
        generation: u64,
        log: Vec<u8>,
    ) -> Result<String, Failure> {
        let key = format!(
            "logs/{}/{}",
            order.package(),
            log_name(&order.request, order.epoch, generation)
        );
        store::put(&self.client, &self.bucket, &key, log, "text/plain; charset=utf-8").await?;
        Ok(key)
    }

    fn failed(&self, what: &str, key: &str, why: String) -> Failure {
        Failure::transient("s3", format!("{what} {}/{key}: {why}", self.bucket))
    }
}

/// The key of an artifact.
pub fn blob_key(sha256: &str, filename: &str) -> String {
    format!("blobs/sha256/{sha256}/{filename}")
}

/// The content type of an artifact, by its key.
pub fn kind(key: &str) -> &'static str {
    if key.ends_with(".zst") { "application/zstd" } else { "application/zip" }
}

/// The key of a piece of a live log; the bucket forgets them after a day.
pub fn piece_key(request: &str, epoch: u64, generation: u64, piece: u64) -> String {
    format!("live/{request}/{epoch}-{generation}/{piece:06}")
}

/// The end of the key of the log that a worker of this generation stored.
pub fn log_name(request: &str, epoch: u64, generation: u64) -> String {
    format!("{request}/{epoch}-{generation}.txt")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use flotilla_runtime::aws;

    use super::*;

    /// Whether an artifact was stored in a bucket that takes it with this status at first and gives back
    /// this, and what was asked: method, and the condition of a put.
    async fn stored(first: u16, back: &'static [u8]) -> (bool, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let sdk = crate::fake::sdk(move |request| {
            let condition = request.headers().get("if-none-match").unwrap_or_default();
            heard.lock().unwrap().push(format!("{} {condition}", request.method()));
            match (request.method(), condition) {
                ("GET", _) => (200, back.to_vec()),
                (_, "*") => (first, Vec::new()),
                _ => (200, Vec::new()),
            }
        });
        let artifacts = Artifacts::new(aws::s3_client(&sdk), "bucket");
        let hash = sha256(b"artifact");
        let key = blob_key(&hash, "a-1.0-py3-none-any.whl");
        let done = artifacts.store(&key, &hash, b"artifact".to_vec()).await;
        let asked = asked.lock().unwrap().clone();
        (done.is_ok(), asked)
    }

    #[tokio::test]
    async fn an_artifact_is_put_where_none_is_and_only_good_as_it_is_read_back() {
        let (put, get) = ("PUT *".to_owned(), "GET ".to_owned());
        assert_eq!(stored(200, b"artifact").await, (true, vec![put.clone(), get.clone()]));
        assert_eq!(stored(200, b"artifacT").await, (false, vec![put.clone(), get.clone()]));
        assert!(!stored(200, b"artifact and more").await.0);
        assert_eq!(stored(403, b"artifact").await, (false, vec![put.clone()]));
        // Where it is already it is put once more, so that it is young.
        for there in [412, 409] {
            let again = vec![put.clone(), "PUT ".to_owned(), get.clone()];
            assert_eq!(stored(there, b"artifact").await, (true, again.clone()));
            assert_eq!(stored(there, b"artifacT").await, (false, again));
        }
    }
}
