//! What arrives on the queue of the compile worker.

use serde::{Deserialize, Serialize};

/// A message: `{"build": {…}}` or `{"refresh": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompileMessage {
    /// Compile a package.
    Build(BuildOrder),
    /// Look for new versions.
    Refresh(RefreshOrder),
}

/// A build that was asked for; its row stands already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildOrder {
    /// The package, normalised.
    pub name: String,
    /// The version, as upstream writes it.
    pub version: String,
    /// The canonical option set.
    pub options: String,
    /// The request key, which its row has too.
    pub request: String,
    /// Which try of this request: one more after a failure that was forgotten, or a lost blob.
    pub epoch: u64,
}

/// Which packages to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshOrder {
    /// This one; without a name, all of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl CompileMessage {
    /// The message that looks at all packages of the list.
    pub fn refresh_all() -> Self {
        Self::Refresh(RefreshOrder { name: None })
    }

    /// The body to send.
    ///
    /// # Errors
    /// Never for a message of this type.
    pub fn body(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduled_message_is_a_refresh_of_all() {
        let message: CompileMessage = serde_json::from_str(r#"{"refresh":{}}"#).unwrap();
        assert_eq!(message, CompileMessage::refresh_all());
        assert_eq!(message.body().unwrap(), r#"{"refresh":{}}"#);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["{}", "7", r#"{"build":{}}"#, r#"{"refresh":{"all":1}}"#, r#"{"x":{}}"#] {
            assert!(serde_json::from_str::<CompileMessage>(bad).is_err(), "{bad}");
        }
    }
}
