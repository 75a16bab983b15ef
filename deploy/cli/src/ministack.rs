//! The local endpoint that `up` and `demo` start: MiniStack, on loopback alone.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    aws::{Clients, Endpoint},
    error::{Doing, Error},
    places,
    process::Process,
    stop::Stop,
};

/// The version whose gaps are known.
const VERSION: &str = "1.5.33";
/// What to do where the endpoint's port is taken.
pub(crate) const OTHERWISE: &str = "say another port with --port, or set AWS_ENDPOINT_URL to use the \
     endpoint that listens there";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// A port of 127.0.0.1 that is free just now.
pub(crate) fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = listener.doing(|| "looking for a free port".to_owned())?;
    Ok(listener.local_addr().doing(|| "looking for a free port".to_owned())?.port())
}

/// Listens on 127.0.0.1:`port` for as long as what it returns lives; where that cannot be, says so
/// and what to do `otherwise`.
pub(crate) fn usable(port: u16, otherwise: &str) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|taken| {
        Error::Fleet(format!("127.0.0.1:{port} cannot be used ({taken}): {otherwise}"))
    })
}

/// Starts MiniStack on 127.0.0.1:`port` and waits until it answers.
pub(crate) async fn start(port: u16, stop: &Stop) -> Result<(Process, String), Error> {
    let program = program()?;
    usable(port, OTHERWISE)?;
    let variables = [
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("GATEWAY_PORT", port.to_string()),
        // It can start containers for other services; nothing here asks for that.
        ("DOCKER_HOST", "unix:///nonexistent".to_owned()),
    ];
    let mut process = Process::start("ministack", &program, &variables, false)?;
    let url = format!("http://127.0.0.1:{port}");
    let ready = tokio::select! {
        ready = answers(&url) => ready,
        end = process.ended() => {
            Err(Error::Fleet(format!("MiniStack ended early: {}", end.how)))
        }
        () = stop.asked() => Err(Error::Interrupted),
    };
    match ready {
        Ok(()) => Ok((process, url)),
        Err(Error::Fleet(why)) => Err(Error::Fleet(why + &process.last_words())),
        Err(other) => Err(other),
    }
}

async fn answers(url: &str) -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match Endpoint::detect(Some(url)).await.name.as_str() {
            "ministack" => return Ok(()),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
    Err(Error::Fleet(format!("MiniStack does not answer at {url} after {} s", PATIENCE.as_secs())))
}

fn program() -> Result<PathBuf, Error> {
    let named = std::env::var_os("FLOTILLA_MINISTACK").map(PathBuf::from);
    let path = match named {
        Some(path) => path,
        None => places::cache()?.join(format!("ministack-{VERSION}/bin/ministack")),
    };
    if path.is_file() {
        return Ok(path);
    }
    let hint = "`make setup` installs it; FLOTILLA_MINISTACK names another place, and \
                AWS_ENDPOINT_URL another endpoint"
        .to_owned();
    Err(Error::Missing { what: "the local endpoint", path, hint })
}

impl Clients {
    /// Clients for `url`, or for what the environment says.
    pub(crate) async fn at(url: Option<&str>) -> Self {
        match url {
            Some(url) => Self::for_endpoint(url).await,
            None => Self::from_env().await,
        }
    }
}
