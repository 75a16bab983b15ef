//! The compile farm, from upstream to the gateway.

use std::time::Duration;

use crate::{
    docker::containers,
    index::Index,
    wait::eventually,
    worker::{Worker, WorkerBuilder},
    world::World,
};

/// A setup.py of one module, `tiny`.
pub const SETUP: &str = "from setuptools import setup\nsetup(py_modules=['tiny'])\n";
/// What has a source built by its own `own.py`, which costs a tenth of what setuptools does.
const PROJECT: &str =
    "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n";
/// A build backend that makes a wheel of `tiny.py`, and runs `meanwhile.py` before.
pub const BACKEND: &str = include_str!("../fixtures/sdist/own.py");
const EXTENSION: &str = "from setuptools import Extension, setup\n\
    setup(ext_modules=[Extension('fast', ['fast.c'])])\n";
const C: &str = r#"
#include <Python.h>
static double numbers[64];
static PyObject *work(PyObject *self, PyObject *args) {
    double sum = 0;
    for (int i = 0; i < 64; i++) numbers[i] = numbers[i] * 1.5 + i;
    for (int i = 0; i < 64; i++) sum += numbers[i];
    return PyFloat_FromDouble(sum);
}
static PyMethodDef methods[] = {{"work", work, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", 0, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
"#;
/// An index, a worker that builds from it, and a gateway.
#[derive(Debug)]
pub struct Farm {
    /// The worker; a test may put another in its place.
    pub worker: Worker,
    /// The gateway.
    pub gateway: Worker,
    /// Upstream.
    pub index: Index,
    /// The stack; the last to go, with the processes' logs.
    pub world: World,
}

impl Farm {
    /// With the usual settings.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings of the worker.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (world, index) = (World::new().await, Index::new().await);
        let worker = world.compile_worker(&index);
        let worker = settings.iter().fold(worker, |worker, (name, value)| worker.env(name, value));
        let gateway = world.package_gateway(&index);
        Self::of((world, index), worker, gateway).await
    }

    /// Whose worker follows the index's changelog.
    pub async fn following() -> Self {
        let (world, index) = (World::new().await, Index::new().await);
        let worker = world.compile_worker(&index).env("FLOTILLA_PYPI_CHANGELOG", index.changelog());
        let gateway = world.package_gateway(&index);
        Self::of((world, index), worker, gateway).await
    }

    /// With these processes, which are started.
    pub async fn of(
        (world, index): (World, Index),
        worker: WorkerBuilder,
        gateway: WorkerBuilder,
    ) -> Self {
        let (worker, gateway) = tokio::join!(worker.ready(), gateway.ready());
        Self { world, index, worker, gateway }
    }

    /// Publishes a package without anything to compile.
    pub fn pure(&self, name: &str, version: &str) {
        self.doing(name, version, "");
    }

    /// The same, whose build does this meanwhile, in Python.
    pub fn doing(&self, name: &str, version: &str, meanwhile: &str) {
        let files = [
            ("pyproject.toml", PROJECT),
            ("own.py", BACKEND),
            ("meanwhile.py", meanwhile),
            ("tiny.py", "x = 1\n"),
        ];
        self.index.publish(name, version, &files);
    }

    /// Publishes a package with C in it.
    pub fn extension(&self, name: &str, version: &str) {
        let named = format!("setup(name='{name}', version='{version}', ext");
        let setup = EXTENSION.replace("setup(ext", &named);
        self.index.publish(name, version, &[("setup.py", &setup), ("fast.c", C)]);
    }

    /// Publishes version 1.0 of a package whose build backend is this, in Python.
    pub fn broken(&self, name: &str, backend: &str) {
        self.index.publish(name, "1.0", &[("pyproject.toml", PROJECT), ("own.py", backend)]);
    }

    /// As [`World::pip`].
    ///
    /// # Errors
    /// What pip said.
    pub async fn pip(&self, optset: &str, requirement: &str) -> Result<(String, Vec<u8>), String> {
        self.world.pip(&self.gateway, optset, requirement).await
    }

    /// How many builds were begun.
    pub async fn begun(&self) -> u64 {
        let rows = self.world.ledger().await;
        rows.iter()
            .map(|row| {
                row["generation"].as_n().expect("a number").parse::<u64>().expect("a number")
            })
            .sum()
    }

    /// Waits until all is built, and stops the processes.
    pub async fn end(mut self) {
        self.world.until_built().await;
        self.until_no_container().await;
        let (gateway, worker) = tokio::join!(self.gateway.stop(), self.worker.stop());
        assert!(gateway.success() && worker.success(), "gateway: {gateway}, worker: {worker}");
    }

    /// Waits until the worker has no container.
    pub async fn until_no_container(&self) {
        eventually("no container of a build", Duration::from_secs(60), async || {
            containers(self.worker.id()).is_empty().then_some(())
        })
        .await;
    }

    /// Orders a build, and gives what the gateway says of it.
    pub async fn order(&self, order: serde_json::Value) -> serde_json::Value {
        let answer = self.gateway.ask("POST", "/v1/builds", &[], &order.to_string()).await;
        assert!(matches!(answer.status, 200 | 202), "{order}: {answer:?}");
        answer.json()
    }

    /// What the gateway says of a build, once it has ended.
    pub async fn ended(&self, key: &str) -> serde_json::Value {
        eventually("the end of a build", Duration::from_secs(180), async || {
            let (status, told) = self.gateway.json(&format!("/v1/builds/{key}")).await;
            assert_eq!(status, 200, "{told}");
            (told["build"]["state"] != "ordered").then_some(told)
        })
        .await
    }

    /// Orders a build of version 1.0, and waits for its end.
    pub async fn built(&self, package: &str, options: &str) -> serde_json::Value {
        let order = serde_json::json!({"package": package, "version": "1.0", "options": options});
        let told = self.order(order).await;
        self.ended(told["key"].as_str().expect("a key")).await
    }
}
