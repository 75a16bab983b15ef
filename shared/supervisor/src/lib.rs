//! What a cell's PID 1 and the host say to each other, and the system calls a cell may make.
//!
//! The library is pure: types, framing and tables, used by the host (`flotilla-sandbox`) as well.
//! Everything that touches the kernel is in the binary `flotilla-supervisor`.

pub mod frame;
pub mod protocol;
pub mod syscalls;

/// The version of the protocol. Host and image are built apart, so `Ready` carries it and the host
/// refuses a supervisor that speaks another one.
pub const PROTOCOL_VERSION: u32 = 1;
