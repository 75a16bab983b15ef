use super::*;

#[test]
fn a_long_poll_is_of_whole_seconds_since_sqs_would_take_a_part_of_one_for_none() {
    for (told, good) in [("1", true), ("20", true), ("0", false), ("0.5", false), ("2.5", false)] {
        let mut settings = Reader::from_pairs([("FLOTILLA_WAIT_SECONDS", told)]);
        let wait = WorkerConfig::read(&mut settings).wait;
        let report = settings.finish().unwrap_err().to_string();
        assert_eq!(report.contains("FLOTILLA_WAIT_SECONDS"), !good, "{told}: {report}");
        assert!(!good || wait.as_secs().to_string() == told);
    }
}

#[test]
fn every_mistake_is_reported_in_one_run_with_its_name() {
    let mut settings = Reader::from_pairs([
        ("FLOTILLA_SLOTS", "0"),
        ("FLOTILLA_WAIT_SECONDS", "21"),
        ("FLOTILLA_GRACE_SECONDS", "soon"),
        ("FLOTILLA_HTTP_ADDR", "9100"),
    ]);
    WorkerConfig::read(&mut settings);
    let report = settings.finish().unwrap_err().to_string();
    for name in ["QUEUE_URL", "LEDGER_TABLE", "SLOTS", "WAIT_SECONDS", "GRACE_SECONDS", "HTTP_ADDR"]
    {
        assert!(report.contains(&format!("FLOTILLA_{name}")), "{name} is not in {report}");
    }
}

#[test]
fn nothing_is_received_beyond_the_free_slots_unless_somebody_says_so() {
    let ahead = |pairs: &[(&'static str, &'static str)]| {
        WorkerConfig::read(&mut Reader::from_pairs(pairs.iter().copied())).receive_ahead
    };
    assert_eq!(ahead(&[("FLOTILLA_SLOTS", "64")]), 0);
    assert_eq!(ahead(&[("FLOTILLA_RECEIVE_AHEAD", "512")]), 512);
}

#[test]
fn what_a_worker_listens_on_is_a_host_and_a_port() {
    let name = "FLOTILLA_HTTP_ADDR";
    let of = |text: &str| {
        let mut settings = Reader::from_pairs([(name, text)]);
        let address = settings.address(name, "127.0.0.1:9100");
        (address, settings.finish().is_ok())
    };
    for good in ["127.0.0.1:0", "localhost:9100", "[::1]:65535"] {
        assert_eq!(of(good), (good.to_owned(), true));
    }
    assert_eq!(of(""), ("127.0.0.1:9100".to_owned(), true));
    for bad in ["9100", ":9100", "localhost", "localhost:", "localhost:http", "127.0.0.1:65536"] {
        assert!(!of(bad).1, "{bad}");
    }
}

fn queues_of(text: &str) -> Result<Vec<(String, u32)>, String> {
    let mut settings = Reader::from_pairs([("FLOTILLA_QUEUE_URL", text)]);
    let queues = queues(&mut settings);
    settings.finish().map_err(|e| e.to_string())?;
    Ok(queues.into_iter().map(|queue| (queue.url, queue.weight)).collect())
}

#[test]
fn several_queues_have_a_weight_each() {
    let one = |url: &str, weight| (url.to_owned(), weight);
    assert_eq!(queues_of("http://q/a").unwrap(), [one("http://q/a", 1)]);
    let several = queues_of("http://q/a*8, http://q/b.fifo ,http://q/c * 2,").unwrap();
    assert_eq!(several, [one("http://q/a", 8), one("http://q/b.fifo", 1), one("http://q/c", 2)]);
}

#[test]
fn a_weight_that_is_none_and_a_queue_that_is_there_twice_are_reported_by_name() {
    let many = (0..17).map(|n| format!("http://q/{n}")).collect::<Vec<_>>().join(",");
    let (one, other) = ("http://q/a", "http://q/b");
    let twice = format!("{one},{other},{one}*3");
    let weights = ["0", "1001", "x", "", "1*2"].map(|weight| format!("{one}*{weight}"));
    for text in weights.iter().chain([&twice, &many]) {
        let report = queues_of(text).unwrap_err();
        assert!(report.contains("FLOTILLA_QUEUE_URL"), "{text}: {report}");
    }
}

#[test]
fn nan_is_not_a_duration() {
    let mut settings = Reader::from_pairs([("FLOTILLA_WAIT_SECONDS", "NaN")]);
    settings.seconds("FLOTILLA_WAIT_SECONDS", 1.0, (0.0, 20.0));
    assert!(settings.finish().is_err());
}

#[test]
fn how_long_full_slots_may_stand_still_is_a_setting() {
    let stuck_after = |text: &str| {
        let mut settings = Reader::from_pairs([("FLOTILLA_STUCK_SECONDS", text)]);
        let config = WorkerConfig::read(&mut settings);
        (config.stuck_after, settings.finish().unwrap_err().to_string())
    };
    assert_eq!(stuck_after("").0, Duration::from_secs(3600));
    assert_eq!(stuck_after("9000").0, Duration::from_secs(9000));
    assert!(stuck_after("0").1.contains("FLOTILLA_STUCK_SECONDS"));
}

#[test]
fn what_is_no_url_is_no_queue() {
    for text in
        ["grading", "http://", "https://host", "https://host/", "sqs://h/1/q", "http://h/a b"]
    {
        let report = queues_of(text).unwrap_err();
        assert!(report.contains("is no URL of a queue"), "{text}: {report}");
    }
}

fn of_file(text: &str) -> String {
    let mut settings = Reader::default();
    let table: toml::Table = text.parse().unwrap();
    table.iter().for_each(|(key, value)| settings.take(key, value));
    WorkerConfig::read(&mut settings);
    settings.finish().unwrap_err().to_string()
}

#[test]
fn a_setting_of_the_file_that_nobody_reads_is_a_mistake_and_the_nearest_is_named() {
    let report = of_file("slot = 4\ngrace_second = 5\nwait_seconds = 1\ngroup = \"g\"");
    assert!(
        report.contains("slot is no setting that is read here; did you mean slots?"),
        "{report}"
    );
    assert!(report.contains("did you mean grace_seconds?"), "{report}");
    assert!(!report.contains("wait_seconds is") && !report.contains("group is"), "{report}");
    let mut others = Reader::from_pairs([("FLOTILLA_SOMEBODYS", "own")]);
    others.optional("FLOTILLA_SLOTS");
    assert!(others.finish().is_ok(), "in the environment there may be names of others");
}

#[test]
fn a_setting_of_the_file_that_is_no_text_number_or_boolean_is_a_mistake() {
    let report = of_file("slots = [4]\nwait_seconds = { a = 1 }");
    for name in ["slots", "wait_seconds"] {
        assert!(report.contains(&format!("{name}: a text, a number or a boolean")), "{report}");
    }
}

#[test]
fn what_the_log_is_set_to_wrongly_is_reported_with_all_other_mistakes() {
    let mut settings =
        Reader::from_pairs([("FLOTILLA_LOG", "flotilla=loud"), ("FLOTILLA_LOG_FORMAT", "xml")]);
    settings.logging();
    WorkerConfig::read(&mut settings);
    let report = settings.finish().unwrap_err().to_string();
    for name in ["FLOTILLA_LOG=", "FLOTILLA_LOG_FORMAT=", "FLOTILLA_QUEUE_URL"] {
        assert!(report.contains(name), "{name} is not in {report}");
    }
}

#[test]
fn what_nobody_sets_is_as_it_is_promised() {
    let config = WorkerConfig::read(&mut Reader::from_pairs([]));
    let times = [config.visibility, config.wait, config.grace, config.retry_first];
    assert_eq!(times.map(|it| it.as_secs()), [60, 20, 90, 2]);
    assert_eq!((config.max_attempts, config.control_every.as_secs()), (5, 10));
    assert_eq!((config.tenant_slots, config.instance.protect), (None, true));
}
