//! The operator's command: flotilla up, submit, status.
