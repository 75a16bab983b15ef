//! Packages, compiled for whoever asks: an index for pip and uv, and requests for programs.
//!
//! The index of an option set is at `/o/{optset}/simple/`. It lists a wheel for every version
//! that upstream has a source of, whether it is built or not, and answers at once. A wheel that is
//! not built starts its build and is held by redirects to itself until it is there. `GET /package`
//! has the shape of the original service; `POST /v1/builds` is for programs.

mod accept;
mod answer;
mod artifact;
mod builds;
mod config;
mod fresh;
mod groups;
mod held;
mod index;
mod live;
mod metadata;
mod programs;
mod provenance;
mod search;
mod signing;
mod state;
mod wheel;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub use self::{config::PackagesConfig, state::Packages};
use crate::unserved;

/// All routes for packages.
pub fn router(packages: Packages) -> Router {
    Router::new()
        .route("/o/{optset}/simple", get(index::root_with_slash))
        .route("/o/{optset}/simple/", get(index::root))
        .route("/o/{optset}/simple/{name}/", get(index::project))
        .route("/o/{optset}/simple/{name}", get(index::with_slash))
        .route("/o/{optset}/wheels/{name}/{version}/{filename}", get(wheel::wheel))
        .route("/package", get(programs::package))
        .route("/refresh", get(programs::refresh))
        .route("/v1/builds", post(builds::order))
        .route("/v1/builds/{key}", get(builds::build))
        .route("/v1/builds/{key}/retry", post(builds::retry))
        .route("/v1/builds/{key}/explain", get(builds::explain))
        .route("/v1/builds/{key}/log", get(builds::log))
        .route("/v1/builds/{key}/build-twice", post(builds::twice))
        .route("/v1/builds/{key}/provenance", get(provenance::provenance))
        .route("/v1/builds/{key}/sbom", get(provenance::sbom))
        .route("/v1/builds/{key}/sbom/signed", get(provenance::signed_sbom))
        .route("/v1/artifacts/{key}/{filename}", get(artifact::artifact))
        .route("/v1/signing-key", get(provenance::signing_key))
        .route("/v1/packages", get(search::search))
        .route("/v1/packages/{name}", get(search::package))
        .route("/v1/groups", post(groups::open))
        .route("/v1/groups/{group}", get(groups::group))
        .method_not_allowed_fallback(unserved::method)
        .with_state(Arc::new(packages))
}
