//! The harness of the integration tests.
//!
//! A [`World`] is a stack of its own on the endpoint that `AWS_ENDPOINT_URL` names, with real
//! worker processes on the real Docker engine. When it ends it fails the test if anything is
//! left: a process, a container, a message.

mod appstream;
mod autoscaler;
mod books;
mod chaos;
mod crates;
mod docker;
mod ec2;
mod expression;
mod farm;
mod faults;
mod group;
mod hooked;
mod index;
mod instance;
mod moto;
mod operator;
mod packages;
mod prometheus;
mod proxy;
mod queues;
mod recorder;
mod schedules;
mod sensors;
mod submissions;
mod template;
mod venv;
mod wait;
mod worker;
mod world;

pub use appstream::FakeAppStream;
pub use autoscaler::Autoscaler;
pub use books::{Books, Standing};
pub use chaos::Crew;
pub use crates::{Crates, lock as crate_lock};
pub use docker::{Gate, Starts, containers};
pub use ec2::FakeEc2;
pub use expression::evaluate;
pub use farm::{BACKEND, Farm, SETUP};
pub use faults::{Fault, Rule, Seed};
pub use group::{Machines, ScaledGroup};
pub use hooked::{HOOKED, HookedGroup, SlowLook};
pub use index::{Index, Mood, sdist, wheel, wheel_that_says};
pub use instance::FakeInstance;
pub use moto::Moto;
pub use prometheus::{Prometheus, mixin};
pub use proxy::{FaultProxy, Held};
pub use queues::Queues;
pub use recorder::{Recorded, Recorder};
pub use schedules::{AuditRow, Gateway};
pub use sensors::{Listener, PROCESSED, TOLD, reading};
pub use submissions::{Submission, s3_event};
pub use template::{Template, answered, difference};
pub use wait::{Answer, eventually, http_get};
pub use worker::{Worker, WorkerBuilder, binary};
pub use world::{DeadLetter, World};
