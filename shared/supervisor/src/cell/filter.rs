//! The system call filter of a run.

use std::collections::BTreeMap;

use flotilla_supervisor::syscalls::{ABSENT, CLONE_NEW, RUN, SOCKET_FAMILIES};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The first and last number of calls that are newer than this program, or will be.
const NEWER: std::ops::RangeInclusive<i64> = 463..=511;

/// Both filters, compiled once. The kernel asks both about every call, and the sterner answer
/// holds: `absent` says `ENOSYS` to what `allowed` lets pass to it, and nothing else.
pub(super) struct Filters {
    allowed: BpfProgram,
    absent: BpfProgram,
}

impl Filters {
    /// Compiles them. A program of another architecture than ours is killed at its first call.
    pub(super) fn compile() -> Result<Self, seccompiler::BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let allowed = SeccompFilter::new(
            allowed_rules()?,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
            arch,
        )?;
        let absent = SeccompFilter::new(
            absent_numbers().collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS as u32),
            arch,
        )?;
        Ok(Self {
            allowed: allowed.try_into()?,
            absent: absent.try_into()?,
        })
    }

    /// Puts them on this process for ever; needs no-new-privileges. After `allowed` no other
    /// filter can be put on.
    pub(super) fn apply(&self) -> seccompiler::Result<()> {
        seccompiler::apply_filter(&self.absent)?;
        seccompiler::apply_filter(&self.allowed)
    }
}

fn absent_numbers() -> impl Iterator<Item = (i64, Vec<SeccompRule>)> {
    ABSENT
        .iter()
        .map(|call| call.1)
        .chain(NEWER)
        .map(|number| (number, vec![]))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn allowed_rules() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = RUN
        .iter()
        .map(|call| (call.1, vec![]))
        .chain(absent_numbers())
        .collect();
    let same_namespaces = argument(0, SeccompCmpOp::MaskedEq(CLONE_NEW), 0)?;
    rules.insert(libc::SYS_clone, vec![same_namespaces]);
    let families = SOCKET_FAMILIES
        .iter()
        .map(|family| equal(0, *family as u64));
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_socketpair, vec![equal(0, libc::AF_UNIX as u64)?]);
    rules.insert(libc::SYS_prlimit64, vec![equal(0, 0)?]);
    Ok(rules)
}

fn equal(index: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    argument(index, SeccompCmpOp::Eq, value)
}

fn argument(
    index: u8,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    // The kernel takes all of these arguments as 32 bits, whatever the upper half of the register.
    SeccompRule::new(vec![SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        op,
        value,
    )?])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filters_compile() {
        assert!(super::Filters::compile().is_ok());
    }
}
