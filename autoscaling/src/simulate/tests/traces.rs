//! Traces of files and those that are made up.

use super::super::*;

#[test]
fn synthetic_traces_have_as_many_jobs_as_asked_and_their_shape() {
    let hour = 3_600_000;
    for (name, shape) in Shape::ALL {
        let trace = shape.trace(5_000, 24 * hour, 7);
        assert_eq!(trace.jobs().len(), 5_000, "{name}");
        assert_eq!(trace, shape.trace(5_000, 24 * hour, 7), "{name}");
    }
    let count = |shape: Shape, from: u64, to: u64| {
        let trace = shape.trace(5_000, 24 * hour, 7);
        trace.jobs().iter().filter(|job| (from * hour..to * hour).contains(&job.at)).count()
    };
    assert!(count(Shape::Diurnal, 10, 14) > 3 * count(Shape::Diurnal, 0, 4));
    assert!(count(Shape::DeadlineRush, 17, 21) > 2_000);
    // Whether so many come within a minute.
    let packed = |shape: Shape, count: usize| {
        let trace = shape.trace(5_000, 24 * hour, 7);
        let mut all = trace.jobs().windows(count);
        all.any(|jobs| jobs[count - 1].at - jobs[0].at < 60_000)
    };
    assert!(packed(Shape::Bursty, 40) && !packed(Shape::HeavyTailed, 20), "fifty are a burst");
    let trace = Shape::HeavyTailed.trace(5_000, 24 * hour, 7);
    let mut services: Vec<Millis> = trace.jobs().iter().map(|job| job.service).collect();
    services.sort_unstable();
    let (all, top): (Millis, Millis) = (services.iter().sum(), services[4_500..].iter().sum());
    assert!(top * 5 > all * 2, "a tenth of the jobs takes {top} of {all} ms");
}

#[test]
fn a_trace_is_read_scaled_and_halved_and_a_bad_row_is_named() {
    let file = std::env::temp_dir().join(format!("trace-{}.csv", std::process::id()));
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Trace::read(&file, 60.0, 30.0)
    };
    let trace = read("arrival_seconds,service_seconds\n0,30\n60,90\n120,15\n180,3\n").unwrap();
    let job = |at, service| Job { at, service };
    let halves = trace.halves();
    assert_eq!(halves.0.jobs(), [job(0, 1_000), job(1_000, 3_000)]);
    assert_eq!(halves.1.jobs(), [job(0, 500), job(1_000, 100)]);
    let bad = read("arrival_seconds,service_seconds\n0,1\n5,-1\n").unwrap_err();
    assert!(bad.to_string().contains("row 2"), "{bad}");
    assert!(matches!(read("arrival_seconds,service_seconds\n1\n"), Err(TraceError::Rows { .. })));
    assert!(matches!(read("arrival_seconds,service_seconds\n"), Err(TraceError::Empty { .. })));
    let absent = Trace::read(std::path::Path::new("/no/such/trace.csv"), 1.0, 1.0);
    assert!(matches!(absent, Err(TraceError::File { .. })));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_trace_without_a_heading_is_refused_and_not_read_from_its_second_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Trace::read(&path, 1.0, 1.0)
    };
    for text in ["5,3\n", "0,30\n60,90\n", "a,b\n1,2\n", "arrival_seconds\n1\n"] {
        let why = read(text).unwrap_err();
        let first = text.lines().next().unwrap();
        assert!(matches!(why, TraceError::Heading { .. }), "{why:?}");
        assert!(why.to_string().contains(first), "{why}");
    }
    for text in ["", "\n\n", "arrival_seconds,service_seconds\r\n"] {
        assert!(matches!(read(text), Err(TraceError::Empty { .. })), "{text:?}");
    }
    // Columns in another order, beside others, with the mark that some editors set before them.
    let trace = read("\u{feff}kind,service_seconds, arrival_seconds\r\nx,3,5\r\n").unwrap();
    assert_eq!(trace.jobs(), [Job { at: 0, service: 3_000 }]);
}

#[test]
fn a_trace_of_hostile_numbers_is_refused_and_one_of_times_since_1970_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    let read = |rows: &str| {
        std::fs::write(&path, format!("arrival_seconds,service_seconds\n{rows}")).unwrap();
        Trace::read(&path, 1.0, 1.0)
    };
    for rows in ["1,1e300", "0,1\n1e15,1", "0,-1", "NaN,1", "0,1e11", "0,1\n1e11,1"] {
        assert!(read(rows).is_err(), "{rows}");
    }
    let trace = read("1795000000,5\n1795000010,7").unwrap();
    assert_eq!(trace.jobs()[1], Job { at: 10_000, service: 7000 });
    // The row that is named is that of the file, in whatever order its rows are.
    let why = |rows: &str| read(rows).unwrap_err().to_string();
    assert!(why("1000,1\n1e12,1\n0,1").contains("row 2"), "{}", why("1000,1\n1e12,1\n0,1"));
    assert!(why("9e9,1\n5,1\n6,1").contains("row 1"), "{}", why("9e9,1\n5,1\n6,1"));
    let job = |at, service| Job { at, service };
    assert_eq!(read("7, 2\n 5,1 \r\n").unwrap().jobs(), [job(0, 1_000), job(2_000, 2_000)]);
}
