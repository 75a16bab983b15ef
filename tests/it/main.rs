//! The integration tests: every part is real, on the endpoint that `AWS_ENDPOINT_URL` names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod attacks;
mod autoscaling;
mod autoscaling_live;
mod bad_input;
mod chaos;
mod cli;
mod faults;
mod fifo;
mod fleet_template;
mod gateway;
mod grading;
mod iot_template;
mod mixin;
mod operator;
mod packages;
mod packages_api;
mod packages_crates;
mod packages_groups;
mod packages_held;
mod packages_hostile;
mod packages_index;
mod packages_late;
mod packages_refresh;
mod packages_repair;
mod packages_upstream;
mod priorities;
mod promises;
mod schedule;
mod schedule_hard;
mod schedule_level;
mod schedule_people;
mod schedule_sad;
mod scripted;
mod sensors;
mod sensors_ack;
mod sensors_hard;
mod sensors_ingest;
mod sensors_kinds;
mod sensors_live;
mod sensors_notify;
mod sensors_replay;
mod sensors_v1;
mod stack;
mod tenants;
