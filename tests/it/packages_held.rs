//! Answers that are held open: the page of a project that nobody knows a version of yet, and who waits
//! for a build.

use std::time::{Duration, Instant};

use flotilla_tests::{Farm, Index, World, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PAGE: &str = "/o/default/simple/newcomer/";

#[tokio::test]
async fn a_page_without_versions_is_held_by_comments_until_there_are_some() {
    let farm = Farm::new().await;
    let held = farm.gateway.ask("GET", PAGE, &[("Accept", "text/html")], "");
    let publish = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        farm.pure("newcomer", "1.0");
    };
    let (held, ()) = tokio::join!(held, publish);
    assert_eq!(held.status, 200);
    assert!(held.body.matches("<!-- no version of newcomer").count() >= 2, "{held:?}");
    assert!(held.body.contains(">newcomer-1.0-py3-none-any.whl</a>"), "{held:?}");
    assert!(held.body.trim_end().ends_with("</html>"), "{held:?}");
    // Only such a page is: one with versions is sent at once, also to who would take comments.
    let start = Instant::now();
    let known = farm.gateway.ask("GET", PAGE, &[("Accept", "text/html")], "").await;
    assert!(!known.body.contains("<!--") && start.elapsed() < Duration::from_secs(4), "{known:?}");
    farm.end().await;
}

#[tokio::test]
async fn pip_gets_a_package_that_is_published_while_its_page_is_held() {
    let farm = Farm::new().await;
    let publish = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        farm.pure("newcomer", "1.0");
    };
    let (got, ()) = tokio::join!(farm.pip("default", "newcomer"), publish);
    assert!(got.unwrap().0.starts_with("newcomer-1.0"));
    farm.end().await;
}

#[tokio::test]
async fn a_project_that_had_versions_and_is_gone_is_not_waited_for() {
    let farm = Farm::with(&[("FLOTILLA_REFRESH_PACKAGES", "newcomer")]).await;
    farm.pure("newcomer", "1.0");
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    eventually("the version that was seen", Duration::from_secs(60), async || {
        let (_, known) = farm.gateway.json("/v1/packages/newcomer").await;
        (known["versions"] == json!(["1.0"])).then_some(())
    })
    .await;
    farm.index.remove("newcomer-1.0.tar.gz");
    // A page may be a little old.
    let gone = eventually("a page without it", Duration::from_secs(60), async || {
        let page = farm.gateway.ask("GET", PAGE, &[("Accept", "text/html")], "").await;
        (!page.body.contains("<a ")).then_some(page)
    })
    .await;
    assert!(gone.status == 404 && gone.body.contains("no project"), "{gone:?}");
    farm.end().await;
}

#[tokio::test]
async fn who_takes_no_comments_and_whom_nobody_publishes_for_is_told_in_the_end() {
    let (world, index) = (World::new().await, Index::new().await);
    let worker = world.compile_worker(&index);
    let gateway = world.package_gateway(&index).env("FLOTILLA_HOLD_SECONDS", "2");
    let farm = Farm::of((world, index), worker, gateway).await;
    let json = [("Accept", "application/vnd.pypi.simple.v1+json")];
    assert_eq!(farm.gateway.ask("GET", PAGE, &json, "").await.status, 404);
    let held = farm.gateway.ask("GET", PAGE, &[("Accept", "text/html")], "").await;
    assert!(held.status == 200 && held.body.contains("upstream has no project"), "{held:?}");
    assert!(!held.body.contains("<a "), "{held:?}");
    assert!(farm.pip("default", "newcomer").await.unwrap_err().contains("newcomer"));
    farm.end().await;
}

#[tokio::test]
async fn who_waits_for_a_build_is_kept_alive_until_it_ends_however_long_that_takes() {
    let mut farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    assert!(farm.worker.stop().await.success());
    let mut stream = TcpStream::connect(farm.gateway.addr()).await.unwrap();
    let path = "/package?package=tiny&version=1.0&useflag=&wait=1";
    let asked = format!("GET {path} HTTP/1.0\r\nHost: gateway\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let until = async |stream: &mut TcpStream, said: &mut Vec<u8>, what: &[u8]| {
        while !said.windows(what.len()).any(|it| it == what) {
            assert_ne!(stream.read_buf(said).await.unwrap(), 0, "it ended early");
        }
    };
    let head = until(&mut stream, &mut said, b"\r\n\r\n");
    tokio::time::timeout(Duration::from_secs(12), head).await.expect("a status at once");
    let status = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(status.split(' ').nth(1), Some("200"), "{status}");
    until(&mut stream, &mut said, b"\r\n\r\n ").await;
    farm.worker = farm.world.compile_worker(&farm.index).ready().await;
    stream.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    let told: Value = serde_json::from_str(said.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(told["status"], "SUCCESS", "{told}");
    let unknown = path.replace("version=1.0", "version=7");
    assert_eq!(farm.gateway.json(&unknown).await.0, 404, "a refusal has its own status");
    farm.end().await;
}
