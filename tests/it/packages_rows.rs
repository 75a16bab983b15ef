//! The rows of builds and packages, written by several who know nothing of each other.

use compile_worker::{
    builder::BuilderInfo,
    builds::{Again, Builds, Failed, Live, Ordered, Request, Row, State},
    message::BuildOrder,
    options::Options,
    packages::Packages,
};
use flotilla_tests::World;
use futures::future::join_all;

/// A world's rows of one request.
struct Rows {
    world: World,
    builds: Builds,
    request: Request,
}

impl Rows {
    async fn new() -> Self {
        let world = World::new().await;
        let builds = Builds::new(world.aws.dynamo.clone(), &world.outputs().builds_table_name);
        let builder = BuilderInfo { image: "i".into(), abi: "cp311".into(), ..Default::default() };
        let request = Request::new("pypi", "tiny", "1.0", Options::default(), &builder).unwrap();
        Self { world, builds, request }
    }

    async fn row(&self) -> Row {
        let row = self.builds.get(&self.request.package(), &self.request.key).await.unwrap();
        row.expect("a row")
    }

    /// The order that one of many who ask at once has to send.
    async fn ordered(&self, again: Again) -> BuildOrder {
        let all = join_all((0..20).map(|_| self.builds.order(&self.request, again))).await;
        let send = all.into_iter().filter_map(|it| match it.unwrap() {
            Ordered::Send(order) => Some(order),
            Ordered::Stands(_) => None,
        });
        let send: Vec<_> = send.collect();
        assert_eq!(send.len(), 1, "{again:?}: {send:?}");
        send[0].clone()
    }

    /// Ends an order; whether its row took that.
    async fn end(&self, order: &BuildOrder, reason: &str) -> bool {
        let retry_at = u64::MAX >> 1;
        let failed = Failed { reason: reason.into(), ours: false, log: None, retry_at };
        let items = self.builds.end(order, &State::Failed(failed)).unwrap();
        let call = self.world.aws.dynamo.transact_write_items();
        call.set_transact_items(Some(items)).send().await.is_ok()
    }
}

// The many connections that these leave open are served while the world ends, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_open_a_row_at_once_one_sends_and_no_earlier_try_writes_into_a_later_one() {
    let rows = Rows::new().await;
    let first = rows.ordered(Again::Expired).await;
    assert_eq!((first.epoch, rows.row().await.sent), (1, false));
    rows.builds.sent(&first).await.unwrap();
    assert!(rows.row().await.sent && rows.end(&first, "one").await);
    let second = rows.ordered(Again::Retry).await;
    assert_eq!((second.epoch, rows.row().await.sent), (2, false));
    // Who comes late of the first try changes nothing of the second.
    rows.builds.sent(&first).await.unwrap();
    rows.builds.unsent(&first).await.unwrap();
    rows.builds.live(&first, Live { generation: 9, pieces: 9 }).await.unwrap();
    assert!(!rows.end(&first, "late").await);
    let row = rows.row().await;
    assert_eq!((&row.state, row.sent, row.live), (&State::Ordered, false, None));
    assert!(row.ordered_at > 0);
    // Nor does a log of what has ended, nor one of a worker that lost its lease.
    let (older, newer) = (Live { generation: 1, pieces: 5 }, Live { generation: 2, pieces: 1 });
    rows.builds.live(&second, newer).await.unwrap();
    rows.builds.live(&second, older).await.unwrap();
    assert_eq!(rows.row().await.live, Some(newer));
    assert!(rows.end(&second, "two").await);
    rows.builds.live(&second, Live { generation: 3, pieces: 9 }).await.unwrap();
    let row = rows.row().await;
    assert!(matches!(&row.state, State::Failed(failed) if failed.reason == "two"), "{row:?}");
    assert_eq!(row.live, Some(newer));
    let stands = rows.builds.order(&rows.request, Again::Expired).await.unwrap();
    assert!(matches!(stands, Ordered::Stands(row) if row.epoch == 2), "it is remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_downloaded_meanwhile_is_neither_marked_nor_deleted_and_none_begins_anew() {
    let rows = Rows::new().await;
    let order = rows.ordered(Again::Expired).await;
    assert!(rows.end(&order, "one").await);
    let before = rows.row().await;
    rows.builds.downloaded(&rows.request).await.unwrap();
    assert!(!rows.builds.mark(&before).await.unwrap(), "it was downloaded since it was read");
    let once = Row { downloaded_at: Some(5), ..rows.row().await };
    assert!(!rows.builds.mark(&once).await.unwrap(), "it was downloaded again since");
    assert!(rows.builds.mark(&rows.row().await).await.unwrap());
    let marked = rows.row().await;
    assert!(!rows.builds.mark(&marked).await.unwrap(), "it is marked");
    rows.builds.downloaded(&rows.request).await.unwrap();
    assert!(!rows.builds.forget(&marked).await.unwrap(), "its mark is gone");
    assert_eq!(rows.row().await.marked_at, None);
    assert!(rows.builds.mark(&rows.row().await).await.unwrap());
    assert!(rows.builds.forget(&rows.row().await).await.unwrap());
    let key = &rows.request.key;
    assert_eq!(rows.builds.get(&rows.request.package(), key).await.unwrap(), None);
    // Builds happen once per epoch.
    assert_eq!(rows.ordered(Again::Expired).await.epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_never_moves_back_and_of_all_who_want_to_reconcile_one_does() {
    let world = World::new().await;
    let table = &world.outputs().packages_table_name;
    let packages = Packages::new(world.aws.dynamo.clone(), table);
    for (moved, stands) in [(7, 7), (5, 7), (9, 9)] {
        packages.move_cursor(moved).await.unwrap();
        assert_eq!(packages.cursor().await.unwrap().0, Some(stands));
    }
    for _ in 0..2 {
        let (_, before) = packages.cursor().await.unwrap();
        let all = join_all((0..10).map(|_| packages.reconciling(before))).await;
        assert_eq!(all.into_iter().filter(|it| *it.as_ref().unwrap()).count(), 1);
    }
}
