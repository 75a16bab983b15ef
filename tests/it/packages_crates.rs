//! The second ecosystem: crates, compiled to the binaries in them.

use std::{io::Read, os::unix::fs::PermissionsExt, time::Duration};

use flotilla_tests::{Crates, Farm, Index, World, crate_lock, eventually};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

const GREETING: &str = "pub fn greeting() -> &'static str { \"hello\" }\n";
const MAIN: &str = "fn main() {\n\
    \x20   let loud = if cfg!(feature = \"loud\") { \"!\" } else { \"\" };\n\
    \x20   println!(\"{}{loud}\", greet::greeting());\n\
    }\n";

/// A farm whose crates come from a registry of its own.
pub(crate) async fn farm(crates: &Crates, settings: &[(&str, &str)]) -> Farm {
    let (world, index) = (World::new().await, Index::new().await);
    let worker = world.crates_worker(&index, crates);
    let worker = settings.iter().fold(worker, |worker, (name, value)| worker.env(name, value));
    let gateway = world.package_gateway(&index).env("FLOTILLA_CRATES_INDEX", crates.index());
    Farm::of((world, index), worker, gateway).await
}

fn manifest(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n{more}\n")
}

/// Publishes a crate with a dependency, a feature and a binary.
fn greeter(crates: &Crates) {
    let files = [("Cargo.toml", manifest("greet", "")), ("src/lib.rs", GREETING.to_owned())];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    let hash = crates.publish("greet", "1.0.0", &files);
    let toml = manifest("Greeter", "[dependencies]\ngreet = \"1\"\n[features]\nloud = []");
    let lock = crate_lock("Greeter", "1.0.0", &[("greet", "1.0.0", &hash)]);
    let files = [("Cargo.toml", toml.as_str()), ("Cargo.lock", &lock), ("src/main.rs", MAIN)];
    crates.publish("Greeter", "1.0.0", &files);
}

/// Publishes a crate without dependencies, with this build script.
pub(crate) fn scripted(crates: &Crates, name: &str, script: &str) {
    let lock = crate_lock(name, "1.0.0", &[]);
    let toml = manifest(name, "");
    let files = [
        ("Cargo.toml", toml.as_str()),
        ("Cargo.lock", &lock),
        ("build.rs", script),
        ("src/main.rs", "fn main() {}\n"),
    ];
    crates.publish(name, "1.0.0", &files);
}

async fn built(farm: &Farm, package: &str, options: Value) -> Value {
    let told = farm.order(json!({
        "ecosystem": "crates", "package": package, "version": "1.0.0", "options": options,
    }));
    let told = told.await;
    farm.ended(told["key"].as_str().unwrap()).await
}

/// The files of an artifact, unpacked: the names, and what each says when it is run.
async fn said(farm: &Farm, told: &Value) -> Vec<(String, String)> {
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let blob = told["build"]["blob"].as_str().unwrap_or_else(|| panic!("no artifact: {told}"));
    let object = s3.get_object().bucket(bucket).key(blob).send().await.unwrap();
    let bytes = object.body.collect().await.unwrap().to_vec();
    let folder = tempfile::tempdir_in(farm.world.folder()).unwrap();
    let mut files = Vec::new();
    let mut tar = tar::Archive::new(zstd::Decoder::new(&bytes[..]).unwrap());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert!(entry.header().entry_type().is_file());
        let name = entry.path().unwrap().display().to_string();
        let (path, mut content) = (folder.path().join(&name), Vec::new());
        entry.read_to_end(&mut content).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        files.push((name, path));
    }
    let mut said = Vec::new();
    for (name, path) in files {
        let output = Command::new(path).output().await.unwrap();
        said.push((name, String::from_utf8(output.stdout).unwrap()));
    }
    said
}

#[tokio::test]
async fn a_crate_is_compiled_with_its_features_to_binaries_that_run() {
    let crates = Crates::new().await;
    greeter(&crates);
    let farm = farm(&crates, &[]).await;
    let plain = built(&farm, "Greeter", json!({})).await;
    assert_eq!(said(&farm, &plain).await, [("Greeter".to_owned(), "hello\n".to_owned())]);
    let name = plain["build"]["filename"].as_str().unwrap();
    assert_eq!(name, "greeter-1.0.0-x86_64-unknown-linux-gnu.tar.zst");
    let loud = built(&farm, "greeter", json!({"features": ["loud"], "march": "x86-64-v2"})).await;
    assert_eq!(said(&farm, &loud).await[0].1, "hello!\n");
    assert_eq!(loud["options"], "features=loud,march=x86-64-v2");
    // Another spelling is the same build.
    let again = built(&farm, "GREETER", json!("march=x86_64_v2 features=loud")).await;
    assert_eq!((&again["key"], farm.begun().await), (&loud["key"], 2));
    let parts = &plain["build"]["parts"];
    assert_eq!(parts["build_requires"]["greet-1.0.0.crate"].as_str().unwrap().len(), 64);
    let (this, that) = (plain["key"].as_str().unwrap(), loud["key"].as_str().unwrap());
    let path = format!("/v1/builds/{this}/explain?against={that}");
    let differs = json!({"options": {"this": "default", "that": "features=loud,march=x86-64-v2"}});
    assert_eq!(farm.gateway.json(&path).await.1["artifact"], differs);
    let (_, bom) = farm.gateway.json(&format!("/v1/builds/{this}/sbom")).await;
    assert_eq!(bom["metadata"]["component"]["purl"], "pkg:cargo/greeter@1.0.0");
    assert!(bom["components"].to_string().contains("greet-1.0.0.crate"), "{bom}");
    let twice = farm.gateway.ask("POST", &format!("/v1/builds/{this}/build-twice"), &[], "").await;
    assert_eq!(twice.status, 202, "{twice:?}");
    let verdict = eventually("a verdict", Duration::from_secs(120), async || {
        let (_, told) = farm.gateway.json(&format!("/v1/builds/{this}")).await;
        told["verdict"].is_object().then(|| told["verdict"].clone())
    })
    .await;
    assert_eq!(verdict["reproducible"], true, "{verdict}");
    farm.end().await;
}

#[tokio::test]
async fn what_a_crate_does_wrong_is_told_and_the_next_build_is_normal() {
    let crates = Crates::new().await;
    greeter(&crates);
    scripted(
        &crates,
        "reaches-out",
        "fn main() {\n    \
        std::net::TcpStream::connect(\"1.1.1.1:80\").expect(\"error: no network here\");\n}\n",
    );
    scripted(
        &crates,
        "waits",
        "fn main() {\n    \
        std::thread::sleep(std::time::Duration::from_secs(600));\n}\n",
    );
    let unmet = manifest("unmet", "[dependencies]\ngreet = '^7'\n");
    crates.publish_needing("unmet", "1.0.0", &[("greet", "^7")], &[("Cargo.toml", &unmet)]);
    let (toml, lock) = (manifest("library", ""), crate_lock("library", "1.0.0", &[]));
    let files = [("Cargo.toml", toml.as_str()), ("Cargo.lock", &lock), ("src/lib.rs", "")];
    crates.publish("library", "1.0.0", &files);
    let git = crate_lock("forked", "1.0.0", &[("greet", "1.0.0", "00")])
        .replace("registry+https://github.com/rust-lang/crates.io-index", "git+https://x.test/g#1");
    crates.publish("forked", "1.0.0", &[("Cargo.lock", &git)]);
    let farm = farm(&crates, &[("FLOTILLA_BUILD_SECONDS", "45")]).await;
    let all = [
        ("reaches-out", json!({}), "the build failed"),
        ("waits", json!({}), "took over 45 s"),
        ("unmet", json!({}), "nothing satisfies its requirement greet ^7"),
        ("library", json!({}), "no binary"),
        ("forked", json!({}), "git+https://x.test/g#1"),
        ("greeter", json!({"features": ["nothing"]}), "nothing"),
    ];
    let each = all.iter().map(|(package, options, _)| built(&farm, package, options.clone()));
    let told = join_all(each).await;
    for ((package, _, reason), told) in all.into_iter().zip(told) {
        let build = &told["build"];
        assert_eq!((&build["state"], &build["ours"]), (&json!("failed"), &json!(false)), "{told}");
        assert!(build["reason"].as_str().unwrap().contains(reason), "{package}: {told}");
    }
    let fine = built(&farm, "greeter", json!({})).await;
    assert_eq!(said(&farm, &fine).await[0].1, "hello\n");
    farm.end().await;
}

#[tokio::test]
async fn a_crate_without_a_lock_is_built_with_what_was_chosen_for_it_and_stays_so() {
    let crates = Crates::new().await;
    let greet = |version: &str, word: &str| {
        let toml = manifest("greet", "").replace("1.0.0", version);
        let text = GREETING.replace("hello", word);
        crates.publish("greet", version, &[("Cargo.toml", &toml), ("src/lib.rs", &text)]);
    };
    greet("1.0.0", "first");
    greet("1.4.0", "newest that fits both");
    greet("1.9.0", "too new for one");
    greet("2.0.0", "too new");
    let toml = manifest("between", "[dependencies]\ngreet = '>=1, <1.5'\n");
    let text = "pub use greet::greeting;\n";
    let files = [("Cargo.toml", toml.as_str()), ("src/lib.rs", text)];
    crates.publish_needing("between", "1.0.0", &[("greet", ">=1, <1.5")], &files);
    let toml = manifest("unlocked", "[dependencies]\ngreet = '1'\nbetween = '1'\n");
    let main = "fn main() { println!(\"{} {}\", greet::greeting(), between::greeting()) }\n";
    let files = [("Cargo.toml", toml.as_str()), ("src/main.rs", main)];
    crates.publish_needing("unlocked", "1.0.0", &[("greet", "^1"), ("between", "^1")], &files);
    let farm = farm(&crates, &[]).await;
    let told = built(&farm, "unlocked", json!({})).await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    assert_eq!(said(&farm, &told).await[0].1, "newest that fits both newest that fits both\n");
    let locked = told["locked"]["wheels"].as_array().unwrap();
    let names: Vec<_> = locked.iter().map(|it| it["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["between-1.0.0.crate", "greet-1.4.0.crate", "greet-1.9.0.crate"]);
    // What is new meanwhile is for a retry.
    greet("1.4.5", "newer");
    let key = told["key"].as_str().unwrap();
    let twice = farm.gateway.ask("POST", &format!("/v1/builds/{key}/build-twice"), &[], "").await;
    assert_eq!(twice.status, 202, "{twice:?}");
    let verdict = eventually("a verdict", Duration::from_secs(120), async || {
        let (_, told) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
        told["verdict"].is_object().then(|| told["verdict"].clone())
    });
    assert_eq!(verdict.await["reproducible"], true);
    farm.gateway.ask("POST", &format!("/v1/builds/{key}/retry"), &[], "").await;
    let told = farm.ended(key).await;
    assert_eq!(said(&farm, &told).await[0].1, "newer newer\n");
    farm.end().await;
}

/// What a build script does that would have another file handed out than the one that was compiled.
const LINKER: &str = "use std::{fs, os::unix::fs::symlink, path::PathBuf};\n\
    fn main() {\n\
    let out = PathBuf::from(std::env::var(\"OUT_DIR\").unwrap());\n\
    let release = out.ancestors().nth(3).unwrap();\n\
    fs::remove_file(release.join(\"linker\")).ok();\n\
    symlink(\"/etc/passwd\", release.join(\"linker\")).unwrap();\n}\n";

#[tokio::test]
async fn a_wrapper_of_the_compiler_and_links_in_the_target_folder_get_nothing_in_or_out() {
    let crates = Crates::new().await;
    let wrapped = |name: &str| {
        let lock = crate_lock(name, "1.0.0", &[]);
        let toml = manifest(name, "");
        let config = "[build]\nrustc-wrapper = '/bin/false'\ntarget-dir = '/tmp/elsewhere'\n";
        let files = [
            ("Cargo.toml", toml.as_str()),
            ("Cargo.lock", &lock),
            (".cargo/config.toml", config),
            ("src/main.rs", "fn main() { println!(\"as written\") }\n"),
        ];
        crates.publish(name, "1.0.0", &files);
    };
    wrapped("wrapped");
    scripted(&crates, "linker", LINKER);
    let farm = farm(&crates, &[]).await;
    let told = built(&farm, "wrapped", json!({})).await;
    assert_eq!(said(&farm, &told).await[0].1, "as written\n", "its configuration is not read");
    let told = built(&farm, "linker", json!({})).await;
    match told["build"]["state"].as_str().unwrap() {
        // Cargo has put the binary in place of the link.
        "done" => assert_eq!(said(&farm, &told).await[0].1, ""),
        state => assert_eq!((state, &told["build"]["ours"]), ("failed", &json!(false)), "{told}"),
    }
    farm.end().await;
}

#[tokio::test]
async fn what_no_crate_has_is_refused_with_the_reason() {
    let crates = Crates::new().await;
    greeter(&crates);
    let farm = farm(&crates, &[]).await;
    for (order, status, word) in [
        (json!({"ecosystem": "crates", "package": "greeter", "version": "9.0.0"}), 404, "9.0.0"),
        (json!({"ecosystem": "crates", "package": "nobody", "version": "1.0.0"}), 404, "nobody"),
        (json!({"ecosystem": "crates", "package": "../x", "version": "1.0.0"}), 422, "../x"),
        (json!({"ecosystem": "gems", "package": "x", "version": "1.0.0"}), 422, "pypi, crates"),
        (
            json!({"ecosystem": "crates", "package": "greeter", "version": "1.0.0",
                "options": {"extras": ["a"]}}),
            422,
            "features",
        ),
    ] {
        let answer = farm.gateway.ask("POST", "/v1/builds", &[], &order.to_string()).await;
        assert!(answer.status == status && answer.body.contains(word), "{order}: {answer:?}");
    }
    let path = "/package?package=crates/greeter&version=1.0.0&useflag=&wait=1";
    let (_, done) = farm.gateway.json(path).await;
    assert_eq!(done["status"], "SUCCESS", "{done}");
    // Noted behind the answer.
    eventually("the option set that is wanted", Duration::from_secs(10), async || {
        let (_, found) = farm.gateway.json("/v1/packages?q=GREET&ecosystem=crates").await;
        (found["packages"][0]["wanted"] == json!(["default"])).then_some(())
    })
    .await;
    // A new version is compiled for the option set that somebody got it with.
    let toml = manifest("Greeter", "").replace("1.0.0", "1.1.0");
    let lock = crate_lock("Greeter", "1.1.0", &[]);
    let files = [
        ("Cargo.toml", toml.as_str()),
        ("Cargo.lock", &lock),
        ("src/main.rs", "fn main() { println!(\"new\") }\n"),
    ];
    crates.publish("Greeter", "1.1.0", &files);
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    farm.world.until_built().await;
    let told = farm.order(json!({"ecosystem": "crates", "package": "greeter", "version": "1.1.0"}));
    let told = told.await;
    assert_eq!((&told["build"]["state"], farm.begun().await), (&json!("done"), 2), "{told}");
    farm.end().await;
}
