//! What builds are made in, as the workers say it.

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::{Failure, failure::chain};

use super::{Packages, count};
use crate::{builder::BuilderInfo, builds::now};

/// A builder that nobody announced for so long, in seconds, is gone: each worker says every minute
/// that it is there, unless all of its slots are taken.
const GONE: u64 = 900;

impl Packages {
    /// What builds of an ecosystem are made in now, as the worker said that started last.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn builder(&self, ecosystem: &str) -> Result<Option<BuilderInfo>, Failure> {
        let item = self.item(&builder_key(ecosystem)).await?;
        let detail = item.as_ref().and_then(|item| item.get("detail")?.as_s().ok());
        Ok(detail.and_then(|detail| serde_json::from_str(detail).ok()))
    }

    /// Says what builds are made in: at first of all builders, later only that it is still there.
    /// While a fleet has builders of several images, that of the latest worker is the one that orders
    /// are for; another takes its place when it is gone.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn announce(
        &self,
        ecosystem: &str,
        builder: &BuilderInfo,
        first: bool,
    ) -> Result<(), Failure> {
        let (key, own) = (builder_key(ecosystem), image_key(ecosystem, &builder.image));
        let at = Attr::N(now().to_string());
        let alive = self.client.put_item().table_name(&self.table);
        let alive = alive.item("package", Attr::S(own.clone())).item("announced_at", at.clone());
        alive.send().await.map_err(|e| self.failed("PutItem", &own, chain(&e)))?;
        let detail = serde_json::to_string(builder);
        let detail = detail.map_err(|e| Failure::permanent("builder", e.to_string()))?;
        let call = self.client.put_item().table_name(&self.table);
        let mut call = call
            .item("package", Attr::S(key.clone()))
            .item("detail", Attr::S(detail))
            .item("builder_image", Attr::S(builder.image.clone()))
            .item("announced_at", at);
        if !first {
            let gone = now().saturating_sub(GONE).to_string();
            call = call
                .condition_expression(
                    "attribute_not_exists(announced_at) OR announced_at < :gone \
                     OR builder_image = :own",
                )
                .expression_attribute_values(":gone", Attr::N(gone))
                .expression_attribute_values(":own", Attr::S(builder.image.clone()));
        }
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(self.failed("PutItem", &key, chain(&e))),
        }
    }

    /// Whether a worker lately said that it builds of an ecosystem in this image.
    ///
    /// # Errors
    /// As [`known`](Self::known).
    pub async fn is_alive(&self, ecosystem: &str, image: &str) -> Result<bool, Failure> {
        let item = self.item(&image_key(ecosystem, image)).await?.unwrap_or_default();
        Ok(count(&item, "announced_at").is_some_and(|at| at + GONE > now()))
    }
}

/// The key of the row of a builder; no package has it.
fn builder_key(ecosystem: &str) -> String {
    format!("builder/{ecosystem}")
}

/// The key of the row that says when builders of an image were last there.
fn image_key(ecosystem: &str, image: &str) -> String {
    format!("{}/{image}", builder_key(ecosystem))
}
