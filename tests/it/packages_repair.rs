//! Wheels get the platform tag of what they link, and bring along what is not on every system.

use std::io::Cursor;

use flotilla_tests::Farm;
use serde_json::Value;

/// An extension that calls libyaml, which no manylinux system has.
const LINKED: &str = r#"
#include <Python.h>
#include <yaml.h>
static PyObject *version(PyObject *self, PyObject *args) {
    return PyUnicode_FromString(yaml_get_version_string());
}
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "linked", 0, -1, methods};
PyMODINIT_FUNC PyInit_linked(void) { return PyModule_Create(&module); }
"#;
const SETUP: &str = "from setuptools import Extension, setup\n\
    setup(name='linked', version='1.0', \
    ext_modules=[Extension('linked', ['linked.c'], libraries=['yaml'])])\n";
/// What the index predicts, whatever comes of it.
const PREDICTED: &str = "cp311-cp311-linux_x86_64.whl";

fn names(wheel: &[u8]) -> Vec<String> {
    let zip = zip::ZipArchive::new(Cursor::new(wheel)).unwrap();
    zip.file_names().map(str::to_owned).collect()
}

fn filename(told: &Value) -> &str {
    told["build"]["filename"].as_str().unwrap_or_else(|| panic!("no wheel: {told}"))
}

#[tokio::test]
async fn a_wheel_has_the_tag_of_what_it_links_and_is_served_under_the_one_that_was_predicted() {
    let farm = Farm::new().await;
    farm.extension("fast", "1.0");
    let (name, bytes) = farm.pip("default", "fast").await.unwrap();
    assert_eq!(name, format!("fast-1.0-{PREDICTED}"));
    let told = farm.built("fast", "").await;
    assert!(filename(&told).contains("-cp311-cp311-manylinux"), "{told}");
    assert!(!names(&bytes).iter().any(|name| name.contains(".libs/")), "{:?}", names(&bytes));
    farm.end().await;
}

#[tokio::test]
async fn a_library_that_not_every_system_has_is_inside_the_wheel() {
    let farm = Farm::new().await;
    farm.index.publish("linked", "1.0", &[("setup.py", SETUP), ("linked.c", LINKED)]);
    let (name, bytes) = farm.pip("default", "linked").await.unwrap();
    assert_eq!(name, format!("linked-1.0-{PREDICTED}"));
    let told = farm.built("linked", "").await;
    assert!(filename(&told).contains("manylinux_2_"), "{told}");
    let names = names(&bytes);
    let library = names.iter().find(|name| name.starts_with("linked.libs/libyaml"));
    let library = library.unwrap_or_else(|| panic!("{names:?}"));
    let path = format!("/v1/builds/{}/sbom", told["key"].as_str().unwrap());
    let (_, bom) = farm.gateway.json(&path).await;
    let parts = bom["components"].as_array().unwrap();
    let inside = parts.iter().find(|it| it["name"] == library.as_str());
    let hash = &inside.unwrap_or_else(|| panic!("{bom}"))["hashes"][0]["content"];
    assert_eq!(hash, &told["build"]["bundled"][library.as_str()], "{bom}");
    farm.end().await;
}

#[tokio::test]
async fn a_wheel_that_calls_itself_manylinux_is_not_believed() {
    let farm = Farm::new().await;
    let own = "import base64, hashlib, zipfile\n\
        def build_wheel(folder, config=None, metadata=None):\n\
        \x20   name = 'boasts-1.0-py3-none-manylinux2014_x86_64.whl'\n\
        \x20   open(f'{folder}/{name}', 'wb').write(b'')\n\
        \x20   return name\n";
    let project = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n";
    farm.index.publish("boasts", "1.0", &[("pyproject.toml", project), ("own.py", own)]);
    let told = farm.built("boasts", "").await;
    assert!(told["build"]["reason"].as_str().unwrap().contains("the tags of"), "{told}");
    farm.end().await;
}
