//! The queue runtime of Flotilla: what a worker needs to be nothing but its [`Job`].
//!
//! A *job* is a kind of work whose messages arrive on an SQS queue. You say what a message looks
//! like, how its effect is called, and how it comes about; the runtime receives, renews, retries,
//! deletes, counts and stops. What it promises to a job:
//!
//! 1. A message is deleted only after its effect is durable.
//! 2. Delivery is at least once, the effect happens once: [`run`](Job::run) is entered with the
//!    effect's claim in hand ([`ledger`]), and [`Lease::complete`] commits the effect and the end
//!    of the claim in one transaction. Whoever lost the lease is refused.
//! 3. Messages are received only for free slots: none waits in a buffer while its visibility
//!    runs out.
//! 4. The lease is renewed while the job runs, however long (up to SQS's 12 hours). When it
//!    cannot be renewed, the job's future is dropped before anyone else can see the message.
//! 5. A [transient](Failure::Transient) failure comes back after a random delay under an
//!    exponential ceiling; a [permanent](Failure::Permanent) one, and a body that does not parse,
//!    goes to the dead-letter queue at once, whole, with the reason in the attribute `flotilla`.
//!    A panic is a transient failure. After five attempts a message is dead-lettered as well; where
//!    no claim counts attempts, after nine tenths of the receives that its queue allows
//!    (`maxReceiveCount`), since hand-backs count there too. What has happened is never given up: a
//!    failure after the commit is made good at the next delivery ([`Job::repair`]).
//! 6. At a stop nothing more is received, running jobs may finish within the grace, and the rest
//!    is handed back, visible at once; being handed back counts as no attempt. The grace is counted
//!    from the signal; the receive that is on its way is awaited beside it. Ten seconds after both the
//!    stop has ended, whatever AWS answers: what is not settled then comes again by itself.
//! 7. On a FIFO queue (its URL ends in `.fifo`) the messages of a group are worked on one after the
//!    other, in their order. When one is to come again, those of its group that are in hand go back
//!    at once, so that they come after it; no attempt of theirs is counted, and other groups go on.
//! 8. Several queues share the slots by their weights: none starves, and an idle one takes nothing
//!    from the others. A tenant has no more slots than it may have.
//!
//! # Example
//!
//! A job that writes one row for each message, exactly once:
//!
//! ```no_run
//! use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
//! use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, process};
//!
//! struct Greet;
//!
//! #[derive(serde::Deserialize)]
//! struct Greeting {
//!     id: String,
//!     name: String,
//! }
//!
//! impl Job for Greet {
//!     const NAME: &'static str = "greet";
//!     type Message = Greeting;
//!     type Work = Greeting;
//!
//!     async fn prepare(&self, message: Greeting, _: &Delivery) -> Result<(Effect, Greeting), Failure> {
//!         if message.name.is_empty() {
//!             return Err(Failure::permanent("no_name", format!("greeting {}: the name is empty", message.id)));
//!         }
//!         Ok((Effect::Once(message.id.clone()), message))
//!     }
//!
//!     async fn run(&self, work: Greeting, lease: &Lease) -> Result<(), Failure> {
//!         let row = Put::builder()
//!             .table_name("greetings")
//!             .item("id", AttributeValue::S(work.id))
//!             .item("text", AttributeValue::S(format!("Hello {}", work.name)))
//!             .build()
//!             .map_err(|e| Failure::permanent("request", "a greeting row").caused_by(e))?;
//!         lease.complete(vec![TransactWriteItem::builder().put(row).build()]).await?;
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     process::worker(|_, _| (), |(), _| Ok(Greet)).await
//! }
//! ```

mod acks;
mod advance;
mod ahead;
pub mod args;
mod attempt;
pub mod aws;
pub mod batch;
mod calls;
mod claiming;
pub mod config;
mod consumer;
pub mod control;
mod depth;
mod drain;
pub mod failure;
mod failures;
#[cfg(test)]
mod fake;
pub mod fit;
pub mod health;
pub mod instance;
pub mod job;
mod keeper;
mod lanes;
pub mod lease;
pub mod ledger;
pub mod metrics;
pub mod once;
pub mod payload;
mod place;
mod pollers;
pub mod presence;
pub mod process;
pub mod queue;
pub mod retry;
mod run;
mod settle;
pub mod shutdown;
#[cfg(feature = "signed")]
pub mod signed;
mod slots;
pub mod store;
mod tail;
pub mod tally;
pub mod telemetry;
mod tenants;
pub mod trace;
mod worker;

pub use batch::{BatchJob, Batched};
pub use failure::Failure;
pub use fit::Needs;
pub use job::{Delivery, Effect, Job};
pub use lease::{Completion, Lease};
pub use run::run;
