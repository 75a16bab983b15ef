//! Who a container belongs to: a worker process, named so that another can tell whether it lives.

use std::fs;

/// A process, identified beyond the reuse of its pid: boot, pid namespace, pid, start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    boot: String,
    namespace: String,
    pid: u32,
    started: u64,
}

/// Whether an owner is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Dead,
    /// It lives in another pid namespace, where this process cannot look.
    Unknown,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> Self {
        let pid = std::process::id();
        Self {
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: namespace(),
            pid,
            started: start_time(pid).unwrap_or(0),
        }
    }

    /// From a label's text; `None` when it is not one of ours.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split(' ');
        let owner = Self {
            boot: parts.next()?.into(),
            namespace: parts.next()?.into(),
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether it lives, as far as this process can see.
    pub(crate) fn life(&self) -> Life {
        let here = Self::current();
        if self.boot != here.boot {
            return Life::Dead;
        }
        if self.namespace != here.namespace {
            return Life::Unknown;
        }
        match start_time(self.pid) == Some(self.started) {
            true => Life::Alive,
            false => Life::Dead,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.boot, self.namespace, self.pid, self.started)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Field 22 of `/proc/<pid>/stat`, counted after the name, which may hold anything. A zombie has
/// ended, though its entry is still there.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?.parse().ok()?;
    (!ended).then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_by_its_own_label() {
        let owner = Owner::parse(&Owner::current().to_string()).unwrap();
        assert_eq!(owner, Owner::current());
        assert_eq!(owner.life(), Life::Alive);
    }

    #[test]
    fn a_reused_pid_is_not_the_owner() {
        let mut owner = Owner::current();
        owner.started += 1;
        assert_eq!(owner.life(), Life::Dead);
    }

    #[test]
    fn an_owner_before_the_last_boot_is_dead_and_one_elsewhere_unknown() {
        let elsewhere = Owner { namespace: "pid:[1]".into(), ..Owner::current() };
        assert_eq!(elsewhere.life(), Life::Unknown);
        assert_eq!(Owner { boot: "other".into(), ..elsewhere }.life(), Life::Dead);
    }

    #[test]
    fn what_is_no_label_of_ours_is_no_owner() {
        for text in ["", "a b", "a b x 1", "a b 1 2 3"] {
            assert_eq!(Owner::parse(text), None, "{text}");
        }
    }
}
