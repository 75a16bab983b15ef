//! The consumers of others, each in its best setting.

use std::path::Path;

use super::{
    consumers::{AHEAD, BODY, flotilla_ahead},
    rate::{Rate, in_turns, measure},
    ratios::{ratio, sides},
};
use crate::{Trouble, peers, rig::Consumer, settings::Settings};

/// A consumer of somebody else's.
pub(super) struct Peer {
    /// Its name where it is published; that of the figure has an underscore for its hyphen.
    name: &'static str,
    figure: &'static str,
    /// What we are to be ahead of it by.
    target: f64,
    /// The ways to set it that are tried.
    sweep: &'static [&'static str],
    /// One of them, for an endpoint that is slower than any, where it takes the queue that it is given.
    elsewhere: Option<&'static str>,
    /// The consumer in a setting, installed at a place.
    consumer: fn(&Path, &'static str) -> Consumer,
}

/// Those that can be compared in this build.
pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "sqs-consumer",
        figure: "queue.ratio_to_sqs_consumer",
        target: 3.0,
        sweep: &["1", "4", "16", "64"],
        elsewhere: Some("16"),
        consumer: sqs_consumer,
    },
    Peer {
        name: "dramatiq-sqs",
        figure: "queue.ratio_to_dramatiq",
        target: 3.0,
        sweep: &["1x8", "2x8", "4x8", "8x8", "2x32", "4x32"],
        // Its queues are named by its own rules.
        elsewhere: None,
        consumer: dramatiq,
    },
    #[cfg(feature = "peers")]
    Peer {
        name: "shove",
        figure: "queue.ratio_to_shove",
        target: 1.0,
        sweep: &["batch 1", "batch 8", "batch 32", "batch 64", "each 10", "each 64", "each 640"],
        elsewhere: Some("batch 8"),
        consumer: shove,
    },
];

/// Measures every peer that is wanted, can be installed and works: what is wrong with one is no
/// trouble of ours, nor of the others.
pub(super) async fn run(settings: &Settings) {
    for peer in PEERS {
        if !settings.wants(&[peer.figure, &per_cpu(peer)]) {
            continue;
        }
        let measured = match peers::install(peer.name).await {
            Ok(place) => beside(peer, &place, settings).await.map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = measured {
            eprintln!("left out: {}: {why}", peer.name);
        }
    }
    if cfg!(not(feature = "peers")) {
        eprintln!("left out: the peers in Rust (built without the feature `peers`)");
    }
}

/// Those that can be put on any queue and be installed, in one setting each.
pub(super) async fn elsewhere() -> Vec<Consumer> {
    let mut consumers = Vec::new();
    for peer in PEERS {
        let Some(setting) = peer.elsewhere else { continue };
        match peers::install(peer.name).await {
            Ok(place) => consumers.push((peer.consumer)(&place, setting)),
            Err(why) => eprintln!("left out: {} on the local endpoint: {why}", peer.name),
        }
    }
    consumers
}

fn per_cpu(peer: &Peer) -> String {
    format!("{}_per_cpu", peer.figure)
}

async fn beside(peer: &Peer, place: &Path, settings: &Settings) -> Result<(), Trouble> {
    let swept = sweep(peer, place, settings).await?;
    let best = |of: fn(&Rate) -> f64| {
        swept.iter().max_by(|a, b| of(&a.1).total_cmp(&of(&b.1))).map_or(peer.sweep[0], |(s, _)| s)
    };
    let (fastest, thriftiest) = (best(|r| r.per_second), best(|r| r.per_cpu));
    let ours = flotilla_ahead();
    let pairs = in_turns(&ours, &(peer.consumer)(place, fastest), settings).await?;
    report(peer, &pairs, fastest, &swept, settings, false);
    let pairs = match fastest == thriftiest {
        true => pairs,
        false => in_turns(&ours, &(peer.consumer)(place, thriftiest), settings).await?,
    };
    report(peer, &pairs, thriftiest, &swept, settings, true);
    Ok(())
}

async fn sweep(
    peer: &Peer,
    place: &Path,
    settings: &Settings,
) -> Result<Vec<(&'static str, Rate)>, Trouble> {
    let mut swept = Vec::new();
    for &setting in peer.sweep {
        let rate = measure(&(peer.consumer)(place, setting), settings).await?;
        eprintln!("   {} with {setting}: {:.0}/s", peer.name, rate.per_second);
        swept.push((setting, rate));
    }
    Ok(swept)
}

fn report(
    peer: &Peer,
    pairs: &[(Rate, Rate)],
    setting: &str,
    swept: &[(&str, Rate)],
    settings: &Settings,
    cpu: bool,
) {
    let mut detail = sides("flotilla", "peer", pairs, settings);
    detail["setting"] = setting.into();
    detail["receive_ahead"] = AHEAD.into();
    detail["swept"] =
        swept.iter().map(|(setting, rate)| ((*setting).to_owned(), rate.json())).collect();
    let figure = match cpu {
        true => ratio(&per_cpu(peer), pairs, |r| r.per_cpu),
        false => ratio(peer.figure, pairs, |r| r.per_second),
    };
    figure.target(peer.target).detail(detail).print();
}

/// `handleMessageBatch` with `batchSize` 10, and so many consumers in one process.
fn sqs_consumer(place: &Path, consumers: &'static str) -> Consumer {
    Consumer {
        name: "sqs-consumer",
        program: "node".into(),
        args: vec![place.join("consumer.mjs").display().to_string()],
        env: vec![("BENCH_CONSUMERS", consumers.into())],
        body: BODY.to_owned(),
    }
}

/// Its command line, with processes × threads, and a prefetch of ten, which is its greatest.
fn dramatiq(place: &Path, setting: &'static str) -> Consumer {
    let (processes, threads) = setting.split_once('x').unwrap_or(("1", "8"));
    let args = ["-m", "dramatiq", "consumer", "--processes", processes, "--threads", threads];
    // What its `Message.encode` makes of a call of the actor without arguments, in base 64.
    let body = "eyJxdWV1ZV9uYW1lIjogImJlbmNoIiwgImFjdG9yX25hbWUiOiAibm9vcCIsICJhcmdzIjogW10sICJrd2FyZ3MiOiB7fSwgIm9wdGlvbnMiOiB7fSwgIm1lc3NhZ2VfaWQiOiAiMDAwMDAwMDAtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAwIiwgIm1lc3NhZ2VfdGltZXN0YW1wIjogMX0=";
    Consumer {
        name: "dramatiq-sqs",
        program: place.join("venv/bin/python"),
        args: args.map(str::to_owned).to_vec(),
        env: vec![("PYTHONPATH", place.into()), ("dramatiq_queue_prefetch", "10".into())],
        body: body.to_owned(),
    }
}

/// Its batch consumer, so many of them; or its consumer of single messages, with so many at a time.
#[cfg(feature = "peers")]
fn shove(place: &Path, setting: &'static str) -> Consumer {
    let (kind, number) = setting.split_once(' ').unwrap_or(("batch", "8"));
    Consumer {
        name: "shove",
        program: place.join("figures/peer-shove"),
        args: Vec::new(),
        env: vec![("BENCH_KIND", kind.into()), ("BENCH_NUMBER", number.into())],
        body: BODY.to_owned(),
    }
}
