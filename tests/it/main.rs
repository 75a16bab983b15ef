//! The integration tests: every part is real, on the endpoint that `AWS_ENDPOINT_URL` names.

mod bad_input;
mod cli;
mod faults;
mod grading;
mod promises;
mod stack;
