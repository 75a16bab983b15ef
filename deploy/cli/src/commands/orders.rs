//! `flotilla pause`, `resume`, `drain` and `cancel`: what an operator orders of running workers.

use flotilla_runtime::{aws::dynamo_client, control, control::Order, ledger::Ledger};

use crate::{
    console::out,
    error::Error,
    target::{self, Target},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kind of worker (grading, compile, schedule, anomaly), or the id of one.
    worker: String,
    #[command(flatten)]
    target: target::Which,
}

/// The message goes whole to the dead-letter queue, from where it can be redriven.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// The kind of worker: grading, compile.
    worker: String,
    /// The job: the key of its effect, or the beginning of it (a submission's id, say).
    id: String,
    /// Why, for the dead letter and for whoever waits.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    #[command(flatten)]
    target: target::Which,
}

pub(crate) async fn run(args: Args, order: Order) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    known(&target, &args.worker)?;
    let client = dynamo_client(&target.clients.sdk);
    let table = &target.stack.outputs().ledger_table_name;
    let control = control::Control::new(client, table);
    control.order(&args.worker, order).await.map_err(|e| Error::Fleet(e.to_string()))?;
    let what = match order {
        Order::Pause => "receives nothing more, and finishes what it has",
        Order::Resume => "receives again",
        Order::Drain => "finishes what it has or hands it back, and ends",
    };
    out(format!("{} {what}, within about ten seconds", args.worker));
    Ok(())
}

/// A name that no worker has would be obeyed by nobody, in silence. Which workers there are is
/// known of those of this machine alone.
fn known(target: &Target, name: &str) -> Result<(), Error> {
    let kinds = target.stack.outputs().queues().map(|(kind, ..)| kind);
    let Some(note) = &target.note else { return Ok(()) };
    let mut ids = note.workers.iter().map(|worker| worker.id.as_str());
    if kinds.contains(&name) || ids.any(|id| id == name) {
        return Ok(());
    }
    let ids: Vec<_> = note.workers.iter().map(|worker| worker.id.as_str()).collect();
    let (kinds, ids) = (kinds.join(", "), ids.join(", "));
    Err(Error::Usage(format!("no worker is called {name}: there are {kinds}, and {ids}")))
}

pub(crate) async fn cancel(args: CancelArgs) -> Result<(), Error> {
    let target = Target::find(&args.target).await?;
    let table = &target.stack.outputs().ledger_table_name;
    let client = dynamo_client(&target.clients.sdk);
    let ledger = Ledger::new(client, table, "", std::time::Duration::ZERO);
    let told = |e: flotilla_runtime::Failure| Error::Fleet(e.to_string());
    let wanted = format!("{}/{}", args.worker, args.id);
    let open = ledger.open(&wanted).await.map_err(told)?;
    let key = match &open[..] {
        // Nobody has begun with it: then only its whole key can be meant.
        [] => wanted,
        [(key, _)] => key.clone(),
        several => {
            let keys: Vec<_> = several.iter().map(|(key, _)| key.as_str()).collect();
            let which = keys.join("\n  ");
            return Err(Error::Usage(format!("{wanted} is the beginning of several:\n  {which}")));
        }
    };
    if !ledger.cancel(&key, &args.reason).await.map_err(told)? {
        return Err(Error::Fleet(format!("{key} is done: there is nothing to cancel")));
    }
    let held = open.first().is_some_and(|(_, held)| *held);
    out(match (open.is_empty(), held) {
        (_, true) => format!("{key} is cancelled: its worker ends it at the next heartbeat"),
        (false, false) => format!("{key} is cancelled: it is not tried again"),
        (true, _) => format!("{key} is cancelled in advance: no worker has begun with it"),
    });
    Ok(())
}
