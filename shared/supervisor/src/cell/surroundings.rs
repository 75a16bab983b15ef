//! What a run in namespaces sees: made by the first process in them, before the program starts.
//!
//! Known: `/proc/self/mountinfo` and `/proc/self/mounts` name the directories of the host that the
//! image's layers are in (`lowerdir=/var/lib/docker/…`). They are names only, of what no run can
//! open. The kernel shows them with any mount of the image, a bind mount in a new root included,
//! and the files are made for each process, so that nothing can be put over them beforehand.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use flotilla_supervisor::protocol::Limits;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::{Failed, RUN_UID, Stage as _};

/// The user that the cell runs as, taken before its namespaces are left.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    pub(super) fn current() -> Self {
        Self { uid: Uid::effective(), gid: Gid::effective() }
    }
}

/// Files of Docker's that name the container or the host's resolver.
const NAMES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// Becomes the only user there is, and covers everything that is shared or says too much. Gives
/// back the cell's `/proc`, which the run does not see.
pub(super) fn enter(owner: Owner, limits: &Limits) -> Result<OwnedFd, Failed> {
    become_only_user(owner)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).stage("make mounts private")?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let cell_proc = open("/proc", flags, Mode::empty()).stage("open /proc")?;
    tmpfs("/tmp", limits.tmp_bytes, limits.tmp_inodes, "0700", MsFlags::empty())?;
    tmpfs("/dev/shm", limits.shm_bytes, limits.tmp_inodes, "0700", MsFlags::empty())?;
    tmpfs("/sys", 4096, 2, "0555", MsFlags::MS_RDONLY)?;
    queues()?;
    proc()?;
    for name in NAMES {
        cover(name)?;
    }
    nix::unistd::sethostname("sandbox").stage("set the host name")?;
    Ok(cell_proc)
}

/// Maps the run's user to the cell's, and nobody else. A process that is not dumpable may not even
/// write its own map; nothing of the program runs yet.
fn become_only_user(owner: Owner) -> Result<(), Failed> {
    prctl::set_dumpable(true).stage("prctl")?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{RUN_UID} {} 1", owner.uid))?;
    write("/proc/self/gid_map", &format!("{RUN_UID} {} 1", owner.gid))?;
    prctl::set_dumpable(false).stage("prctl")
}

fn write(path: &str, text: &str) -> Result<(), Failed> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).stage(path)
}

/// A size or count of 0 would mean "without limit".
fn tmpfs(at: &str, bytes: u64, inodes: u64, mode: &str, flags: MsFlags) -> Result<(), Failed> {
    let (bytes, inodes) = (bytes.max(4096), inodes.max(2));
    let data = format!("size={bytes},nr_inodes={inodes},mode={mode},uid={RUN_UID},gid={RUN_UID}");
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(data.as_str()))
        .stage(&format!("mount {at}"))
}

/// Message queues live in the mount, not only in the IPC namespace.
fn queues() -> Result<(), Failed> {
    let at = "/dev/mqueue";
    if !Path::new(at).is_dir() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("mqueue"), at, Some("mqueue"), flags, None::<&str>).stage("mount /dev/mqueue")
}

/// A read-only `/proc` with the run's own processes, and (from Linux 5.8) nothing else. Read-only,
/// so that a run cannot lower its own out-of-memory score.
fn proc() -> Result<(), Failed> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let at = |data| mount(Some("proc"), "/proc", Some("proc"), flags, data);
    if at(Some("subset=pid")).is_ok() {
        return Ok(());
    }
    at(None).stage("mount /proc")?;
    fs::read_dir("/proc").stage("list /proc")?.flatten().try_for_each(|entry| hide(&entry))
}

/// Without `subset=pid`: covers what is of the machine, not of a process.
fn hide(entry: &fs::DirEntry) -> Result<(), Failed> {
    let path = entry.path();
    let name = entry.file_name().to_string_lossy().into_owned();
    let harmless = ["self", "thread-self", "cpuinfo", "meminfo", "stat", "uptime", "filesystems"];
    if name.bytes().all(|b| b.is_ascii_digit()) || harmless.contains(&name.as_str()) {
        return Ok(());
    }
    match entry.file_type().stage("list /proc")? {
        kind if kind.is_dir() => {
            tmpfs(&path.to_string_lossy(), 4096, 2, "0555", MsFlags::MS_RDONLY)
        }
        kind if kind.is_file() => cover(&path.to_string_lossy()),
        _ => Ok(()),
    }
}

/// Puts an empty file over another, if that is there.
fn cover(path: &str) -> Result<(), Failed> {
    if !Path::new(path).exists() {
        return Ok(());
    }
    mount(Some("/dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .stage(&format!("cover {path}"))
}
