use super::*;

#[test]
fn health_fails_while_the_loop_says_why_and_recovers_with_the_next_receive() {
    let health = Health::new(Duration::from_secs(20));
    let failure = Failure::transient("docker", "the engine does not answer");
    health.failing(&failure, 1);
    assert_eq!(health.trouble(), None, "one failure alone is no trouble");
    health.failing(&failure, 2);
    assert_eq!(health.trouble().as_deref(), Some("the engine does not answer"));
    health.polled();
    assert_eq!(health.trouble(), None);
}

#[test]
fn a_worker_is_ready_only_between_its_first_receive_and_its_drain() {
    let health = Health::new(Duration::ZERO);
    assert!(health.unready().is_some());
    health.polled();
    assert_eq!(health.unready(), None);
    health.draining();
    assert!(health.unready().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_does_not_return_fails_health_and_readiness() {
    let health = Health::new(Duration::from_secs(20));
    health.polled();
    tokio::time::advance(Duration::from_secs(79)).await;
    assert_eq!((health.trouble(), health.unready()), (None, None));
    tokio::time::advance(Duration::from_secs(2)).await;
    for why in [health.trouble(), health.unready()] {
        assert_eq!(why.as_deref(), Some("no receive has returned for 81s"));
    }
    health.polled();
    assert_eq!(health.unready(), None);
}

#[tokio::test(start_paused = true)]
async fn of_several_queues_a_stall_of_any_fails_health_and_is_named() {
    let health = Health::new(Duration::from_secs(20));
    health.watch(["high".to_owned(), "low".to_owned()].into_iter());
    health.polled_at(0);
    let silent = "nothing has been received from low yet";
    assert_eq!(health.unready().as_deref(), Some(silent));
    health.polled_at(1);
    assert_eq!(health.unready(), None);
    tokio::time::advance(Duration::from_secs(81)).await;
    health.polled_at(0);
    for why in [health.trouble(), health.unready()] {
        assert_eq!(why.as_deref(), Some("no receive from low has returned for 81s"));
    }
}

#[tokio::test(start_paused = true)]
async fn full_slots_are_stuck_only_when_no_job_ends_for_as_long_as_is_set_from_then_on() {
    let wait = Duration::from_secs(20);
    for (health, limit) in
        [(Health::new(wait), 3600), (Health::of(wait, Duration::from_secs(9000)), 9000)]
    {
        tokio::time::advance(Duration::from_secs(20_000)).await;
        health.busy(0);
        assert_eq!(health.trouble(), None, "idle hours do not count");
        tokio::time::advance(Duration::from_secs(limit - 1)).await;
        assert_eq!(health.trouble(), None, "{limit} s are not over");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(health.trouble().is_some_and(|why| why.contains("every slot is busy")));
        health.moved();
        assert_eq!(health.trouble(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_has_its_slots_does_not_clear_that_another_waits_for_some() {
    let health = Health::new(Duration::from_secs(20));
    health.polled();
    health.busy(0);
    health.busy(0);
    health.free(0);
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(health.trouble(), None, "one waits for a slot: no receive is due");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(health.trouble().is_some_and(|why| why.contains("every slot is busy")));
    health.free(0);
    assert_eq!(health.trouble(), None, "a receive may begin");
    tokio::time::advance(Duration::from_secs(81)).await;
    assert_eq!(health.trouble().as_deref(), Some("no receive has returned for 81s"));
}

#[tokio::test(start_paused = true)]
async fn a_second_poller_that_comes_to_wait_does_not_begin_the_time_anew() {
    let health = Health::new(Duration::from_secs(20));
    health.busy(0);
    tokio::time::advance(Duration::from_secs(3000)).await;
    health.busy(0);
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(health.trouble().is_some_and(|why| why.contains("no job has ended for 3601s")));
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1_048_576
}

#[tokio::test(start_paused = true)]
async fn values_that_nobody_scrapes_do_not_pile_up() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&[1.0])
        .unwrap()
        .build_recorder();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keep_up(recorder.handle(), stop.clone()));
    let before = resident_mib();
    for _ in 0..20 {
        ::metrics::with_local_recorder(&recorder, || {
            let histogram = ::metrics::histogram!("h");
            (0..50_000).for_each(|n| histogram.record(f64::from(n)));
        });
        tokio::time::sleep(UPKEEP * 2).await;
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 12, "a million values have taken {grown} MiB");
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_told_as_such_whatever_failed_before_it() {
    let health = Health::new(Duration::from_secs(20));
    health.polled();
    let failure = Failure::transient("sqs", "ReceiveMessage on q: refused");
    health.failing(&failure, 2);
    health.paused(true);
    let paused = Some("paused by the operator".to_owned());
    assert_eq!((health.trouble(), health.unready()), (None, paused.clone()));
    health.failing(&failure, 3);
    assert_eq!((health.trouble(), health.unready()), (None, paused), "that was on its way");
    health.paused(false);
    assert_eq!((health.trouble(), health.unready()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn claims_that_fail_lastingly_fail_health_until_one_is_answered() {
    let health = Health::new(Duration::from_secs(20));
    let failure = Failure::transient("ledger", "claim of k in table t: no such table");
    health.polled();
    for seconds in [1, 28] {
        health.claimed(Instant::now(), Some(&failure));
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(health.trouble(), None);
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    health.claimed(Instant::now(), Some(&failure));
    assert!(health.trouble().is_some_and(|why| why.contains("no such table")));
    assert_eq!(health.unready(), health.trouble());
    health.claimed(Instant::now(), None);
    assert_eq!((health.trouble(), health.unready()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_scrape_tells_whether_the_worker_is_healthy() {
    let recorder = metrics::builder("job").unwrap().build_recorder();
    let (health, handle) = (Health::new(Duration::from_secs(20)), recorder.handle());
    for (seconds, value) in [(0, "1"), (81, "0")] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let text = ::metrics::with_local_recorder(&recorder, || page(&health, &handle));
        let line = format!("flotilla_healthy{{worker=\"job\"}} {value}");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}
