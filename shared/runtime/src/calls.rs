//! Counts every call to AWS, retries included: each is billed.

use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_sqs::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
            BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
        },
    },
    operation::{
        change_message_visibility_batch::ChangeMessageVisibilityBatchInput as Change,
        delete_message_batch::DeleteMessageBatchInput as Delete,
        receive_message::ReceiveMessageInput as Receive, send_message::SendMessageInput as Send,
        send_message_batch::SendMessageBatchInput as SendBatch,
    },
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{context::Input, disable_interceptor},
        orchestrator::Metadata,
    },
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

use crate::{
    metrics::{self, Call},
    tally::queue_name,
};

/// The interceptor of every client of this process.
#[derive(Debug)]
pub(crate) struct CountCalls;

/// Names this program in every request, in the place of what the SDK makes of itself and its features
/// anew for each: that is two headers of 200 bytes, and a twenty-fifth of what a message costs.
#[derive(Debug)]
pub(crate) struct ShortName;

const SHORT_NAME: &str = concat!("flotilla/", env!("CARGO_PKG_VERSION"));

impl Intercept for ShortName {
    fn name(&self) -> &'static str {
        "ShortName"
    }

    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let instead = disable_interceptor::<UserAgentInterceptor>("there is a shorter name");
        bag.interceptor_state().store_put(instead);
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("user-agent", SHORT_NAME);
        Ok(())
    }
}

/// When the attempt that is on its way began.
#[derive(Debug)]
struct Began(Instant);

impl Storable for Began {
    type Storer = StoreReplace<Self>;
}

/// The queue that the call is about.
#[derive(Debug)]
struct Destination(String);

impl Storable for Destination {
    type Storer = StoreReplace<Self>;
}

impl Intercept for CountCalls {
    fn name(&self) -> &'static str {
        "CountCalls"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(url) = queue_url(context.input()) {
            bag.interceptor_state().store_put(Destination(queue_name(url).to_owned()));
        }
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Began(Instant::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(call), Some(began)) = (bag.load::<Metadata>(), bag.load::<Began>()) {
            let code = code(context);
            metrics::called(Call {
                service: call.service(),
                operation: call.name(),
                queue: bag.load::<Destination>().map(|queue| queue.0.as_str()),
                error: error(context, &code),
                code,
                took: began.0.elapsed(),
            });
        }
        Ok(())
    }
}

/// Whose messages a call receives, settles or sends.
fn queue_url(input: &Input) -> Option<&str> {
    let received = input.downcast_ref().and_then(Receive::queue_url);
    let deleted = || input.downcast_ref().and_then(Delete::queue_url);
    let changed = || input.downcast_ref().and_then(Change::queue_url);
    let sent = || input.downcast_ref().and_then(Send::queue_url);
    let several = || input.downcast_ref().and_then(SendBatch::queue_url);
    received.or_else(deleted).or_else(changed).or_else(sent).or_else(several)
}

/// The HTTP status, or why there is none.
fn code(context: &FinalizerInterceptorContextRef<'_>) -> String {
    match (context.response(), context.output_or_error()) {
        (Some(response), _) => response.status().as_u16().to_string(),
        (None, Some(Err(error))) if error.is_timeout_error() => "timeout".to_owned(),
        (None, _) => "unreachable".to_owned(),
    }
}

/// What class of error the attempt ended with, if it failed: its code, where that says so.
fn error(context: &FinalizerInterceptorContextRef<'_>, code: &str) -> Option<String> {
    let good = context.response().is_some_and(|response| response.status().is_success());
    match context.output_or_error() {
        Some(Err(error)) if error.is_timeout_error() => Some("timeout".to_owned()),
        // An answer that cannot be read.
        Some(Err(_)) if good => Some("_OTHER".to_owned()),
        _ if good => None,
        _ => Some(code.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeAws;

    #[tokio::test]
    async fn requests_to_queues_and_tables_are_made_under_a_short_name() {
        let fake = FakeAws::new(|_, _| serde_json::json!({}));
        fake.sqs().receive_message().queue_url("http://q/main").send().await.unwrap();
        fake.dynamo().list_tables().send().await.unwrap();
        assert_eq!(fake.agents(), [SHORT_NAME, SHORT_NAME]);
    }
}
