//! What the container of a cell is created with.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    ResourcesUlimits,
};
use flotilla_supervisor::syscalls::{ABSENT, RUN, RUN_BY_ARGUMENT, SETUP, Syscall, name};
use serde_json::json;

use crate::owner::Owner;
use crate::{BuildLimits, CellLimits, Isolation, SandboxConfig};

/// The label with the worker's name; every container of ours has it.
pub(crate) const WORKER: &str = "flotilla.worker";
/// The label with the worker process, see [`Owner`].
pub(crate) const OWNER: &str = "flotilla.owner";
/// The label with the pool, of which a process may have several.
pub(crate) const POOL: &str = "flotilla.pool";
/// The label with the time, in Unix seconds, after which anybody may remove the container who cannot
/// tell whether its worker lives.
pub(crate) const DEADLINE: &str = "flotilla.deadline";

/// A cell outlives its age while it is in use; beyond this it is certainly forgotten.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// The container of a cell. `apparmor` says that the engine puts a profile of its own on
/// containers, which would forbid the mounts of a run.
pub(crate) fn container(
    config: &SandboxConfig,
    image: &str,
    pool: &str,
    apparmor: bool,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.into()),
        user: Some(user(config.isolation).into()),
        cmd: Some(vec!["--isolation".into(), config.isolation.to_string()]),
        hostname: Some("cell".into()),
        working_dir: Some("/".into()),
        network_disabled: Some(true),
        // The engine closes standard input when the one attached client is gone; then the
        // supervisor exits, and the engine removes the container.
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(labels(config, pool)),
        host_config: Some(host_config(config, apparmor)),
        ..Default::default()
    }
}

/// The container of a build: as bare as a cell, with a disk of its own. It is not removed by the
/// engine, so that its end can be looked at.
pub(crate) fn build(
    image: &str,
    labels: &HashMap<String, String>,
    arguments: Vec<String>,
    limits: &BuildLimits,
) -> ContainerCreateBody {
    let until = SystemTime::now() + limits.wall + GRACE;
    let mut labels = labels.clone();
    labels.extend(ownership(until));
    ContainerCreateBody {
        image: Some(image.into()),
        user: Some("65534:65534".into()),
        cmd: Some(arguments),
        hostname: Some("build".into()),
        working_dir: Some("/".into()),
        network_disabled: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(labels),
        host_config: Some(build_host(limits)),
        ..Default::default()
    }
}

fn build_host(limits: &BuildLimits) -> HostConfig {
    let cell = CellLimits {
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        cpus: limits.cpus,
        ..CellLimits::default()
    };
    let config = SandboxConfig { cell, isolation: Isolation::Container, ..Default::default() };
    let disk = |size: u64| {
        format!("rw,exec,nosuid,nodev,size={size},nr_inodes=200000,mode=0700,uid=65534,gid=65534")
    };
    HostConfig {
        auto_remove: Some(false),
        cap_add: None,
        ulimits: Some(vec![limit("core", 0), limit("nofile", 4096)]),
        tmpfs: Some(HashMap::from([
            ("/build".into(), disk(limits.disk_bytes)),
            ("/tmp".into(), disk(limits.disk_bytes / 4)),
            ("/dev/shm".into(), disk(64 << 20)),
        ])),
        ..host_config(&config, false)
    }
}

fn user(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Namespaces => "65534:65534",
        Isolation::Container => "0:0",
    }
}

fn labels(config: &SandboxConfig, pool: &str) -> HashMap<String, String> {
    let until = SystemTime::now() + config.max_cell_age + GRACE;
    let mut labels =
        HashMap::from([(WORKER.into(), config.worker_id.clone()), (POOL.into(), pool.into())]);
    labels.extend(ownership(until));
    labels
}

/// The labels by which a reaper knows whose a container is, and until when.
fn ownership(until: SystemTime) -> [(String, String); 2] {
    let until = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    [(OWNER.into(), Owner::current().to_string()), (DEADLINE.into(), until.to_string())]
}

fn host_config(config: &SandboxConfig, apparmor: bool) -> HostConfig {
    let (cell, isolation) = (&config.cell, config.isolation);
    let memory = i64::try_from(cell.memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        auto_remove: Some(true),
        network_mode: Some("none".into()),
        // Else the engine copies the names of the host's own resolvers into the container.
        dns: Some(vec!["127.0.0.1".into()]),
        dns_search: Some(vec![".".into()]),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(capabilities(isolation)),
        security_opt: Some(security(isolation, apparmor)),
        pids_limit: Some(i64::from(cell.pids)),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some((cell.cpus * 1e9) as i64),
        ipc_mode: Some("none".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        ulimits: Some(vec![limit("core", 0), limit("nofile", 1024), limit("fsize", 1 << 30)]),
        // A run mounts its own /proc, which the kernel refuses where this one is partly covered.
        // The cell's user has no capability to use what they would cover.
        masked_paths: (isolation == Isolation::Namespaces).then(Vec::new),
        readonly_paths: (isolation == Isolation::Namespaces).then(Vec::new),
        tmpfs: Some(tmpfs(cell, isolation)),
        ..Default::default()
    }
}

fn capabilities(isolation: Isolation) -> Vec<String> {
    let names: &[&str] = match isolation {
        Isolation::Namespaces => &[],
        Isolation::Container => &["SETUID", "SETGID", "KILL"],
    };
    names.iter().map(|name| (*name).into()).collect()
}

fn security(isolation: Isolation, apparmor: bool) -> Vec<String> {
    let mut options =
        vec!["no-new-privileges:true".into(), format!("seccomp={}", seccomp(isolation))];
    if apparmor && isolation == Isolation::Namespaces {
        options.push("apparmor=unconfined".into());
    }
    options
}

fn limit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) }
}

/// In namespaces mode only the mount points are needed: every run mounts its own over them.
fn tmpfs(cell: &CellLimits, isolation: Isolation) -> HashMap<String, String> {
    let options = |size: u64, inodes: u64| match isolation {
        Isolation::Namespaces => "ro,nosuid,nodev,noexec,size=4096,nr_inodes=2,mode=0555".into(),
        Isolation::Container => {
            format!(
                "rw,exec,nosuid,nodev,size={size},nr_inodes={inodes},mode=0700,uid=1000,gid=1000"
            )
        }
    };
    HashMap::from([
        ("/tmp".into(), options(cell.tmp_bytes, cell.tmp_inodes)),
        ("/dev/shm".into(), options(cell.shm_bytes, cell.tmp_inodes)),
    ])
}

/// The container's system calls: those of a run and, in namespaces mode, what makes one. The filter
/// of a run comes on top, so here nothing has to look at arguments.
fn seccomp(isolation: Isolation) -> serde_json::Value {
    let setup: &[Syscall] = match isolation {
        Isolation::Namespaces => SETUP,
        Isolation::Container => &[("SYS_seccomp", 0)],
    };
    let allowed: Vec<_> = [RUN, RUN_BY_ARGUMENT, setup].concat().iter().map(name).collect();
    let absent: Vec<_> = ABSENT.iter().map(name).collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] }],
        "syscalls": [
            { "names": allowed, "action": "SCMP_ACT_ALLOW" },
            { "names": absent, "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(isolation: Isolation) -> (ContainerCreateBody, HostConfig) {
        let config = SandboxConfig { isolation, ..SandboxConfig::default() };
        let body = container(&config, "image", "pool", false);
        let host = body.host_config.clone().unwrap();
        (body, host)
    }

    #[test]
    fn a_cell_has_no_network_no_capability_no_bind_and_nothing_to_write() {
        let (body, host) = created(Isolation::Namespaces);
        assert_eq!(body.user.as_deref(), Some("65534:65534"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert!(host.cap_add.unwrap().is_empty());
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.memory, host.memory_swap);
        assert!(host.binds.is_none() && host.mounts.is_none() && host.devices.is_none());
        assert!(host.tmpfs.unwrap().values().all(|options| options.starts_with("ro,")));
    }

    #[test]
    fn a_build_has_no_network_no_capability_and_only_disks_of_bounded_size() {
        let body = build("image", &HashMap::new(), Vec::new(), &BuildLimits::default());
        let host = body.host_config.clone().unwrap();
        assert_eq!(body.user.as_deref(), Some("65534:65534"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!((host.cap_drop.unwrap(), host.cap_add), (vec!["ALL".to_owned()], None));
        assert_eq!((host.readonly_rootfs, host.memory), (Some(true), host.memory_swap));
        assert!(host.binds.is_none() && host.mounts.is_none() && host.devices.is_none());
        assert!(host.tmpfs.unwrap().values().all(|options| options.contains(",size=")));
        let labels = body.labels.unwrap();
        assert!(labels.contains_key(OWNER) && labels.contains_key(DEADLINE));
    }

    #[test]
    fn only_namespaces_mode_may_mount_and_unshare() {
        for (isolation, may) in [(Isolation::Namespaces, true), (Isolation::Container, false)] {
            let profile = seccomp(isolation).to_string();
            assert_eq!(profile.contains("\"unshare\"") && profile.contains("\"mount\""), may);
            assert!(!profile.contains("ptrace") && !profile.contains("bpf"));
        }
    }

    #[test]
    fn container_mode_has_the_three_capabilities_that_it_needs() {
        let (body, host) = created(Isolation::Container);
        assert_eq!(body.user.as_deref(), Some("0:0"));
        assert_eq!(host.cap_add.unwrap(), ["SETUID", "SETGID", "KILL"]);
        assert_eq!(host.masked_paths, None);
    }
}
