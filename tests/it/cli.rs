//! The operator's command, as an operator uses it.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use flotilla_cli::{aws::Clients, stack::Stack};
use flotilla_tests::{binary, containers, eventually, http_get};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::Value;

struct Operator {
    folder: tempfile::TempDir,
    stack: String,
}

impl Operator {
    fn new() -> Self {
        let stack = format!("it-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        Self { folder: tempfile::tempdir().unwrap(), stack }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("flotilla"));
        command.args(arguments).env("FLOTILLA_STACK", &self.stack);
        command.env("FLOTILLA_CACHE", self.folder.path()).stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(arguments);
        let output: Output =
            tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn submit(&self, program: &str, more: &[&str]) -> (i32, String) {
        let path = self.file("program.py", program);
        let named = ["submit", &path, "--admin", "ada", "--event", "labs", "--problem", "sums"];
        self.run(&[&named[..], more].concat()).await
    }
}

/// A fleet in a process group of its own, ended with the test at the latest.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

#[tokio::test]
async fn up_submit_status_and_a_ctrl_c_that_leaves_nothing() {
    let operator = Operator::new();
    let log = std::fs::File::create(operator.folder.path().join("up.log")).unwrap();
    let mut up = operator.command(&["up"]);
    // A group of its own, so that Ctrl-C reaches all of it and nothing else, as at a terminal.
    let up = up.stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap();
    let mut up = Up(up);
    let fleet = Pid::from_raw(up.0.id().cast_signed());
    eventually("a fleet that is up", Duration::from_secs(60), async || {
        assert!(up.0.try_wait().unwrap().is_none(), "up ended by itself");
        let log = std::fs::read_to_string(operator.folder.path().join("up.log")).unwrap();
        log.contains("the fleet is up").then_some(())
    })
    .await;

    operator.file("sums/test.in", "1 2\n4 5\n");
    operator.file("sums/test.out", "3\n9\n");
    let problem = operator.folder.path().join("sums");
    let problem = problem.to_str().unwrap();
    let put = ["problem", "put", problem, "--admin", "ada", "--event", "labs", "--problem", "sums"];
    assert_eq!(operator.run(&put).await.0, 0);

    let right = "import sys\nprint(sum(map(int, sys.argv[1:])))";
    let (code, text) = operator.submit(right, &["--token", "t1", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    let start = text.find('{').unwrap();
    let results: Value =
        serde_json::Deserializer::from_str(&text[start..]).into_iter().next().unwrap().unwrap();
    assert_eq!((&results["verdict"], &results["passed"]), (&"AC".into(), &2.into()));
    for (program, expected) in [("print(3)", 10), ("pass", 16), ("import os\nos.abort()", 15)] {
        let (code, text) = operator.submit(program, &["--token", "t2"]).await;
        assert_eq!(code, expected, "{program}: {text}");
    }

    let (code, text) = operator.run(&["status", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["workers"][0]["ready"], true, "{status}");

    let log = std::fs::read_to_string(operator.folder.path().join("up.log")).unwrap();
    let gateway = log.split("gateway      http://").nth(1).and_then(|it| it.lines().next());
    let (status, key) = http_get(gateway.unwrap(), "/v1/signing-key").await.unwrap();
    assert!(status == 200 && key.contains("PUBLIC KEY"), "what is built here is signed: {key}");
    let secret = operator.folder.path().join(format!("running/{}.pem", operator.stack));
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);

    killpg(fleet, Signal::SIGINT).unwrap();
    let ended =
        eventually("the end of up", Duration::from_secs(60), async || up.0.try_wait().unwrap())
            .await;
    assert_eq!(ended.code(), Some(0));
    assert!(kill(fleet, None).is_err() && !secret.exists());
    assert!(killpg(fleet, None).is_err(), "a process of the fleet is left");
    assert!(Stack::open(&Clients::from_env().await, &operator.stack).await.is_err());
    assert!(containers(&format!("{}-grading-1", operator.stack)).is_empty());
}

#[tokio::test]
async fn names_that_would_leave_their_place_are_refused_before_anything_is_uploaded() {
    let operator = Operator::new();
    for bad in ["..", "a/b", "", "a\nb"] {
        let path = operator.file("program.py", "print()");
        let arguments = ["submit", &path, "--admin", bad, "--event", "e", "--problem", "p"];
        let (code, text) = operator.run(&arguments).await;
        assert_eq!(code, 2, "{bad:?}: {text}");
        assert!(text.contains("admin"), "{text}");
    }
    let (code, text) = operator.submit("print()", &["--subid", "../x"]).await;
    assert_eq!((code, text.contains("submission id")), (2, true), "{text}");
}

#[tokio::test]
async fn the_demo_grades_every_example_as_declared_and_shows_the_other_workers() {
    let operator = Operator::new();
    let (code, text) = operator.run(&["demo"]).await;
    assert_eq!(code, 0, "{text}");
    for example in ["correct", "infinite-loop", "memory-bomb", "fork-bomb", "output-flood"] {
        assert!(text.contains(example), "{text}");
    }
    assert!(text.contains("stopped by its schedule"), "{text}");
}

#[tokio::test]
async fn an_endpoint_that_is_named_goes_before_that_of_the_environment() {
    let nobody = Clients::for_endpoint("http://127.0.0.1:9").await;
    assert!(nobody.sqs.list_queues().send().await.is_err(), "another endpoint answered");
}

#[tokio::test]
async fn policies_are_simulated_on_a_trace_and_what_is_none_is_named() {
    let operator = Operator::new();
    let place = |name: &str| operator.folder.path().join(name).display().to_string();
    let (trace, bad, picture) = (place("trace.csv"), place("bad.csv"), place("front.svg"));
    let pixels = place("front.PNG");
    let rows = (0..40).map(|n| format!("{},{}\n", n * 30, n % 7 + 1)).collect::<String>();
    std::fs::write(&trace, format!("arrival_seconds,service_seconds\n{rows}")).unwrap();
    std::fs::write(&bad, "arrival_seconds,service_seconds\n0,1\n1,1e300\n").unwrap();
    let simulate = ["autoscale", "simulate"];
    let policies = ["--policy", "ours=0.8", "--policy", "keda=1", "--policy", "clairvoyant"];
    let world = ["--boot", "30", "--boot-spread", "0.3", "--lag", "20", "--noise", "0.1"];
    let more = ["--losses", "1", "--seeds", "3", "--svg", &picture];
    let all = [&simulate[..], &[trace.as_str()], &policies, &world, &more].concat();
    let (code, told) = operator.run(&all).await;
    assert_eq!(code, 0, "{told}");
    for name in ["ours=0.8", "keda=1", "clairvoyant"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(std::fs::read_to_string(&picture).unwrap().contains("<svg"));
    let drawn = ["--policy", "ours", "--seeds", "1", "--svg", &pixels];
    let all = [&simulate[..], &[trace.as_str()], &drawn].concat();
    assert_eq!(operator.run(&all).await.0, 0);
    assert!(told.contains("over 3 seeds, which say little"), "{told}");
    let all = [&simulate[..], &[trace.as_str()], &["--policy", "keda", "--json"]].concat();
    let (_, told) = operator.run(&all).await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["seeds"], &told["policies"][0]["undone"]["median"]),
        (&10.into(), &0.0.into())
    );
    let written = std::fs::read(&pixels).unwrap();
    assert!(written.starts_with(b"\x89PNG"), "what the name says, whatever the option is called");
    for (arguments, said) in [
        (vec![bad.as_str()], "row 2"),
        (vec![trace.as_str(), "--policy", "nobody"], "no policy nobody"),
        (vec![trace.as_str(), "--boot", "99999999999"], "--boot"),
        (vec![trace.as_str(), "--losses", "1e9"], "--losses"),
        (vec!["deadlines"], "deadlines"),
        (vec![trace.as_str(), "--picture", "front.gif"], ".svg or .png"),
        (vec![trace.as_str(), "--picture", "/nowhere/front.svg"], "no folder /nowhere"),
    ] {
        let (code, told) = operator.run(&[&simulate[..], &arguments].concat()).await;
        assert!(code != 0 && told.contains(said), "{arguments:?}: {told}");
    }
}
