//! New versions are noticed, what was missed is mended, and what nobody wants is forgotten.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{Farm, Fault, FaultProxy, Index, Mood, Rule, Seed, World, eventually};
use serde_json::{Value, json};

async fn refresh(farm: &Farm) {
    let (status, _) = farm.gateway.json("/refresh").await;
    assert_eq!(status, 202);
    farm.world.until_built().await;
}

/// The cursor of the changelog.
async fn cursor(farm: &Farm) -> Option<String> {
    let call =
        farm.world.aws.dynamo.get_item().table_name(&farm.world.outputs().packages_table_name);
    let call = call.key("package", Attr::S("cursor/pypi".into())).consistent_read(true);
    let item = call.send().await.unwrap().item?;
    item.get("changes_serial")?.as_n().ok().cloned()
}

#[tokio::test]
async fn all_packages_that_changed_since_the_last_look_are_noticed_and_no_others() {
    let farm = Farm::following().await;
    farm.pure("tiny", "1.0");
    farm.pure("idle", "1.0");
    farm.pip("opt=3", "tiny").await.unwrap();
    refresh(&farm).await;
    assert_eq!(cursor(&farm).await.as_deref(), Some("2"));
    let looked_at = farm.index.fetched("simple/idle");
    farm.pure("tiny", "1.1");
    farm.pure("Brand.New", "0.1");
    refresh(&farm).await;
    let rows = farm.world.builds("tiny").await;
    let built: Vec<_> = rows.iter().filter(|row| row["version"].as_s().unwrap() == "1.1").collect();
    assert_eq!(built.len(), 1, "{rows:?}");
    assert_eq!(built[0]["options"].as_s().unwrap(), "opt=3");
    assert_eq!(cursor(&farm).await.as_deref(), Some("4"));
    assert_eq!(farm.index.fetched("simple/idle"), looked_at, "it did not change");
    let (_, found) = farm.gateway.json("/v1/packages?q=brand_").await;
    assert_eq!(
        found["packages"],
        json!([{"name": "brand-new", "versions": ["0.1"], "wanted": []}])
    );
    let (status, known) = farm.gateway.json("/v1/packages/Tiny").await;
    assert_eq!((status, &known["wanted"]), (200, &json!(["opt=3"])));
    assert_eq!(known["versions"], json!(["1.0", "1.1"]));
    assert_eq!(farm.gateway.json("/v1/packages/nobody").await.0, 404);
    farm.end().await;
}

#[tokio::test]
async fn a_refresh_that_was_cut_off_before_its_cursors_moved_orders_the_same_and_builds_none_twice()
{
    let farm = Farm::following().await;
    farm.pure("tiny", "1.0");
    farm.pip("opt=3", "tiny").await.unwrap();
    refresh(&farm).await;
    let (table, dynamo) = (&farm.world.outputs().packages_table_name, &farm.world.aws.dynamo);
    let rows = async || {
        let mut rows = Vec::new();
        for key in ["cursor/pypi", "pypi/tiny"] {
            let call = dynamo.get_item().table_name(table).consistent_read(true);
            let answer = call.key("package", Attr::S(key.into())).send().await.unwrap();
            rows.push(answer.item.unwrap());
        }
        rows
    };
    let before = rows().await;
    farm.pure("tiny", "1.1");
    refresh(&farm).await;
    assert_eq!((cursor(&farm).await.as_deref(), farm.begun().await), (Some("2"), 2));
    // As who died after its last order and before the cursors moved has left them.
    for row in before {
        dynamo.put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
    }
    let looks = farm.index.fetched("simple/tiny");
    refresh(&farm).await;
    assert!(farm.index.fetched("simple/tiny") > looks, "it is looked at again");
    assert_eq!((cursor(&farm).await.as_deref(), farm.begun().await), (Some("2"), 2));
    let (_, known) = farm.gateway.json("/v1/packages/tiny").await;
    assert_eq!(known["versions"], json!(["1.0", "1.1"]));
    farm.end().await;
}

#[tokio::test]
async fn no_cursor_moves_on_and_no_build_is_lost_while_the_queue_takes_no_message() {
    let proxy = FaultProxy::new(&std::env::var("AWS_ENDPOINT_URL").unwrap(), Seed(0));
    let (world, index) = (World::new().await, Index::new().await);
    let worker = world.compile_worker(&index).env("FLOTILLA_PYPI_CHANGELOG", index.changelog());
    let worker = worker.env("AWS_ENDPOINT_URL", proxy.entrance(0).await);
    let gateway = world.package_gateway(&index);
    let farm = Farm::of((world, index), worker, gateway).await;
    farm.pure("tiny", "1.0");
    got(&farm, "opt=3", "tiny").await;
    refresh(&farm).await;
    assert_eq!(cursor(&farm).await.as_deref(), Some("1"));
    farm.pure("tiny", "1.1");
    proxy.obey(&[Rule { fault: Fault::ServerError, calls: &["SendMessage"], one_in: 1 }]);
    // A look at all that changed, whose looks at each cannot be sent; and one at this one, whose build
    // cannot.
    let look = json!({ "refresh": { "name": "tiny" } }).to_string();
    let queue = &farm.world.outputs().compile_refresh_queue_url;
    farm.world.aws.sqs.send_message().queue_url(queue).message_body(look).send().await.unwrap();
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    // Each is tried four times before it is given up for now.
    let failed = || proxy.injected().values().sum::<u64>();
    eventually("two that failed", Duration::from_secs(60), async || (failed() > 8).then_some(()))
        .await;
    let (_, known) = farm.gateway.json("/v1/packages/tiny").await;
    assert_eq!((cursor(&farm).await.as_deref(), &known["versions"]), (Some("1"), &json!(["1.0"])));
    proxy.obey(&[]);
    farm.world.until_built().await;
    assert_eq!((cursor(&farm).await.as_deref(), farm.begun().await), (Some("2"), 2));
    assert_eq!(versions(&farm, "tiny").await, ["1.0", "1.1"]);
    farm.end().await;
}

#[tokio::test]
async fn what_nobody_downloads_is_marked_and_then_forgotten_and_built_again_when_asked_for() {
    let settings = [
        ("FLOTILLA_RECONCILE_SECONDS", "0"),
        ("FLOTILLA_RETENTION_SECONDS", "2"),
        ("FLOTILLA_RETENTION_GRACE_SECONDS", "2"),
    ];
    let farm = Farm::with(&settings).await;
    farm.pure("tiny", "1.0");
    let (name, first) = farm.pip("default", "tiny").await.unwrap();
    eventually("no row", Duration::from_secs(60), async || {
        refresh(&farm).await;
        farm.world.builds("tiny").await.is_empty().then_some(())
    })
    .await;
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let listed = s3.list_objects_v2().bucket(bucket).prefix("blobs/").send().await.unwrap();
    assert!(listed.contents().iter().all(|it| !it.key().unwrap().contains(&name)), "{listed:?}");
    let (_, again) = eventually("the same again", Duration::from_secs(60), async || {
        farm.pip("default", "tiny").await.ok()
    })
    .await;
    assert!(first == again && farm.begun().await == 2);
    farm.end().await;
}

#[tokio::test]
async fn a_download_in_the_grace_keeps_the_row() {
    let settings = [
        ("FLOTILLA_RECONCILE_SECONDS", "0"),
        ("FLOTILLA_RETENTION_SECONDS", "2"),
        ("FLOTILLA_RETENTION_GRACE_SECONDS", "600"),
    ];
    let farm = Farm::with(&settings).await;
    farm.pure("tiny", "1.0");
    got(&farm, "opt=3", "tiny").await;
    let is_marked = async || {
        let rows = farm.world.builds("tiny").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].contains_key("marked_at")
    };
    eventually("a mark", Duration::from_secs(60), async || {
        refresh(&farm).await;
        is_marked().await.then_some(())
    })
    .await;
    farm.pip("opt=3", "tiny").await.unwrap();
    eventually("no mark", Duration::from_secs(20), async || (!is_marked().await).then_some(()))
        .await;
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}

#[tokio::test]
async fn an_order_whose_message_was_lost_is_sent_again_by_the_reconciler() {
    let mut farm = Farm::with(&[("FLOTILLA_RECONCILE_SECONDS", "0")]).await;
    farm.pure("tiny", "1.0");
    assert!(farm.worker.stop().await.success());
    let told = farm.order(json!({"package": "tiny", "version": "1.0"})).await;
    let (world, key) = (&farm.world, told["key"].as_str().unwrap());
    let queue = &world.outputs().compile_queue_url;
    world.aws.sqs.purge_queue().queue_url(queue).send().await.unwrap();
    let call = world.aws.dynamo.update_item().table_name(&world.outputs().builds_table_name);
    call.key("package", Attr::S("pypi/tiny".into()))
        .key("request", Attr::S(key.to_owned()))
        .update_expression("SET ordered_at = :long_ago")
        .expression_attribute_values(":long_ago", Attr::N("1".into()))
        .send()
        .await
        .unwrap();
    let worker = world.compile_worker(&farm.index).env("FLOTILLA_RECONCILE_SECONDS", "0");
    farm.worker = worker.ready().await;
    refresh(&farm).await;
    assert_eq!(farm.ended(key).await["build"]["state"], "done");
    farm.end().await;
}

#[tokio::test]
async fn what_no_row_points_to_is_swept_and_what_one_does_is_not() {
    let settings = [("FLOTILLA_RECONCILE_SECONDS", "0"), ("FLOTILLA_RETENTION_GRACE_SECONDS", "3")];
    let farm = Farm::with(&settings).await;
    farm.pure("tiny", "1.0");
    let (_, bytes) = farm.pip("default", "tiny").await.unwrap();
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    for stray in ["blobs/sha256/00/stray.whl", "logs/pypi/tiny/00/1-1.txt"] {
        let put = s3.put_object().bucket(bucket).key(stray);
        put.body(b"stray".to_vec().into()).send().await.unwrap();
    }
    let keys = async || {
        let listed = s3.list_objects_v2().bucket(bucket).send().await.unwrap();
        listed.contents().iter().map(|it| it.key().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("no strays", Duration::from_secs(60), async || {
        refresh(&farm).await;
        (!keys().await.iter().any(|key| key.contains("/00/"))).then_some(())
    })
    .await;
    assert!(keys().await.iter().any(|key| key.ends_with(".whl")), "{:?}", keys().await);
    assert!(farm.pip("default", "tiny").await.unwrap().1 == bytes && farm.begun().await == 1);
    farm.end().await;
}

#[tokio::test]
async fn a_look_for_new_versions_does_not_wait_behind_builds() {
    let settings = [("FLOTILLA_SLOTS", "1"), ("FLOTILLA_REFRESH_PACKAGES", "tiny")];
    let farm = Farm::with(&settings).await;
    farm.pure("tiny", "1.0");
    let mut keys = Vec::new();
    for n in 0..5 {
        let name = format!("slow{n}");
        farm.doing(&name, "1.0", "import time\ntime.sleep(4)\n");
        let told = farm.order(json!({"package": name, "version": "1.0"})).await;
        keys.push(told["key"].as_str().unwrap().to_owned());
    }
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    eventually("the version that is there", Duration::from_secs(60), async || {
        let (_, known) = farm.gateway.json("/v1/packages/tiny").await;
        (known["versions"] == json!(["1.0"])).then_some(())
    })
    .await;
    let mut waiting = 0;
    for key in &keys {
        let (_, told) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
        waiting += usize::from(told["build"]["state"] == "ordered");
    }
    assert!(waiting > 0, "the look came behind all builds");
    for key in &keys {
        assert_eq!(farm.ended(key).await["build"]["state"], "done");
    }
    farm.end().await;
}

/// Has pip get a package with these options, and waits until that is noted: it is behind the answer.
async fn got(farm: &Farm, optset: &str, name: &str) {
    farm.pip(optset, name).await.unwrap();
    eventually("a download that is noted", Duration::from_secs(20), async || {
        let (_, known) = farm.gateway.json(&format!("/v1/packages/{name}")).await;
        (known["wanted"] == json!([optset])).then_some(())
    })
    .await;
}

/// The versions of a package that were built.
async fn versions(farm: &Farm, name: &str) -> Vec<String> {
    let rows = farm.world.builds(name).await;
    let mut versions: Vec<_> =
        rows.iter().map(|row| row["version"].as_s().unwrap().clone()).collect();
    versions.sort();
    versions
}

/// The path of the artifact of a build, as the gateway says it.
fn place(told: &Value) -> String {
    let url = told["url"].as_str().unwrap_or_else(|| panic!("no address: {told}"));
    format!("/v1/artifacts{}", url.split_once("/v1/artifacts").expect("an address here").1)
}

#[tokio::test]
async fn who_only_looks_how_a_build_stands_downloads_nothing() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (looked_at, had) = (farm.built("tiny", "").await, farm.built("tiny", "opt=3").await);
    assert_ne!(place(&looked_at), place(&had));
    assert_eq!(farm.gateway.ask("HEAD", &place(&looked_at), &[], "").await.status, 200);
    let sent = farm.gateway.ask("GET", &place(&had), &[], "").await;
    assert!(sent.status == 302 && sent.header("location").unwrap().contains("/blobs/sha256/"));
    eventually("a download that is noted", Duration::from_secs(20), async || {
        let (_, known) = farm.gateway.json("/v1/packages/tiny").await;
        (known["wanted"] == json!(["opt=3"])).then_some(())
    })
    .await;
    farm.pure("tiny", "1.1");
    refresh(&farm).await;
    let rows = farm.world.builds("tiny").await;
    let new = rows.iter().filter(|row| row["version"].as_s().unwrap() == "1.1");
    let options: Vec<_> = new.map(|row| row["options"].as_s().unwrap().as_str()).collect();
    assert_eq!(options, ["opt=3"], "nobody had the other");
    let other = place(&had).replace("tiny-1.0", "tiny-1.1");
    assert_eq!(farm.gateway.ask("GET", &other, &[], "").await.status, 404);
    farm.end().await;
}

#[tokio::test]
async fn an_artifact_that_is_gone_is_built_again_for_who_asks_for_it_by_its_key() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let told = farm.built("tiny", "").await;
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let blob = told["build"]["blob"].as_str().unwrap();
    s3.delete_object().bucket(bucket).key(blob).send().await.unwrap();
    eventually("word that it was lost", Duration::from_secs(20), async || {
        let lost = farm.gateway.ask("GET", &place(&told), &[], "").await;
        (lost.status != 302).then(|| assert_eq!(lost.status, 503, "{lost:?}"))
    })
    .await;
    let healed = farm.ended(told["key"].as_str().unwrap()).await;
    assert_eq!((&healed["epoch"], &healed["url"]), (&json!(2), &told["url"]), "{healed}");
    assert_eq!(farm.gateway.ask("GET", &place(&told), &[], "").await.status, 302);
    farm.end().await;
}

#[tokio::test]
async fn pages_without_etags_are_known_by_their_date_or_by_what_is_in_them() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    got(&farm, "opt=3", "tiny").await;
    for (mood, version, next) in [(Mood::Dated, "1.1", "1.2"), (Mood::Unmarked, "1.3", "1.4")] {
        farm.index.feels(mood);
        farm.pure("tiny", version);
        refresh(&farm).await;
        let (told, fetched) = (farm.index.unchanged("tiny"), farm.index.fetched("simple/tiny"));
        refresh(&farm).await;
        assert!(farm.index.fetched("simple/tiny") > fetched, "{mood:?}: it was looked at again");
        let unchanged = farm.index.unchanged("tiny") - told;
        assert_eq!(unchanged > 0, mood == Mood::Dated, "{mood:?}: {unchanged}");
        farm.pure("tiny", next);
        refresh(&farm).await;
        let built = versions(&farm, "tiny").await;
        assert!([version, next].iter().all(|it| built.iter().any(|has| has == it)), "{built:?}");
    }
    assert_eq!(versions(&farm, "tiny").await, ["1.0", "1.1", "1.2", "1.3", "1.4"]);
    farm.end().await;
}

#[tokio::test]
async fn a_page_that_is_older_than_its_change_is_looked_at_again_until_it_is_not() {
    let farm = Farm::following().await;
    farm.pure("tiny", "1.0");
    got(&farm, "opt=3", "tiny").await;
    refresh(&farm).await;
    farm.index.feels(Mood::Stale);
    farm.pure("tiny", "1.1");
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    eventually("a look at the old page", Duration::from_secs(30), async || {
        farm.worker.log().contains("is older than what was seen of it").then_some(())
    })
    .await;
    assert_eq!(versions(&farm, "tiny").await, ["1.0"]);
    farm.index.feels(Mood::Well);
    farm.world.until_built().await;
    assert_eq!(versions(&farm, "tiny").await, ["1.0", "1.1"]);
    farm.end().await;
}
