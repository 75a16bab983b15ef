//! Sizes a group of workers by the queues that it serves.
//!
//! [`decide`] is a pure function: what was [observed](Observed), the [policy](Policy), what earlier
//! decisions [remembered](Memory) and the time go in; how many instances there should be, which
//! idle one goes, why, and what to remember come out. The process `autoscaler` (feature `live`)
//! calls it in production and logs each call as a [`Record`], from which [`replay`] makes the same
//! decisions again.
//!
//! Times are milliseconds since 1970, spans are milliseconds, and money is in millionths of a US
//! dollar: whole numbers add up to the same in any order, so no decision depends on the order in
//! which things were seen.
//!
//! ```
//! use flotilla_autoscaling::{Count, Memory, Observed, Policy, QueueSeen, decide};
//!
//! let queue = QueueSeen { visible: Some(Count::exact(1)), ..QueueSeen::empty("grading") };
//! let seen = Observed { queues: vec![queue], ..Observed::empty_group() };
//! let decision = decide(&seen, &Policy::for_queue("grading", 10), &Memory::default(), 0);
//! assert_eq!(decision.desired, 1, "{}", decision.reason);
//! ```

mod capacity;
mod decide;
mod forecast;
#[cfg(feature = "live")]
pub mod live;
mod memory;
mod observed;
mod policy;
mod prediction;
mod record;
mod shadow;
pub mod simulate;

/// The row of a group in the fleet table that freezes its autoscaler: it goes on to decide and to
/// log, and does nothing, while there is such a row.
pub const FREEZE_ROW: &str = "#freeze";

pub use decide::{Decision, decide};
pub use forecast::Rises;
pub use memory::{Memory, Standing, Work};
pub use observed::{Count, Instance, Millis, Observed, QueueSeen, Service, State};
pub use policy::{Policy, QueuePolicy};
pub use prediction::{Forecast, Prediction};
pub use record::{Done, Mismatch, Record, ReplayError, Replayed, records, replay};
pub use shadow::{Shadow, ShadowReport, Spent};
