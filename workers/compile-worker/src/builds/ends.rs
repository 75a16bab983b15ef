//! What the holder of an order's lease writes into its row.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update, builders::UpdateBuilder};
use flotilla_runtime::Failure;

use super::{Builds, Live, Lock, State, Verdict, bad, now, number, pointer_item, row_key, text};
use crate::message::BuildOrder;

impl Builds {
    /// Says how many pieces of its log the running build has stored. What a later generation has
    /// said, or the end, stands.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn live(&self, order: &BuildOrder, live: Live) -> Result<(), Failure> {
        let call = self
            .update(&order.package(), &order.request)
            .update_expression("SET live_generation = :generation, live_pieces = :pieces");
        let call = call
            .condition_expression(
                "epoch = :epoch AND #state = :ordered \
                 AND (attribute_not_exists(live_generation) OR live_generation <= :generation)",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":ordered", text("ordered"))
            .expression_attribute_values(":epoch", number(order.epoch))
            .expression_attribute_values(":generation", number(live.generation))
            .expression_attribute_values(":pieces", number(live.pieces));
        self.conditional(call, &order.name).await.map(drop)
    }

    /// The items that end an order, to be written by the holder of its lease.
    ///
    /// # Errors
    /// Never for a state of this type.
    pub fn end(
        &self,
        order: &BuildOrder,
        state: &State,
    ) -> Result<Vec<TransactWriteItem>, Failure> {
        let detail = serde_json::to_string(state).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET #state = :state, detail = :detail, ended_at = :now");
        let update = update
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", text(state.name()))
            .expression_attribute_values(":detail", text(&detail))
            .expression_attribute_values(":now", number(now()));
        let mut items = vec![transact(update)?];
        if let State::Done(artifact) = state {
            let item = pointer_item(&artifact.artifact, order, state)?;
            let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
            let put = put.map_err(|e| bad(e.to_string()))?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        Ok(items)
    }

    /// The item that says what an order is built with, to be written by the holder of its lease.
    ///
    /// # Errors
    /// Never for a lock of this type.
    pub fn lock(&self, order: &BuildOrder, lock: &Lock) -> Result<TransactWriteItem, Failure> {
        let lock = serde_json::to_string(lock).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET build_lock = :lock");
        transact(update.expression_attribute_values(":lock", text(&lock)))
    }

    /// The item that says what came of building an artifact twice, to be written by the holder of
    /// the lease.
    ///
    /// # Errors
    /// Never for a verdict of this type.
    pub fn verdict(&self, order: &BuildOrder, it: &Verdict) -> Result<TransactWriteItem, Failure> {
        let verdict = serde_json::to_string(it).map_err(|e| bad(e.to_string()))?;
        let update = self.held(order, "SET verdict = :verdict");
        transact(update.expression_attribute_values(":verdict", text(&verdict)))
    }

    /// An update of an order's row, as long as the row is of this try.
    fn held(&self, order: &BuildOrder, what: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(row_key(&order.package(), &order.request)))
            .update_expression(what)
            .condition_expression("epoch = :epoch")
            .expression_attribute_values(":epoch", number(order.epoch))
    }
}

fn transact(update: UpdateBuilder) -> Result<TransactWriteItem, Failure> {
    let update = update.build().map_err(|e| bad(e.to_string()))?;
    Ok(TransactWriteItem::builder().update(update).build())
}
