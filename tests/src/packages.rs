//! The compile farm, as its users see it.

use std::{process::Output, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    crates::Crates,
    index::Index,
    venv::with_pip,
    wait::{Answer, ask, eventually, http_get},
    worker::{Worker, WorkerBuilder},
    world::World,
};

impl World {
    /// A compile worker, not started yet, that builds from this index. It has no image to build crates
    /// in, so that it need not be asked at each start what it is.
    pub fn compile_worker(&self, index: &Index) -> WorkerBuilder {
        let queues = self.outputs().compile_queues();
        let worker = self.farm(self.worker("compile-worker"), index);
        worker.env("FLOTILLA_QUEUE_URL", queues).env("FLOTILLA_RUST_BUILDER_IMAGE", "none:none")
    }

    /// The same that also builds the crates of this registry.
    pub fn crates_worker(&self, index: &Index, crates: &Crates) -> WorkerBuilder {
        self.compile_worker(index)
            .env("FLOTILLA_CRATES_INDEX", crates.index())
            .env("FLOTILLA_RUST_BUILDER_IMAGE", "flotilla-rust-build:latest")
    }

    /// A gateway for the packages of this index, not started yet.
    pub fn package_gateway(&self, index: &Index) -> WorkerBuilder {
        let gateway = self.farm(self.worker("gateway"), index);
        let addr = gateway.addr();
        gateway
            .env("FLOTILLA_GATEWAY_ADDR", addr)
            .env("FLOTILLA_COMPILE_QUEUE_URL", &self.outputs().compile_queue_url)
            .env("FLOTILLA_COMPILE_REFRESH_QUEUE_URL", &self.outputs().compile_refresh_queue_url)
            .env("FLOTILLA_INDEX_SECONDS", "0.5")
    }

    fn farm(&self, program: WorkerBuilder, index: &Index) -> WorkerBuilder {
        let outputs = self.outputs();
        program
            .env("FLOTILLA_ARTIFACTS_BUCKET", &outputs.artifacts_bucket_name)
            .env("FLOTILLA_BUILDS_TABLE", &outputs.builds_table_name)
            .env("FLOTILLA_PACKAGES_TABLE", &outputs.packages_table_name)
            .env("FLOTILLA_GROUPS_TOPIC", &outputs.groups_topic_arn)
            .env("FLOTILLA_PYPI_INDEX", index.url())
            .env("FLOTILLA_REFRESH_JITTER_SECONDS", "0")
    }

    /// Has pip fetch a requirement from the gateway's index of an option set, into a folder of
    /// its own: the wheel's name and bytes, or what pip said.
    pub async fn pip(
        &self,
        gateway: &Worker,
        optset: &str,
        requirement: &str,
    ) -> Result<(String, Vec<u8>), String> {
        self.pip_of("python3", gateway, optset, requirement).await
    }

    /// The same with the pip that this Python brings along.
    ///
    /// # Errors
    /// What pip said.
    pub async fn pip_of(
        &self,
        python: &str,
        gateway: &Worker,
        optset: &str,
        requirement: &str,
    ) -> Result<(String, Vec<u8>), String> {
        let folder = tempfile::tempdir_in(self.folder()).expect("a folder");
        let index = format!("http://{}/o/{optset}/simple/", gateway.addr());
        let mut pip = Command::new(with_pip(python).await);
        pip.args(["-m", "pip", "--isolated", "--disable-pip-version-check", "download"]);
        pip.args(["--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--timeout", "15"]);
        pip.args(["--python-version", "3.11", "--abi", "cp311", "--implementation", "cp"]);
        pip.args(["--platform", "linux_x86_64", "--index-url", &index, "--dest"]);
        pip.arg(folder.path()).arg(requirement).env_remove("PIP_FIND_LINKS").kill_on_drop(true);
        let Output { status, stdout, stderr } = pip.output().await.expect("pip");
        if !status.success() {
            let said = [stdout, stderr].concat();
            return Err(String::from_utf8_lossy(&said).into_owned());
        }
        let file = std::fs::read_dir(folder.path()).expect("a folder").next().expect("a wheel");
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        Ok((name, std::fs::read(path).expect("a wheel")))
    }

    /// Has uv say what it would install of a requirement from the gateway's index of an option set.
    ///
    /// # Errors
    /// What uv said.
    pub async fn uv(
        &self,
        gateway: &Worker,
        optset: &str,
        requirement: &str,
    ) -> Result<String, String> {
        let uv = std::env::var_os("FLOTILLA_UV");
        let uv = uv.expect("FLOTILLA_UV is not set: run the tests with `make test`");
        let wants = self.folder().join("requirements.in");
        std::fs::write(&wants, requirement).expect("a file");
        let index = format!("http://{}/o/{optset}/simple/", gateway.addr());
        let mut uv = Command::new(uv);
        uv.args(["pip", "compile", "--no-cache", "--no-config", "--only-binary", ":all:"]);
        uv.args([
            "--no-header",
            "--no-annotate",
            "--python-version",
            "3.11",
            "--index-url",
            &index,
        ]);
        uv.arg("--python").arg(with_pip("python3").await).arg(wants).kill_on_drop(true);
        let Output { status, stdout, stderr } = uv.output().await.expect("uv");
        let said = if status.success() { stdout } else { stderr };
        let said = String::from_utf8_lossy(&said).into_owned();
        if status.success() { Ok(said) } else { Err(said) }
    }

    /// Has uv install a requirement from the gateway's index of an option set into a folder of its own:
    /// the names in there.
    ///
    /// # Errors
    /// What uv said.
    pub async fn uv_installs(
        &self,
        gateway: &Worker,
        optset: &str,
        requirement: &str,
    ) -> Result<Vec<String>, String> {
        let uv = std::env::var_os("FLOTILLA_UV");
        let uv = uv.expect("FLOTILLA_UV is not set: run the tests with `make test`");
        let folder = tempfile::tempdir_in(self.folder()).expect("a folder");
        let index = format!("http://{}/o/{optset}/simple/", gateway.addr());
        let mut uv = Command::new(uv);
        uv.args(["pip", "install", "--no-cache", "--no-config", "--no-deps"]);
        uv.args(["--only-binary", ":all:", "--python-version", "3.11", "--index-url", &index]);
        uv.arg("--target").arg(folder.path()).env("UV_HTTP_TIMEOUT", "15");
        uv.arg("--python").arg(with_pip("python3").await).arg(requirement).kill_on_drop(true);
        let Output { status, stderr, .. } = uv.output().await.expect("uv");
        if !status.success() {
            return Err(String::from_utf8_lossy(&stderr).into_owned());
        }
        let files = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        Ok(files.map(|it| it.file_name().to_string_lossy().into_owned()).collect())
    }

    /// The answer of any host.
    pub async fn get_from(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask("GET", host, path, headers, "").await
    }

    /// The rows of the builds of a package, as attributes.
    pub async fn builds(&self, name: &str) -> Vec<std::collections::HashMap<String, Attr>> {
        let call = self.aws.dynamo.query().table_name(&self.outputs().builds_table_name);
        let call = call.key_condition_expression("package = :p");
        let call = call.expression_attribute_values(":p", Attr::S(format!("pypi/{name}")));
        call.send().await.expect("Query").items.unwrap_or_default()
    }

    /// Waits until the queues of the compile worker hold nothing, visible or not.
    pub async fn until_built(&self) {
        let outputs = self.outputs();
        eventually("empty compile queues", Duration::from_secs(90), async || {
            // A look leads to builds, and no build to a look.
            let looks = self.left_on(&outputs.compile_refresh_queue_url).await;
            let builds = self.left_on(&outputs.compile_queue_url).await;
            (builds + looks == 0).then_some(())
        })
        .await;
    }
}

impl Worker {
    /// The answer to a request.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut headers = headers.to_vec();
        if body.starts_with(['{', '[']) {
            headers.push(("Content-Type", "application/json"));
        }
        ask(method, self.addr(), path, &headers, body).await
    }

    /// Status and JSON of one of its pages.
    pub async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = http_get(self.addr(), path).await.expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}
