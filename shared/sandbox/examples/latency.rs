//! How long a trivial Python program takes in a warm cell, and how much of that is the sandbox:
//! `cargo run --release -p flotilla-sandbox --example latency [namespaces|container]`.

use std::time::{Duration, Instant};

use flotilla_sandbox::{
    Cell, Exit, File, Isolation, Run, RunLimits, Sandbox, SandboxConfig, SandboxError,
};

const RUNS: usize = 200;

/// The same program started by a plain parent in the same surroundings, for comparison.
const BARE: &str = "import os, time
times = []
for _ in range(200):
    start = time.perf_counter()
    pid = os.posix_spawn('/usr/bin/python3', ['python3', '-I', 'small.py'], os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)])
    os.waitpid(pid, 0)
    times.append(time.perf_counter() - start)
times.sort()
print(times[len(times) // 2])";

fn python(name: &str, seconds: u64) -> Run {
    let argv = ["/usr/bin/python3", "-I", name].map(String::from).to_vec();
    let limits =
        RunLimits { cpu_ms: seconds * 1_000, wall_ms: seconds * 3_000, ..RunLimits::default() };
    Run { argv, stdin: Vec::new(), limits }
}

fn file(name: &str, text: &str) -> File {
    File { name: name.into(), bytes: text.as_bytes().to_vec() }
}

/// The median of the host's and of the cell's own measure.
async fn measure(cell: &mut Cell, run: &Run) -> Result<Duration, SandboxError> {
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let started = Instant::now();
        let report = cell.run(run).await?;
        times.push(started.elapsed());
        if report.exit != Exit::Exited(0) {
            return Err(SandboxError::Protocol(format!(
                "the program ended with {:?}",
                report.exit
            )));
        }
    }
    times.sort();
    Ok(times[RUNS / 2])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isolation: Isolation =
        std::env::args().nth(1).as_deref().unwrap_or("namespaces").parse()?;
    let mut config = SandboxConfig { isolation, warm: 0, ..SandboxConfig::default() };
    config.image = std::env::var("FLOTILLA_SANDBOX_IMAGE").unwrap_or(config.image);
    let sandbox = Sandbox::connect(config).await?;
    let mut cell = sandbox.cell("measure").await?;
    cell.load(&[file("small.py", "print('hello')"), file("bare.py", BARE)]).await?;
    let bare = cell.run(&python("bare.py", 60)).await?;
    let bare: f64 = String::from_utf8_lossy(&bare.stdout).trim().parse()?;
    let started = Instant::now();
    let whole = measure(&mut cell, &python("small.py", 5)).await?.as_secs_f64();
    let truth = Run { argv: vec!["/bin/true".into()], ..python("", 5) };
    let nothing = measure(&mut cell, &truth).await?;
    println!("isolation {isolation}, {RUNS} runs each in {:?}", started.elapsed());
    println!("p50 python in a warm cell  {:8.2} ms", whole * 1e3);
    println!("p50 bare spawn             {:8.2} ms", bare * 1e3);
    println!("p50 overhead               {:8.2} ms", (whole - bare) * 1e3);
    println!("p50 /bin/true in the cell  {:8.2} ms", nothing.as_secs_f64() * 1e3);
    cell.finish().await;
    let started = Instant::now();
    sandbox.cell("another").await?.finish().await;
    println!("cold cell                  {:8.2} ms", started.elapsed().as_secs_f64() * 1e3);
    sandbox.shutdown().await;
    Ok(())
}
