//! `/v1/packages`: what is known of packages.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
};
use compile_worker::{names::normalize, packages::Known};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Packages, answer::Refusal};

/// The query of a search.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
}

/// `GET /v1/packages?q=TEXT`: the packages with this text in their names, the first hundred.
pub(super) async fn search(
    Shared(packages): Shared<Arc<Packages>>,
    Query(Asked { q }): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    let found = packages.search(&q.to_lowercase().replace(['_', '.'], "-")).await?;
    let told: Vec<Value> = found.iter().map(|(name, known)| describe(name, known)).collect();
    Ok(Json(json!({ "packages": told })))
}

/// `GET /v1/packages/{name}`: the versions that were seen, and the option sets in use.
pub(super) async fn package(
    Shared(packages): Shared<Arc<Packages>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let name = normalize(&name).map_err(Refusal::Absent)?;
    let known = packages.known(&name).await?;
    match known == Known::default() {
        true => Err(Refusal::Absent(format!("nothing is known of {name} yet"))),
        false => Ok(Json(describe(&name, &known))),
    }
}

fn describe(name: &str, known: &Known) -> Value {
    let versions: Vec<&String> = known.versions.iter().filter(|it| !it.is_empty()).collect();
    json!({ "name": name, "versions": versions, "wanted": known.wanted })
}
