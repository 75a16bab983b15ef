//! Options on their way into a build.

use std::io::{Cursor, Read};

use flotilla_tests::{Farm, SETUP};

/// A build backend of the source's own, which writes down what it is told.
const BACKEND: &str = "import os\n\
    import setuptools.build_meta as real\n\
    from setuptools.build_meta import *\n\
    def get_requires_for_build_wheel(config=None):\n\
    \x20   return []\n\
    def build_wheel(folder, config=None, metadata=None):\n\
    \x20   said = os.environ['CFLAGS'], config and config.get('own')\n\
    \x20   open('tiny.py', 'w').write(f'said = {said!r}\\n')\n\
    \x20   return real.build_wheel(folder, None, metadata)\n";
const PYPROJECT: &str = "[build-system]\nrequires = ['setuptools', 'wheel']\n\
    build-backend = 'own'\nbackend-path = ['.']\n";

#[tokio::test]
async fn values_with_blanks_and_commas_reach_the_build_from_an_address_and_from_a_text() {
    let farm = Farm::new().await;
    let setup = SETUP.replace("setup(py", "setup(name='flags', version='1.0', py");
    let files = [
        ("pyproject.toml", PYPROJECT),
        ("own.py", BACKEND),
        ("setup.py", setup.as_str()),
        ("tiny.py", ""),
    ];
    farm.index.publish("flags", "1.0", &files);
    let optset = "env.CFLAGS=-O3%2520-DX=1,config.own=a%2520b%252Cc";
    let (_, wheel) = farm.pip(optset, "flags").await.unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(&wheel)).unwrap();
    let mut said = String::new();
    zip.by_name("tiny.py").unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("-O3 -DX=1'") && said.contains("'a b,c'"), "{said}");
    let text = farm.built("flags", "config.own=a%20b%2Cc env.CFLAGS=-O3%20-DX=1").await;
    assert_eq!(text["build"]["size"], wheel.len(), "{text}");
    assert_eq!(farm.begun().await, 1, "however it is written, it is one build");
    farm.end().await;
}
