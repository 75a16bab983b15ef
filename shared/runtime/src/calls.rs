//! Counts every call to AWS, retries included: each is billed.

use aws_sdk_sqs::config::{
    ConfigBag, Intercept, RuntimeComponents,
    interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef},
};
use aws_smithy_runtime_api::{box_error::BoxError, client::orchestrator::Metadata};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

use crate::metrics;

/// The interceptor of every client of this process.
#[derive(Debug)]
pub(crate) struct CountCalls;

/// When the attempt that is on its way began.
#[derive(Debug)]
struct Began(Instant);

impl Storable for Began {
    type Storer = StoreReplace<Self>;
}

impl Intercept for CountCalls {
    fn name(&self) -> &'static str {
        "CountCalls"
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
            metrics::called(call.service(), call.name(), code(context), began.0.elapsed());
        }
        Ok(())
    }
}

/// The HTTP status, or why there is none.
fn code(context: &FinalizerInterceptorContextRef<'_>) -> String {
    match (context.response(), context.output_or_error()) {
        (Some(response), _) => response.status().as_u16().to_string(),
        (None, Some(Err(error))) if error.is_timeout_error() => "timeout".to_owned(),
        (None, _) => "unreachable".to_owned(),
    }
}
