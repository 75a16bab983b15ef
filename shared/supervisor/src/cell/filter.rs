//! The system call filter of a run.
//!
//! The kernel tries a new filter with every system call's number, to remember those that are always
//! allowed. With a comparison for each call, one after the other, that takes a millisecond, a
//! tenth of a short program's time; so this filter is a search tree over ranges of numbers.

use flotilla_supervisor::syscalls::{ABSENT, CLONE_NEW, RUN, SOCKET_FAMILIES, Syscall};
use seccompiler::{BpfProgram, sock_filter};

/// The kernel's number for the only architecture there is a table for.
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
/// Numbers from here are calls of the x32 variant.
const X32: u32 = 0x4000_0000;
/// Numbers from here are newer than the tables, or will be.
const NEWER: i64 = 463;

/// Offsets in what the kernel shows to a filter.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Refuse,
    /// As if the kernel did not know it.
    Absent,
    /// Allowed if the first argument has none of these bits.
    Without(u32),
    /// Allowed if the first argument is one of these.
    OneOf(&'static [i32]),
}

/// The filter, compiled once.
pub(super) struct Filter(BpfProgram);

impl Filter {
    /// Compiles it.
    pub(super) fn compile() -> Self {
        let mut program = vec![
            load(ARCH),
            jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
            answer(libc::SECCOMP_RET_KILL_PROCESS),
            load(NUMBER),
            jump(libc::BPF_JGE, X32, 0, 1),
            answer(libc::SECCOMP_RET_KILL_PROCESS),
        ];
        program.extend(tree(&ranges()));
        Self(program)
    }

    /// Puts it on this process for ever; needs no-new-privileges.
    pub(super) fn apply(&self) -> seccompiler::Result<()> {
        seccompiler::apply_filter(&self.0)
    }
}

fn action(number: i64) -> Action {
    let is_in = |table: &[Syscall]| table.iter().any(|call| call.1 == number);
    match number {
        libc::SYS_clone => Action::Without(CLONE_NEW as u32),
        libc::SYS_socket => Action::OneOf(SOCKET_FAMILIES),
        libc::SYS_socketpair => Action::OneOf(&[libc::AF_UNIX]),
        libc::SYS_prlimit64 => Action::OneOf(&[0]),
        _ if number >= NEWER || is_in(ABSENT) => Action::Absent,
        _ if is_in(RUN) => Action::Allow,
        _ => Action::Refuse,
    }
}

/// Where each range of numbers with the same action begins.
fn ranges() -> Vec<(u32, Action)> {
    let mut ranges: Vec<_> = (0..)
        .map(|number| (number, action(i64::from(number))))
        .take_while(|(number, _)| i64::from(*number) <= NEWER)
        .collect();
    ranges.dedup_by_key(|(_, action)| *action);
    ranges
}

/// Finds the range of the number that is loaded. Jumps can be longer than a conditional one
/// reaches, so those over the lower half are unconditional.
fn tree(ranges: &[(u32, Action)]) -> BpfProgram {
    if let [(_, action)] = ranges {
        return leaf(*action);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let below = tree(lower);
    let first = upper.first().map_or(0, |range| range.0);
    let over = statement(libc::BPF_JMP | libc::BPF_JA, below.len() as u32);
    let mut program = vec![jump(libc::BPF_JGE, first, 0, 1), over];
    program.extend(below);
    program.extend(tree(upper));
    program
}

fn leaf(action: Action) -> BpfProgram {
    let refuse = answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    // The kernel takes these arguments as 32 bits, whatever the upper half of the register.
    let argument = load(FIRST_ARGUMENT);
    match action {
        Action::Allow => vec![allow],
        Action::Refuse => vec![refuse],
        Action::Absent => vec![answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)],
        Action::Without(bits) => vec![argument, jump(libc::BPF_JSET, bits, 0, 1), refuse, allow],
        Action::OneOf(values) => {
            let mut program = vec![argument];
            for value in values {
                program.extend([jump(libc::BPF_JEQ, *value as u32, 0, 1), allow.clone()]);
            }
            program.push(refuse);
            program
        }
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Compares; skips `yes` or `no` instructions after this one.
fn jump(compare: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { jt: yes, jf: no, ..statement(libc::BPF_JMP | compare | libc::BPF_K, k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, for the few instructions used here.
    fn run(arch: u32, number: u32, argument: u64) -> u32 {
        let program = Filter::compile().0;
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let code = u32::from(step.code);
            let holds = match code & 0xf0 {
                libc::BPF_JEQ => value == step.k,
                libc::BPF_JGE => value >= step.k,
                libc::BPF_JSET => value & step.k != 0,
                _ => false,
            };
            match code & 0x07 {
                libc::BPF_RET => return step.k,
                libc::BPF_LD => {
                    value = [number, arch, 0, 0, argument as u32][step.k as usize / 4];
                }
                _ if code & 0xf0 == libc::BPF_JA => at += step.k as usize,
                _ => at += usize::from(if holds { step.jt } else { step.jf }),
            }
        }
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn every_number_gets_what_the_tables_say() {
        for number in 0..700 {
            let expected = match action(i64::from(number)) {
                Action::Allow | Action::Without(_) => ALLOW,
                Action::Refuse => EPERM,
                Action::Absent => ENOSYS,
                Action::OneOf(values) if values.contains(&0) => ALLOW,
                Action::OneOf(_) => EPERM,
            };
            assert_eq!(run(ARCHITECTURE, number, 0), expected, "{number}");
        }
        assert!(RUN.iter().all(|call| action(call.1) == Action::Allow));
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let at = |number: i64, argument| run(ARCHITECTURE, number as u32, argument);
        assert_eq!(at(libc::SYS_clone, libc::SIGCHLD as u64), ALLOW);
        for shift in [17, 25, 26, 27, 28, 29, 30] {
            assert_eq!(at(libc::SYS_clone, 1 << shift), EPERM, "flag {shift}");
        }
        assert_eq!(at(libc::SYS_socket, libc::AF_INET6 as u64), ALLOW);
        assert_eq!(at(libc::SYS_socket, libc::AF_VSOCK as u64), EPERM);
        assert_eq!(at(libc::SYS_prlimit64, 1), EPERM);
    }

    #[test]
    fn other_architectures_are_killed() {
        let kill = libc::SECCOMP_RET_KILL_PROCESS;
        assert_eq!(run(0x4000_0003, 20, 0), kill, "32-bit calls");
        assert_eq!(run(ARCHITECTURE, X32 + 39, 0), kill, "x32 calls");
        assert_eq!(run(ARCHITECTURE, u32::MAX, 0), kill, "no call at all");
    }
}
