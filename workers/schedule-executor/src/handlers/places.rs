//! Accounts and regions: which keys a call is made with.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_config::{Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider};
use aws_sdk_ec2::config::{IdentityCache, SharedCredentialsProvider};

use super::Refusal;
use crate::arn::partition;

/// How other accounts are entered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The worker's own account, where it is known.
    pub own: String,
    /// The role to take in any other: a name, or an ARN with `{account}` in it.
    pub role: Option<String>,
    /// What the role asks for as its external id.
    pub external_id: Option<String>,
}

/// The SDK's configuration for each account.
#[derive(Debug, Clone)]
pub struct Places {
    /// With the SDK's own retries, for the roles alone.
    base: SdkConfig,
    sdk: SdkConfig,
    accounts: Accounts,
    entered: Arc<Mutex<HashMap<String, SdkConfig>>>,
}

impl Places {
    /// Places that are reached from `sdk`.
    pub fn new(sdk: &SdkConfig, accounts: Accounts) -> Self {
        let base = sdk.clone();
        // Calls are repeated by their caller, which has to see every refusal.
        let sdk = sdk.clone().into_builder().retry_config(RetryConfig::disabled()).build();
        Self { base, sdk, accounts, entered: Arc::default() }
    }

    /// The worker's own account, where it is known.
    pub fn own(&self) -> &str {
        &self.accounts.own
    }

    /// The configuration for an account and region; the empty account is the worker's own.
    ///
    /// # Errors
    /// When it is another account, and no role is set to enter it.
    pub async fn at(&self, account: &str, region: &str) -> Result<SdkConfig, Refusal> {
        let sdk = match account.is_empty() || account == self.accounts.own {
            true => self.sdk.clone(),
            false => self.entered(account).await?,
        };
        Ok(sdk.into_builder().region(Region::new(region.to_owned())).build())
    }

    async fn entered(&self, account: &str) -> Result<SdkConfig, Refusal> {
        let known =
            self.entered.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let Some(role) = self.role(account) else {
            let own = match self.accounts.own.as_str() {
                "" => ", or FLOTILLA_ACCOUNT say that it is the own one",
                _ => "",
            };
            let why = format!(
                "it is in account {account}: FLOTILLA_ROLE must name a role to take there{own}"
            );
            return Err(Refusal::new("foreign_account", why));
        };
        let mut provider =
            AssumeRoleProvider::builder(role).session_name("flotilla").configure(&self.base);
        if let Some(id) = &self.accounts.external_id {
            provider = provider.external_id(id);
        }
        let provider = SharedCredentialsProvider::new(provider.build().await);
        // A cache of its own: all clients of the account take the role once an hour, not each.
        let cache = IdentityCache::lazy().build();
        let sdk = self.sdk.clone().into_builder().credentials_provider(provider);
        let sdk = sdk.identity_cache(cache).build();
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entered.entry(account.to_owned()).or_insert(sdk).clone())
    }

    fn role(&self, account: &str) -> Option<String> {
        let role = self.accounts.role.as_deref()?;
        if role.starts_with("arn:") {
            return Some(role.replace("{account}", account));
        }
        let region = self.sdk.region().map(ToString::to_string).unwrap_or_default();
        let partition = partition(&region);
        Some(format!("arn:{partition}:iam::{account}:role/{role}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(own: &str, role: Option<&str>) -> Places {
        let sdk = SdkConfig::builder().region(Region::from_static("eu-west-1"));
        let sdk = sdk.behavior_version(aws_config::BehaviorVersion::latest()).build();
        let (own, role) = (own.to_owned(), role.map(str::to_owned));
        Places::new(&sdk, Accounts { own, role, external_id: None })
    }

    #[tokio::test]
    async fn another_account_needs_a_role() {
        let places = places("111111111111", None);
        assert!(places.at("", "r").await.is_ok() && places.at("111111111111", "r").await.is_ok());
        let why = places.at("222222222222", "r").await.unwrap_err();
        assert!(why.kind == "foreign_account" && why.message.contains("FLOTILLA_ROLE"), "{why:?}");
        // What is not known to be the own account is not taken for it.
        assert!(self::places("", None).at("222222222222", "r").await.is_err());
    }

    #[test]
    fn a_role_is_a_name_or_an_arn() {
        let arn = "arn:aws:iam::2:role/path/scheduler";
        assert_eq!(places("1", Some("path/scheduler")).role("2").unwrap(), arn);
        assert_eq!(
            places("1", Some("arn:aws:iam::{account}:role/path/scheduler")).role("2").unwrap(),
            arn
        );
    }
}
