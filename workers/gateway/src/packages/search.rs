//! `/v1/packages`: what is known of packages.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
};
use compile_worker::{
    builds::package_key,
    ecosystem::Grammar,
    packages::Known,
    pypi::PYPI,
    wish::{Categories, ecosystem},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Packages, answer::Refusal};

/// The query of a search.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    ecosystem: Option<String>,
}

impl Asked {
    /// The ecosystem that is asked for, PyPI where none is named.
    fn grammar(&self) -> Result<&'static Grammar, Refusal> {
        let name = self.ecosystem.as_deref().unwrap_or(PYPI);
        ecosystem(name, &Categories::new()).map_err(Refusal::Impossible)
    }
}

/// `GET /v1/packages?q=TEXT[&ecosystem=NAME]`: the packages with this text in their names, the first hundred.
pub(super) async fn search(
    Shared(packages): Shared<Arc<Packages>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    let (grammar, text) = (asked.grammar()?, asked.q.to_lowercase());
    let text = if grammar.name == PYPI { text.replace(['_', '.'], "-") } else { text };
    let found = packages.search(grammar.name, &text).await?;
    let told: Vec<Value> = found.iter().map(|(name, known)| describe(name, known)).collect();
    Ok(Json(json!({ "packages": told })))
}

/// `GET /v1/packages/{name}`: the versions that were seen, and the option sets in use.
pub(super) async fn package(
    Shared(packages): Shared<Arc<Packages>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    let grammar = asked.grammar()?;
    let name = (grammar.package)(&name).map_err(Refusal::Absent)?;
    let known = packages.known(&package_key(grammar.name, &name)).await?;
    match known == Known::default() {
        true => Err(Refusal::Absent(format!("nothing is known of {name} yet"))),
        false => Ok(Json(describe(&name, &known))),
    }
}

fn describe(name: &str, known: &Known) -> Value {
    let versions: Vec<&String> = known.versions.iter().filter(|it| !it.is_empty()).collect();
    json!({ "name": name, "versions": versions, "wanted": known.wanted })
}
