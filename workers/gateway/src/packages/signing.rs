//! Signatures: ed25519 in a DSSE envelope. The key is the gateway's; workers never see it.

use std::path::Path;

use compile_worker::keys::sha256;
use flotilla_runtime::Failure;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use base64::{Engine, prelude::BASE64_STANDARD};

/// What stands before an ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const STATEMENT: &str = "application/vnd.in-toto+json";

/// The key that statements are signed with.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    id: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key in a PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bad = |why: String| {
            let what = format!(
                "FLOTILLA_SIGNING_KEY, {}: {why}; make a key with `openssl genpkey -algorithm \
                 ed25519 -out {}`",
                path.display(),
                path.display()
            );
            Failure::permanent("signing_key", what)
        };
        let pem = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let der = der(&pem).ok_or_else(|| bad("it is no PEM of a private key".to_owned()))?;
        Self::from_der(&der).ok_or_else(|| bad("it is no ed25519 key".to_owned()))
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        let id = sha256(&spki(pair.public_key().as_ref()));
        Some(Self { pair, id })
    }

    /// The public key, in PEM.
    pub(super) fn public(&self) -> String {
        let text = BASE64_STANDARD.encode(spki(self.pair.public_key().as_ref()));
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// A statement in a signed envelope (DSSE 1).
    pub(super) fn sign(&self, statement: &Value) -> Value {
        let payload = statement.to_string();
        let signature = self.pair.sign(encoded(STATEMENT, &payload).as_bytes());
        json!({
            "payloadType": STATEMENT,
            "payload": BASE64_STANDARD.encode(&payload),
            "signatures": [{ "keyid": self.id, "sig": BASE64_STANDARD.encode(signature) }],
        })
    }
}

/// What is signed: DSSE's pre-authentication encoding.
fn encoded(kind: &str, payload: &str) -> String {
    format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len())
}

fn spki(public: &[u8]) -> Vec<u8> {
    [&SPKI[..], public].concat()
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split("-----BEGIN PRIVATE KEY-----").nth(1)?;
    let body = body.split("-----END PRIVATE KEY-----").next()?;
    BASE64_STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// RFC 8410, section 10.3: the first private key, and its public half.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

    #[test]
    fn the_key_of_the_rfc_has_the_public_half_of_the_rfc() {
        let signer = Signer::from_der(&der(PEM).unwrap()).unwrap();
        assert!(signer.public().contains(PUBLIC), "{}", signer.public());
        assert!(der("-----BEGIN PRIVATE KEY-----\n!").is_none() && der("").is_none());
        assert!(Signer::from_der(b"x").is_none());
    }

    #[test]
    fn what_is_signed_is_what_dsse_says_and_nothing_else_verifies() {
        assert_eq!(
            encoded("http://example.com/HelloWorld", "hello world"),
            "DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        let signer = Signer::from_der(&der(PEM).unwrap()).unwrap();
        let envelope = signer.sign(&json!({"a": 1}));
        let text = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        let (payload, signature) =
            (text(&envelope["payload"]), text(&envelope["signatures"][0]["sig"]));
        let public = UnparsedPublicKey::new(&ED25519, signer.pair.public_key().as_ref());
        let signed = encoded(STATEMENT, std::str::from_utf8(&payload).unwrap());
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
        assert!(public.verify(&payload, &signature).is_err());
    }
}
