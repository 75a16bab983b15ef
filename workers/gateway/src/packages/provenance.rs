//! Where an artifact comes from: an SBOM (CycloneDX) and a provenance statement (in-toto, SLSA),
//! made from its row and signed here.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::header,
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::{Artifact, Row, State},
    crates, ecosystem, metadata,
};
use serde_json::{Value, json};

use super::{Packages, answer::Refusal, builds::row};

const IN_TOTO: &str = "https://in-toto.io/Statement/v1";
const SLSA: &str = "https://slsa.dev/provenance/v1";
const CYCLONE_DX: &str = "https://cyclonedx.org/bom";
/// Metadata has at most this many bytes.
const METADATA_LIMIT: u64 = 4 << 20;

/// `GET /v1/builds/{key}/provenance`: the signed statement.
pub(super) async fn provenance(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let row = row(&packages, &key).await?;
    let artifact = built(&row)?;
    let predicate = slsa(&row, artifact);
    Ok(Json(packages.signer()?.sign(&statement(artifact, SLSA, &predicate))))
}

/// `GET /v1/builds/{key}/sbom`: what is in the artifact, what it was built with, and what it needs.
pub(super) async fn sbom(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
) -> Result<Response, Refusal> {
    let row = row(&packages, &key).await?;
    let bom = bom(&row, built(&row)?, &requires(&packages, &row).await?);
    let kind = [(header::CONTENT_TYPE, "application/vnd.cyclonedx+json; version=1.6")];
    Ok((kind, bom.to_string()).into_response())
}

/// `GET /v1/builds/{key}/sbom/signed`: the same as a signed statement.
pub(super) async fn signed_sbom(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let row = row(&packages, &key).await?;
    let artifact = built(&row)?;
    let bom = bom(&row, artifact, &requires(&packages, &row).await?);
    Ok(Json(packages.signer()?.sign(&statement(artifact, CYCLONE_DX, &bom))))
}

/// `GET /v1/signing-key`: what signatures are verified with.
pub(super) async fn signing_key(
    Shared(packages): Shared<Arc<Packages>>,
) -> Result<Response, Refusal> {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    Ok((kind, packages.signer()?.public()).into_response())
}

fn built(row: &Row) -> Result<&Artifact, Refusal> {
    match &row.state {
        State::Done(artifact) => Ok(artifact),
        state => {
            let (package, version, state) = (&row.package, &row.version, state.name());
            Err(Refusal::Absent(format!("{package} {version} has no artifact: it is {state}")))
        }
    }
}

/// The artifact's own requirements, as its metadata says them.
async fn requires(packages: &Packages, row: &Row) -> Result<Vec<String>, Refusal> {
    let State::Done(Artifact { metadata: Some(key), .. }) = &row.state else {
        return Ok(Vec::new());
    };
    let text = packages.object(key, METADATA_LIMIT).await.map_err(|why| match why {
        Refusal::Absent(why) => {
            let by = row.overtaken_by.as_ref();
            let by = by.map(|by| format!("; in its place there is {by}")).unwrap_or_default();
            Refusal::Absent(format!("{why}{by}"))
        }
        why => why,
    })?;
    let text = String::from_utf8_lossy(&text);
    Ok(said_once(metadata::values(&text, "Requires-Dist")))
}

/// Without what is said again: the parts of an SBOM have names of their own.
fn said_once<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut said = BTreeSet::new();
    lines.filter(|line| said.insert(*line)).map(str::to_owned).collect()
}

fn statement(artifact: &Artifact, kind: &str, predicate: &Value) -> Value {
    json!({
        "_type": IN_TOTO,
        "subject": [{ "name": artifact.filename, "digest": { "sha256": artifact.sha256 } }],
        "predicateType": kind,
        "predicate": predicate,
    })
}

fn slsa(row: &Row, artifact: &Artifact) -> Value {
    let (ecosystem, name) = row.named();
    let part = |name: &str| part(artifact, name);
    let image = part("builder").as_str().unwrap_or_default();
    let mut dependencies = vec![
        json!({ "uri": purl(row), "digest": { "sha256": part("source") }, "name": "source" }),
        json!({
            "uri": format!("docker-image:{image}"), "name": "builder",
            "digest": { "sha256": image.trim_start_matches("sha256:") },
        }),
    ];
    let wheels = part("build_requires").as_object().into_iter().flatten();
    dependencies.extend(wheels.map(|(file, hash)| {
        let uri = given(ecosystem, file).map(|it| it.purl);
        json!({ "uri": uri, "name": file, "digest": { "sha256": hash } })
    }));
    json!({
        "buildDefinition": {
            "buildType": format!("urn:flotilla:build:{ecosystem}:{}", part("recipe")),
            "externalParameters": {
                "ecosystem": ecosystem, "package": name, "version": row.version,
                "options": row.options,
            },
            "internalParameters": {
                "abi": part("abi"), "glibc": part("glibc"), "buildRequires": artifact.requires,
            },
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": { "id": format!("urn:flotilla:builder:{image}") },
            "metadata": {
                "invocationId": format!("{}-{}", row.request, row.epoch),
                "finishedOn": row.ended_at.and_then(time),
                "reproducible": row.verdict.as_ref().map(|verdict| verdict.reproducible),
            },
            "byproducts": [{ "name": "log", "uri": artifact.log }],
        },
    })
}

fn bom(row: &Row, artifact: &Artifact, requires: &[String]) -> Value {
    let (ecosystem, name) = row.named();
    let sha256 = |hash: &Value| json!([{ "alg": "SHA-256", "content": hash }]);
    let wheels = part(artifact, "build_requires").as_object().into_iter().flatten();
    // Crates are compiled into the artifact, wheels of a build are not.
    let (inside, usage) = match ecosystem == crates::GRAMMAR.name {
        true => ("required", "linked into it, or used to build it"),
        false => ("excluded", "build"),
    };
    let built_with = wheels.map(|(file, hash)| {
        let mut component = json!({
            "type": "library", "bom-ref": file, "name": file, "scope": inside,
            "hashes": sha256(hash), "properties": [{ "name": "flotilla:use", "value": usage }],
        });
        if let Some(Given { name, version, purl }) = given(ecosystem, file) {
            component["name"] = json!(name);
            component["version"] = json!(version);
            component["purl"] = json!(purl);
        }
        component
    });
    let needed = requires.iter().map(|text| {
        json!({
            "type": "library", "bom-ref": format!("requires {text}"), "name": text,
            "scope": "required",
            "properties": [{ "name": "flotilla:use", "value": "requirement at run time, not inside" }],
        })
    });
    let brought = artifact.bundled.iter().map(|(path, hash)| {
        json!({
            "type": "library", "bom-ref": path, "name": path, "scope": "required",
            "hashes": sha256(&json!(hash)),
            "properties": [{ "name": "flotilla:use", "value": "inside it, out of the builder's image" }],
        })
    });
    let components: Vec<Value> = built_with.chain(brought).chain(needed).collect();
    let refs: Vec<&Value> = components.iter().map(|it| &it["bom-ref"]).collect();
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "timestamp": row.ended_at.and_then(time),
            "component": {
                "type": "library", "bom-ref": purl(row), "purl": purl(row), "name": name,
                "version": row.version, "hashes": sha256(&json!(artifact.sha256)),
                "properties": [
                    { "name": "flotilla:filename", "value": artifact.filename },
                    { "name": "flotilla:options", "value": row.options },
                    { "name": "flotilla:source-sha256", "value": part(artifact, "source") },
                ],
            },
        },
        "components": components,
        "dependencies": [{ "ref": purl(row), "dependsOn": refs }],
    })
}

/// A component of the artifact key; null where there is none.
fn part<'a>(artifact: &'a Artifact, name: &str) -> &'a Value {
    artifact.parts.get(name).unwrap_or(&Value::Null)
}

fn purl(row: &Row) -> String {
    let (ecosystem, name) = row.named();
    package_url(ecosystem, name, &row.version)
}

fn package_url(ecosystem: &str, name: &str, version: &str) -> String {
    let kind = ecosystem::named(ecosystem).map_or(ecosystem, |it| it.purl);
    let version = version.replace('+', "%2B").replace('!', "%21");
    format!("pkg:{kind}/{name}@{version}")
}

/// What a build was given.
struct Given {
    name: String,
    version: String,
    purl: String,
}

/// What a file is that a build was given.
fn given(ecosystem: &str, file: &str) -> Option<Given> {
    let (name, version) = (ecosystem::named(ecosystem)?.given)(file)?;
    let purl = package_url(ecosystem, &name, &version);
    Some(Given { name, version, purl })
}

fn time(seconds: u64) -> Option<String> {
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_was_given_is_named_as_others_name_it() {
        let purl = |ecosystem, file| given(ecosystem, file).map(|it| it.purl);
        let wheel = purl("pypi", "Setuptools_SCM-8.1.0+x-py3-none-any.whl");
        assert_eq!(wheel.as_deref(), Some("pkg:pypi/setuptools-scm@8.1.0%2Bx"));
        let of_crate = purl("crates", "a-b_c-1.0.0-rc.1.crate");
        assert_eq!(of_crate.as_deref(), Some("pkg:cargo/a-b_c@1.0.0-rc.1"));
        assert_eq!((purl("pypi", "a.txt"), purl("none", "a-1.0.0.crate")), (None, None));
        assert_eq!(package_url("pypi", "a", "1!2.0"), "pkg:pypi/a@1%212.0");
    }

    #[test]
    fn a_requirement_that_is_said_twice_is_one_part_of_an_sbom() {
        let said = said_once(["a>1", "b; extra == 'x'", "a>1"].into_iter());
        assert_eq!(said, ["a>1", "b; extra == 'x'"]);
    }
}
