//! Who may act: one autoscaler at a time, by a lease in the fleet table.

use std::time::Duration;

use aws_sdk_dynamodb::types::ReturnValue;
use flotilla_runtime::failure::Failure;
use tokio::time::Instant;

use super::{
    fleet::{Fleet, number, text, words},
    now_ms,
};
use crate::memory::Memory;

/// The row of the lease.
const LEASE_ROW: &str = "#owner";

/// The lease of a group, as one autoscaler sees it.
#[derive(Debug)]
pub(super) struct Owner {
    fleet: Fleet,
    id: String,
    lease: Duration,
    /// Until when this one may act, by its own clock. It stops earlier than others may begin.
    until: Option<Instant>,
}

impl Owner {
    pub(super) fn new(fleet: Fleet, id: &str, lease: Duration) -> Self {
        Self { fleet, id: id.to_owned(), lease, until: None }
    }

    /// Whether this one may act now.
    pub(super) fn may_act(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes or renews the lease, and writes down what is remembered. Gives what was remembered,
    /// also by whoever owned it before; `None` while another owns it.
    pub(super) async fn hold(&mut self, memory: &Memory) -> Result<Option<Memory>, Failure> {
        let (asked, renewing) = (Instant::now(), self.may_act());
        self.until = None;
        let end = now_ms() + self.lease.as_millis() as u64;
        let mut call = self.fleet.update(LEASE_ROW).return_values(ReturnValue::AllNew);
        call = call.expression_attribute_names("#owner", "owner");
        call = call.expression_attribute_values(":me", text(&self.id));
        call = call.expression_attribute_values(":end", number(end));
        call = call.expression_attribute_values(":now", number(now_ms()));
        call = call.condition_expression(
            "attribute_not_exists(#owner) OR #owner = :me OR until_ms < :now",
        );
        call = match renewing {
            true => {
                let memory = serde_json::to_string(memory).unwrap_or_default();
                call.update_expression("SET #owner = :me, until_ms = :end, memory = :memory")
                    .expression_attribute_values(":memory", text(&memory))
            }
            false => call.update_expression("SET #owner = :me, until_ms = :end"),
        };
        match call.send().await {
            Ok(answer) => {
                self.until = Some(asked + self.lease.mul_f64(0.7));
                let row = answer.attributes.unwrap_or_default();
                let kept = words(&row, "memory").and_then(|text| serde_json::from_str(&text).ok());
                let kept = kept.map(Memory::taken_over).unwrap_or_default();
                Ok(Some(if renewing { memory.clone() } else { kept }))
            }
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(None)
            }
            Err(e) => Err(self.fleet.failed("leasing in", &e)),
        }
    }

    /// Lets another begin at once.
    pub(super) async fn let_go(&mut self) -> Result<(), Failure> {
        if self.until.take().is_none() {
            return Ok(());
        }
        let call = self.fleet.update(LEASE_ROW).update_expression("SET until_ms = :none");
        let call = call.condition_expression("#owner = :me");
        let call = call.expression_attribute_names("#owner", "owner");
        let call = call.expression_attribute_values(":me", text(&self.id));
        let call = call.expression_attribute_values(":none", number(0));
        call.send().await.map(drop).map_err(|e| self.fleet.failed("ending the lease in", &e))
    }
}
