//! Clients for the services that the operator's command speaks to, and what answers behind them.

use std::{fmt, time::Duration};

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use flotilla_runtime::aws::{s3_client, sdk_config, sdk_config_at};
use serde::Deserialize;

use crate::http;

/// The region and keys that a local endpoint gets where the environment names none: it accepts
/// any, and the SDK would otherwise search the network for them.
const LOCAL_REGION: &str = "us-east-1";
const LOCAL_KEY: &str = "test";

/// What answers the calls: its name (`ministack`, `localstack` or `aws`) and version (empty for
/// AWS). Known gaps are listed per endpoint and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `ministack`, `localstack`, or `aws`.
    pub name: String,
    /// As the endpoint's health page says it, for example `1.5.33`.
    pub version: String,
}

impl Endpoint {
    /// MiniStack serves LocalStack's health page too, so its own is asked first.
    pub(crate) async fn detect(url: Option<&str>) -> Endpoint {
        if let Some(url) = url {
            for name in ["ministack", "localstack"] {
                let page = format!("{}/_{name}/health", url.trim_end_matches('/'));
                if let Some(version) = version_at(&page).await {
                    return Endpoint { name: name.to_owned(), version };
                }
            }
        }
        Endpoint { name: "aws".to_owned(), version: String::new() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.version.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{} {}", self.name, self.version)
    }
}

/// One client per service, all made from one configuration.
#[derive(Debug, Clone)]
pub struct Clients {
    /// CloudFormation: creates, describes and deletes stacks.
    pub cfn: aws_sdk_cloudformation::Client,
    /// SQS: the queues.
    pub sqs: aws_sdk_sqs::Client,
    /// S3, with buckets in the path on local endpoints.
    pub s3: aws_sdk_s3::Client,
    /// DynamoDB: the tables.
    pub dynamo: aws_sdk_dynamodb::Client,
    /// SNS: the topic of groups.
    pub sns: aws_sdk_sns::Client,
    /// What they were made of, for those of other services.
    pub sdk: SdkConfig,
    /// What answers.
    pub endpoint: Endpoint,
    /// The endpoint's URL, where one is set.
    pub url: Option<String>,
    /// The region of every client.
    pub region: String,
}

impl Clients {
    /// Clients for the environment: `AWS_ENDPOINT_URL` where it is set, else AWS.
    pub async fn from_env() -> Self {
        let url = std::env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty());
        Self::connect(url).await
    }

    /// Clients for one local endpoint, whatever the environment says.
    ///
    /// `url` is like `http://127.0.0.1:4566`.
    pub async fn for_endpoint(url: &str) -> Self {
        Self::connect(Some(url.to_owned())).await
    }

    async fn connect(url: Option<String>) -> Self {
        let config = match &url {
            Some(url) => local_config(sdk_config_at(url).await),
            None => sdk_config().await,
        };
        let endpoint = Endpoint::detect(url.as_deref()).await;
        Clients {
            cfn: aws_sdk_cloudformation::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            s3: s3_client(&config),
            dynamo: aws_sdk_dynamodb::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
            region: config.region().map(ToString::to_string).unwrap_or_default(),
            sdk: config,
            endpoint,
            url,
        }
    }

    /// The `AWS_*` variables with which a child process reaches the same endpoint: none for AWS,
    /// where it inherits the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(url) = &self.url else {
            return Vec::new();
        };
        let mut variables =
            vec![("AWS_ENDPOINT_URL", url.clone()), ("AWS_REGION", self.region.clone())];
        if !has_keys() {
            variables.push(("AWS_ACCESS_KEY_ID", LOCAL_KEY.to_owned()));
            variables.push(("AWS_SECRET_ACCESS_KEY", LOCAL_KEY.to_owned()));
        }
        variables
    }
}

fn has_keys() -> bool {
    ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|name| std::env::var_os(name).is_some())
}

fn local_config(config: SdkConfig) -> SdkConfig {
    let region = config.region().cloned().unwrap_or_else(|| Region::from_static(LOCAL_REGION));
    let mut builder = config.into_builder().region(region);
    if !has_keys() {
        let keys = Credentials::new(LOCAL_KEY, LOCAL_KEY, None, None, "local endpoint");
        builder = builder.credentials_provider(SharedCredentialsProvider::new(keys));
    }
    builder.build()
}

#[derive(Deserialize)]
struct Health {
    version: String,
}

async fn version_at(page: &str) -> Option<String> {
    let (status, body) = http::get(page, Duration::from_secs(5)).await?;
    let health: Option<Health> = serde_json::from_str(&body).ok();
    health.filter(|_| status == 200).map(|health| health.version)
}
