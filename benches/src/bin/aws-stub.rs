//! The AWS in memory, as a process. It says its address on its first line.

use std::{collections::HashMap, time::Duration};

use clap::Parser;
use flotilla_benches::stub::{Stub, queue::Source};

/// An AWS in memory for measuring consumers.
#[derive(Parser)]
struct Args {
    /// The queue that fills itself.
    #[arg(long)]
    queue: String,
    /// The body of its messages; `{n}` in it is the number of the message.
    #[arg(long)]
    body: String,
    /// How many messages there are.
    #[arg(long, default_value_t = u64::MAX)]
    messages: u64,
    /// Every n-th message is delivered twice; 0 is never.
    #[arg(long, default_value_t = 0)]
    twice_every: u64,
    /// What every call takes.
    #[arg(long)]
    latency_ms: u64,
    /// The port, or 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args.port)).await?;
    let address = listener.local_addr()?;
    println!("{address}");
    let source = Source { template: args.body, left: args.messages, twice_every: args.twice_every };
    let sources = HashMap::from([(args.queue, source)]);
    let latency = Duration::from_millis(args.latency_ms);
    Stub::new(&format!("http://{address}"), latency, sources).serve(listener).await
}
