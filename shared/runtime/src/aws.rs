//! The one way to AWS: the SDK, configured from the environment.
//!
//! `AWS_ENDPOINT_URL` points the same code at a local endpoint; nothing else changes.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::calls::{CountCalls, ShortName};

/// A single attempt of any call but a long poll ends within this time: a call that hangs for
/// ever is the most silent failure a consumer can have.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The SDK configuration that every client of this process is made from.
pub async fn sdk_config() -> SdkConfig {
    loader().load().await
}

/// The same for one endpoint, like `http://127.0.0.1:4566`, whatever the environment says.
///
/// An endpoint that is put into a configuration later gives way to a set `AWS_ENDPOINT_URL`.
pub async fn sdk_config_at(url: &str) -> SdkConfig {
    loader().endpoint_url(url).load().await
}

fn loader() -> ConfigLoader {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts())
}

pub(crate) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build()
}

/// What bounds the calls of a client of this configuration: its own timeouts, and ours where it has none.
/// Whoever makes it, no attempt of a call may last for ever.
fn bounded(config: &SdkConfig) -> TimeoutConfig {
    let own = config.timeout_config().map(TimeoutConfig::to_builder).unwrap_or_default();
    let all = own.take_unset_from(timeouts().into_builder()).build();
    match all.operation_attempt_timeout() {
        Some(_) => all,
        None => all.into_builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build(),
    }
}

/// An SQS client whose calls are counted and timed.
///
/// Its answers are short, and the whole of an attempt ends within its timeout: a watch over the flow
/// of each body would find nothing that the timeout does not, and is a twentieth of what a call costs.
pub fn sqs_client(config: &SdkConfig) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::config::Builder::from(config)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(bounded(config))
        .interceptor(CountCalls)
        .interceptor(ShortName)
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// A DynamoDB client whose calls are counted; as with SQS, its attempts' timeout is all the watch.
pub fn dynamo_client(config: &SdkConfig) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(config)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(bounded(config))
        .interceptor(CountCalls)
        .interceptor(ShortName)
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

/// An S3 client whose calls are counted; buckets are addressed in the path where an endpoint URL is set, since local
/// endpoints have no name per bucket.
pub fn s3_client(config: &SdkConfig) -> aws_sdk_s3::Client {
    let local = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL").is_some();
    aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::from(config)
            .force_path_style(local)
            .timeout_config(bounded(config))
            .interceptor(CountCalls)
            .build(),
    )
}

/// A client for Auto Scaling groups whose calls are counted.
pub(crate) fn groups_client(config: &SdkConfig) -> aws_sdk_autoscaling::Client {
    let config = aws_sdk_autoscaling::config::Builder::from(config)
        .timeout_config(bounded(config))
        .interceptor(CountCalls)
        .build();
    aws_sdk_autoscaling::Client::from_conf(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bounds an attempt of a call of each client of such a configuration.
    fn bounds(own: Option<TimeoutConfig>) -> [Option<Duration>; 4] {
        let mut config = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        config.set_timeout_config(own);
        let config = config.build();
        let attempt = |it: Option<&TimeoutConfig>| it?.operation_attempt_timeout();
        [
            attempt(sqs_client(&config).config().timeout_config()),
            attempt(dynamo_client(&config).config().timeout_config()),
            attempt(s3_client(&config).config().timeout_config()),
            attempt(groups_client(&config).config().timeout_config()),
        ]
    }

    #[test]
    fn every_client_of_a_foreign_configuration_bounds_each_attempt_of_a_call() {
        let disabled = TimeoutConfig::builder().disable_operation_attempt_timeout().build();
        let another = TimeoutConfig::builder().connect_timeout(Duration::from_secs(1)).build();
        for foreign in [None, Some(disabled), Some(TimeoutConfig::disabled()), Some(another)] {
            let name = format!("{foreign:?}");
            assert_eq!(bounds(foreign), [Some(ATTEMPT_TIMEOUT); 4], "{name}");
        }
        let two = Duration::from_secs(2);
        let own = TimeoutConfig::builder().operation_attempt_timeout(two).build();
        assert_eq!(bounds(Some(own)), [Some(two); 4], "one of its own is kept");
    }
}
