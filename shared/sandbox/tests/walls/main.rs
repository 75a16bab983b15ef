//! Every wall is shown by a program that tries to get through it, in both isolation modes.
//! Each test ends with a harmless program in the same cell, and with no container left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "../common/mod.rs"]
mod common;

/// Makes two tests of each function, one for each mode.
macro_rules! in_both_modes {
    ($($test:ident)*) => {
        mod namespaces {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let isolation = flotilla_sandbox::Isolation::Namespaces;
                super::$test(crate::common::Bed::new(isolation).await).await;
            })*
        }
        mod container {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let isolation = flotilla_sandbox::Isolation::Container;
                super::$test(crate::common::Bed::new(isolation).await).await;
            })*
        }
    };
}
pub(crate) use in_both_modes;

mod calls;
mod files;
mod limits;
mod reach;

const CTYPES: &str = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n";
