//! `bench [NAME…]`: measures and prints the figures of these benches, or of all.

use clap::{Parser, builder::PossibleValuesParser};
use flotilla_benches::{ALL, Parts, Trouble, settings::Settings};
use flotilla_runtime::{config::Reader, shutdown};

/// Measures Flotilla's figures: each is one JSON object on a line of standard output.
#[derive(Parser)]
struct Args {
    /// The benches to run (default: all).
    #[arg(value_parser = PossibleValuesParser::new(ALL.iter().map(|bench| bench.name)))]
    names: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    // What was started is ended with the future: a key press must leave nothing behind.
    let measured = tokio::select! {
        measured = measure(&args.names) => measured,
        () = interrupted() => Err(Trouble::new("interrupted")),
    };
    match measured {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    match shutdown::on_signals() {
        Ok(stop) => stop.cancelled().await,
        Err(_) => std::future::pending().await,
    }
}

async fn measure(names: &[String]) -> Result<(), Trouble> {
    let settings = Settings::read(Reader::from_env()).map_err(|e| Trouble::new(e.to_string()))?;
    let chosen = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut parts = Parts::default();
    for bench in ALL.iter().filter(|bench| chosen(bench.name)) {
        eprintln!("== {}: {}", bench.name, bench.about);
        parts.note(bench.name, (bench.run)(settings.clone()).await);
    }
    parts.all()
}
