//! The page of a project that nobody knows a version of yet.

use std::time::{Duration, Instant};

use flotilla_tests::{Farm, Index, World};

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
async fn who_takes_no_comments_and_whom_nobody_publishes_for_is_told_in_the_end() {
    let (world, index) = (World::new().await, Index::new().await);
    let worker = world.compile_worker(&index).ready().await;
    let gateway = world.package_gateway(&index).env("FLOTILLA_HOLD_SECONDS", "2").ready().await;
    let farm = Farm { world, index, worker, gateway };
    let json = [("Accept", "application/vnd.pypi.simple.v1+json")];
    assert_eq!(farm.gateway.ask("GET", PAGE, &json, "").await.status, 404);
    let held = farm.gateway.ask("GET", PAGE, &[("Accept", "text/html")], "").await;
    assert!(held.status == 200 && held.body.contains("upstream has no project"), "{held:?}");
    assert!(!held.body.contains("<a "), "{held:?}");
    assert!(farm.pip("default", "newcomer").await.unwrap_err().contains("newcomer"));
    farm.end().await;
}
