//! Sends: a POST to a webhook, or a message to a topic.

use std::time::Duration;

use flotilla_runtime::{Failure, failure::chain};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::{Request, body::Bytes, header::CONTENT_TYPE};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    notice::What,
    settings::{Target, Way},
    store::Entry,
};

/// How long a target may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest subject of a message to a topic, in characters.
const SUBJECT: usize = 100;

/// What sends.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    sns: aws_sdk_sns::Client,
}

impl Sender {
    /// With the certificates of this machine.
    ///
    /// # Errors
    /// Permanent, where it has none.
    pub(super) fn new(sns: aws_sdk_sns::Client) -> Result<Self, Failure> {
        let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| {
            Failure::permanent("certificates", "the certificates of this machine").caused_by(e)
        })?;
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(connector), sns })
    }

    /// Tells a target of a problem, at this time (Unix milliseconds).
    ///
    /// # Errors
    /// Says why it was not taken; never a secret.
    pub(super) async fn send(
        &self,
        target: &Target,
        what: What,
        it: &Entry,
        now: i64,
    ) -> Result<(), String> {
        let id = id(target, what, it);
        let body = body(&id, target, what, it, now);
        let sent = async {
            match &target.way {
                Way::Webhook { url, secret } => {
                    self.post(url, secret.as_deref(), &id, body.to_string(), now).await
                }
                Way::Sns(topic) => self.publish(topic, what, it, &body).await,
            }
        };
        let late = || format!("no answer within {} s", PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err(late()))
    }

    async fn post(
        &self,
        url: &str,
        secret: Option<&str>,
        id: &str,
        body: String,
        now: i64,
    ) -> Result<(), String> {
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("flotilla-notification", id);
        if let Some(secret) = secret {
            request = request.header("flotilla-signature", signature(secret, now / 1000, &body));
        }
        let request = request.body(Full::from(body)).map_err(|e| e.to_string())?;
        let answer = self.http.request(request).await.map_err(|e| chain(&e))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }

    async fn publish(
        &self,
        topic: &str,
        what: What,
        it: &Entry,
        body: &Value,
    ) -> Result<(), String> {
        let subject = format!(
            "{} {} {}",
            it.problem["problem"].as_str().unwrap_or("PROBLEM"),
            it.key.problem_id,
            what.name()
        );
        let ascii = subject.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
        let call = self.sns.publish().topic_arn(topic).message(body.to_string());
        let sent = call.subject(ascii.take(SUBJECT).collect::<String>()).send().await;
        sent.map(drop).map_err(|e| chain(&e))
    }
}

/// The same for every attempt: who gets it twice can tell.
fn id(target: &Target, what: What, it: &Entry) -> String {
    let plain = format!("{}/{}/{}/{}", it.key.problem_id, it.key.opened, target.name, what.name());
    percent_encoding::utf8_percent_encode(&plain, percent_encoding::CONTROLS).to_string()
}

fn body(id: &str, target: &Target, what: What, it: &Entry, now: i64) -> Value {
    json!({
        "id": id,
        "event": what.name(),
        "target": target.name,
        "sent_at": now,
        "problem": it.problem,
    })
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA-256 over the seconds, a dot and the body.
fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let sum = mac.finalize().into_bytes();
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_tools() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let wanted =
            "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature("secret", 1_700_000_000, r#"{"a":1}"#), wanted);
    }
}
