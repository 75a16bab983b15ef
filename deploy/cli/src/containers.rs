//! The containers that a worker may have left, through the Docker engine's own command.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::{error::Error, process::find, stop::Stop};

/// How long the engine may take to answer one call.
const CALL: Duration = Duration::from_secs(5);
/// And how long once this process was asked to stop for the second time.
const HURRIED_CALL: Duration = Duration::from_secs(1);
/// How long the engine may take to remove containers.
const REMOVAL: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// Removes what containers carry the worker's label: none, after an orderly end. It fails where
/// it cannot know that none is left.
pub(crate) async fn remove(worker: &str, orderly: bool, stop: &Stop) -> Result<(), Error> {
    match find("docker") {
        Some(docker) => {
            let call = async |arguments: &[&str]| {
                let mut command = Command::new(&docker);
                command.args(arguments);
                said(command, stop).await
            };
            remove_by(call, worker, stop).await
        }
        None if orderly => Ok(()),
        None => Err(left(worker, "there is no docker command to look with")),
    }
}

/// The engine may be at it already, so what counts is that none is listed any more.
async fn remove_by(
    docker: impl AsyncFn(&[&str]) -> Result<String, String>,
    worker: &str,
    stop: &Stop,
) -> Result<(), Error> {
    let filter = format!("label=flotilla.worker={worker}");
    let (start, mut refused) = (Instant::now(), String::new());
    loop {
        let hurried = stop.is_impatient();
        let listed = docker(&["ps", "-aq", "--filter", &filter]).await;
        let listed = listed
            .map_err(|why| left(worker, &format!("the Docker engine does not answer ({why})")))?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(());
        }
        if start.elapsed() > REMOVAL || (hurried && !refused.is_empty()) {
            return Err(left(worker, &format!("{} cannot be removed: {refused}", ids.join(", "))));
        }
        let removed = docker(&[&["rm", "-f"], ids.as_slice()].concat()).await;
        refused = removed.err().unwrap_or_default();
        tokio::time::sleep(LOOK).await;
    }
}

fn left(worker: &str, why: &str) -> Error {
    Error::Fleet(format!(
        "containers of {worker} may be left: {why}; \
         `docker ps -a --filter label=flotilla.worker={worker}` lists them"
    ))
}

/// What a command prints, or why it failed; never later than a few seconds.
async fn said(mut command: Command, stop: &Stop) -> Result<String, String> {
    // Apart from the terminal's signals, like the workers.
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let hurried = async {
        stop.impatient().await;
        tokio::time::sleep(HURRIED_CALL).await;
    };
    let said = tokio::select! {
        said = command.output() => said.map_err(|e| e.to_string())?,
        () = tokio::time::sleep(CALL) => return Err(format!("nothing in {} s", CALL.as_secs())),
        () = hurried => return Err("nothing, and there was no more time".to_owned()),
    };
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&said.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_failing_command_is_no_empty_answer() {
        let stop = Stop::asked_already(1);
        assert_eq!(said(sh("echo a"), &stop).await.as_deref(), Ok("a\n"));
        let why = said(sh("echo nobody there >&2; exit 1"), &stop).await;
        assert_eq!(why.unwrap_err(), "nobody there");
    }

    // The clock is a mock: it goes on as soon as nothing but time is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_given_up_and_sooner_when_asked_twice() {
        for (asked, limit) in [(1, CALL), (2, HURRIED_CALL)] {
            let start = tokio::time::Instant::now();
            assert!(said(sh("sleep 60"), &Stop::asked_already(asked)).await.is_err());
            let elapsed = start.elapsed();
            assert!(elapsed >= limit && elapsed < limit + LOOK, "{asked}: {elapsed:?}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_leaves_the_containers_in_doubt() {
        let stop = Stop::asked_already(1);
        let silent = async |_: &[&str]| Err("Cannot connect".to_owned());
        let error = remove_by(silent, "w1", &stop).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("containers of w1 may be left: the Docker engine"), "{text}");
        assert_eq!(error.exit_code(), 1);
    }

    #[tokio::test]
    async fn containers_are_removed_until_none_is_listed() {
        let calls = RefCell::new(Vec::new());
        let docker = async |arguments: &[&str]| {
            calls.borrow_mut().push(arguments.join(" "));
            let removals = calls.borrow().iter().filter(|call| call.starts_with("rm")).count();
            match arguments[0] {
                "ps" if removals < 2 => Ok("a\nb\n".to_owned()),
                "ps" => Ok(String::new()),
                _ => Err("already in progress".to_owned()),
            }
        };
        remove_by(docker, "w1", &Stop::asked_already(1)).await.unwrap();
        assert_eq!(calls.borrow()[1], "rm -f a b");
        assert_eq!(calls.borrow().len(), 5);
    }
}
