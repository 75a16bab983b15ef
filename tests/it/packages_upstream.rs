//! Upstream that fails, hangs, or says what is not true.

use std::{
    io::{Cursor, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flate2::{Compression, write::GzEncoder};
use flotilla_tests::{Answer, Farm, Mood, eventually, sdist};
use serde_json::{Value, json};

const HTML: [(&str, &str); 1] = [("Accept", "text/html")];
const SETUP: &str = "from setuptools import setup\n\
    setup(name='zipped', version='1.0', py_modules=['tiny'])\n";

/// An answer, and how long it took.
async fn timed(farm: &Farm, path: &str) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = farm.gateway.ask("GET", path, &HTML, "").await;
    (answer, start.elapsed())
}

#[tokio::test]
async fn what_is_built_is_served_while_upstream_fails_or_hangs() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (_, built) = farm.pip("default", "tiny").await.unwrap();
    farm.index.feels(Mood::Failing);
    // Older than a page may be where upstream answers.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(farm.pip("default", "tiny").await.unwrap().1 == built);
    let (unknown, _) = timed(&farm, "/o/default/simple/nobody/").await;
    assert!(unknown.status == 503 && unknown.header("retry-after").is_some(), "{unknown:?}");
    let package = "/package?package=nobody&version=1.0&useflag=";
    let (status, told) = farm.gateway.json(package).await;
    assert_eq!((status, told["status"].as_str()), (503, Some("WAIT")), "{told}");
    farm.index.feels(Mood::Hanging);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let start = Instant::now();
    let warm = async { (farm.pip("default", "tiny").await.unwrap(), start.elapsed()) };
    // Whether there is such a project, nobody can say: not that there is none.
    let (((_, warm), took), (unknown, waited)) =
        tokio::join!(warm, timed(&farm, "/o/default/simple/nothing/"));
    assert!(warm == built && took < Duration::from_secs(14), "{took:?}");
    assert!(unknown.status == 503 && waited < Duration::from_secs(14), "{waited:?}: {unknown:?}");
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}

#[tokio::test]
async fn a_gateway_that_starts_while_upstream_is_away_serves_the_versions_that_are_known() {
    let mut farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (_, built) = farm.pip("default", "tiny==1.0").await.unwrap();
    // A download is noted behind its answer.
    eventually("the versions that were seen", Duration::from_secs(10), async || {
        let (_, known) = farm.gateway.json("/v1/packages/tiny").await;
        (known["versions"] == json!(["1.0"])).then_some(())
    })
    .await;
    farm.index.feels(Mood::Failing);
    assert!(farm.gateway.stop().await.success());
    farm.gateway = farm.world.package_gateway(&farm.index).ready().await;
    let tiny = "/o/default/simple/tiny/";
    let (page, _) = timed(&farm, tiny).await;
    assert!(page.status == 200 && page.body.contains(">tiny-1.0-"), "{page:?}");
    assert!(page.header("warning").is_some_and(|it| it.starts_with("110 ")), "{page:?}");
    assert!(farm.pip("default", "tiny").await.unwrap().1 == built);
    let (unknown, _) = timed(&farm, "/o/default/simple/nobody/").await;
    assert_eq!(unknown.status, 503, "{unknown:?}");
    farm.index.feels(Mood::Hanging);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (page, took) = timed(&farm, tiny).await;
    assert!(page.status == 200 && took < Duration::from_secs(9), "{took:?}: {page:?}");
    farm.index.feels(Mood::Well);
    eventually("upstream's own word", Duration::from_secs(60), async || {
        let (page, _) = timed(&farm, tiny).await;
        (page.status == 200 && page.header("warning").is_none()).then_some(())
    })
    .await;
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}

#[tokio::test]
async fn a_wheel_is_held_nine_times_at_most_and_never_longer_than_a_client_waits() {
    let mut farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    assert!(farm.worker.stop().await.success());
    let tiny = "/o/default/wheels/tiny/1.0/tiny-1.0-cp311-cp311-linux_x86_64.whl";
    // So that it is known what there is of it.
    farm.gateway.ask("GET", "/o/default/simple/tiny/", &[], "").await;
    farm.index.feels(Mood::Hanging);
    let slow = tiny.replace("tiny", "unseen");
    let (of_metadata, eighth, ninth) =
        (format!("{slow}.metadata"), format!("{tiny}?hop=8"), format!("{tiny}?hop=9"));
    let answers = tokio::join!(
        timed(&farm, &eighth),
        timed(&farm, &ninth),
        timed(&farm, &slow),
        timed(&farm, &of_metadata),
    );
    let (eighth, ninth, slow, of_metadata) = answers;
    for (answer, took) in [&eighth, &ninth, &slow, &of_metadata] {
        assert!(*took < Duration::from_secs(14), "{took:?}: {answer:?}");
    }
    let last = eighth.0.header("location").unwrap();
    assert_eq!((eighth.0.status, last.starts_with(&format!("{tiny}?hop=9&"))), (302, true));
    assert!(last.contains("run-the-same-command-again-later"), "pip shows it at last: {last}");
    assert_eq!((ninth.0.status, ninth.0.header("retry-after")), (503, Some("10")));
    assert_eq!((slow.0.status, of_metadata.0.status), (302, 302));
    farm.index.feels(Mood::Well);
    farm.worker = farm.world.compile_worker(&farm.index).ready().await;
    farm.end().await;
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, text) in files {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("zipped-1.0/{path}"), options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A source in which nothing may be written to, and that writes all the same.
fn read_only() -> Vec<u8> {
    let setup = format!("open('tiny.py', 'a').close()\nopen('made', 'w').close()\n{SETUP}");
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, mode, text) in [
        ("", 0o555, ""),
        ("setup.py", 0o444, setup.replace("zipped", "fixed").as_str()),
        ("tiny.py", 0o444, "x = 1\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_entry_type(match path {
            "" => tar::EntryType::Directory,
            _ => tar::EntryType::Regular,
        });
        tar.append_data(&mut header, format!("fixed-1.0/{path}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().and_then(GzEncoder::finish).unwrap()
}

#[tokio::test]
async fn a_source_that_is_read_only_is_built_as_pip_builds_it() {
    let farm = Farm::new().await;
    farm.index.put("fixed-1.0.tar.gz", read_only());
    let told = farm.built("fixed", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    farm.end().await;
}

/// The same archive, compressed by another module of Python.
fn compressed(archive: &[u8], module: &str) -> Vec<u8> {
    let code = format!(
        "import gzip, sys, {module}\n\
         sys.stdout.buffer.write({module}.compress(gzip.decompress(sys.stdin.buffer.read())))"
    );
    let mut python = std::process::Command::new("python3");
    python.args(["-c", &code]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3");
    python.stdin.take().unwrap().write_all(archive).unwrap();
    let done = python.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    done.stdout
}

#[tokio::test]
async fn a_source_that_is_compressed_in_an_older_way_is_built() {
    let farm = Farm::new().await;
    for (module, end) in [("bz2", "tar.bz2"), ("lzma", "tar.xz")] {
        let setup = SETUP.replace("zipped", module);
        let archive = sdist(module, "1.0", &[("setup.py", &setup), ("tiny.py", "x = 1\n")]);
        farm.index.put(&format!("{module}-1.0.{end}"), compressed(&archive, module));
        let told = farm.built(module, "").await;
        assert_eq!(told["build"]["state"], "done", "{told}");
    }
    let mut broken = compressed(&sdist("broken", "1.0", &[]), "bz2");
    broken.truncate(broken.len() / 2);
    farm.index.put("broken-1.0.tar.bz2", broken);
    let told = farm.built("broken", "").await;
    assert!(told["build"]["reason"].as_str().unwrap().contains("cannot be unpacked"), "{told}");
    farm.end().await;
}

#[tokio::test]
async fn sources_that_lie_are_not_built_and_failures_are_forgotten() {
    let farm =
        Farm::with(&[("FLOTILLA_MAX_ATTEMPTS", "1"), ("FLOTILLA_FAILURE_SECONDS", "2")]).await;
    let files = [("setup.py", SETUP), ("tiny.py", "x = 1\n")];
    farm.index.put_as("liar-1.0.tar.gz", sdist("liar", "1.0", &files), &"00".repeat(32));
    let told = farm.built("liar", "").await;
    assert_eq!((&told["build"]["state"], &told["build"]["ours"]), (&json!("failed"), &json!(true)));
    assert!(told["build"]["reason"].as_str().unwrap().contains("SHA-256"), "{told}");
    // Older sources are zips.
    farm.index.put("zipped-1.0.zip", zipped(&files));
    let told = farm.built("zipped", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    let setup = SETUP.replace("zipped", "tarred");
    let other_files = [("setup.py", setup.as_str()), ("tiny.py", "x = 1\n")];
    farm.index.put("tarred-1.0.tgz", sdist("tarred", "1.0", &other_files));
    let told = farm.built("tarred", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    // A source whose requirement would end a parser that goes one call deeper for each sign.
    let deep = "(".repeat(100_000);
    let project = format!("[build-system]\nrequires = ['a; {deep}']\n");
    farm.index.publish("deep", "1.0", &[("pyproject.toml", &project), ("setup.py", SETUP)]);
    let told = farm.built("deep", "").await;
    assert!(told["build"]["reason"].as_str().unwrap().contains("at most 4096 bytes"), "{told}");
    // A failure of the package's own is remembered for its time, and then no more.
    let order = json!({"package": "deep", "version": "1.0"});
    let key = told["key"].as_str().unwrap();
    let again: Value = eventually("another try", Duration::from_secs(20), async || {
        let told = farm.order(order.clone()).await;
        (told["epoch"] == 2).then_some(told)
    })
    .await;
    let first_end = told["build"]["retry_at"].as_u64().unwrap();
    assert!(jiff::Timestamp::now().as_second().cast_unsigned() >= first_end, "{again}");
    farm.ended(key).await;
    // Of the source that was not what the index said, after its only try.
    let dead = &farm.world.outputs().compile_dead_letter_queue_url;
    farm.world.dead_letters_on(dead, 1).await;
    farm.end().await;
}

/// Makes an order as old as this, in seconds.
async fn age(farm: &Farm, name: &str, key: &str, seconds: i64) {
    let then = jiff::Timestamp::now().as_second() - seconds;
    let call = farm.world.aws.dynamo.update_item();
    call.table_name(&farm.world.outputs().builds_table_name)
        .key("package", Attr::S(format!("pypi/{name}")))
        .key("request", Attr::S(key.to_owned()))
        .update_expression("SET ordered_at = :then")
        .expression_attribute_values(":then", Attr::N(then.to_string()))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn who_has_waited_for_long_is_told_so_and_when_to_ask_again() {
    let mut farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    assert!(farm.worker.stop().await.success());
    let told = farm.order(json!({"package": "tiny", "version": "1.0"})).await;
    let key = told["key"].as_str().unwrap();
    let wheel = "/o/default/wheels/tiny/1.0/tiny-1.0-py3-none-any.whl?hop=9";
    let metadata = wheel.replace('?', ".metadata?");
    let young = farm.gateway.ask("GET", wheel, &[], "").await;
    assert_eq!((young.status, young.header("retry-after")), (503, Some("10")), "{young:?}");
    age(&farm, "tiny", key, 200).await;
    for path in [wheel, &metadata] {
        let old = farm.gateway.ask("GET", path, &[], "").await;
        assert_eq!((old.status, old.header("retry-after")), (503, Some("10")), "{old:?}");
        assert!(old.body.contains("run the same command again later; log: http"), "{old:?}");
    }
    farm.worker = farm.world.compile_worker(&farm.index).ready().await;
    assert_eq!(farm.ended(key).await["build"]["state"], "done");
    farm.end().await;
}

#[tokio::test]
async fn who_waits_sends_no_second_message_while_the_first_is_queued() {
    let mut farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    assert!(farm.worker.stop().await.success());
    let order = json!({"package": "tiny", "version": "1.0"});
    let told = farm.order(order.clone()).await;
    let (key, queue) = (told["key"].as_str().unwrap(), &farm.world.outputs().compile_queue_url);
    age(&farm, "tiny", key, 7200).await;
    for _ in 0..3 {
        farm.order(order.clone()).await;
        farm.gateway.json("/package?package=tiny&version=1.0&useflag=").await;
    }
    let retry = farm.gateway.ask("POST", &format!("/v1/builds/{key}/retry"), &[], "").await;
    assert_eq!((retry.status, farm.world.left_on(queue).await), (202, 1), "{retry:?}");
    // Where nothing is queued or in hand, it was lost.
    farm.world.aws.sqs.purge_queue().queue_url(queue).send().await.unwrap();
    eventually("the message again", Duration::from_secs(30), async || {
        farm.order(order.clone()).await;
        (farm.world.left_on(queue).await == 1).then_some(())
    })
    .await;
    farm.worker = farm.world.compile_worker(&farm.index).ready().await;
    assert_eq!(farm.ended(key).await["build"]["state"], "done");
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}
