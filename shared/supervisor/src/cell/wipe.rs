//! Container mode: takes away what a run left behind. Done by a child with the run's own user, so
//! that whatever it finds there, it can do no more than the run could.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, UnlinkatFlags, fork, unlinkat};

use super::{Failed, Isolation, Stage as _, program};

/// Where a run can leave files.
const PLACES: [&str; 3] = ["/tmp", "/dev/shm", "/dev/mqueue"];

/// Wipes; in namespaces mode nothing is left that could be.
#[allow(unsafe_code, reason = "the wiping is done by a child of another user")]
pub(super) fn after_run(isolation: Isolation) -> Result<(), Failed> {
    if isolation == Isolation::Namespaces {
        return Ok(());
    }
    // SAFETY: there is one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.stage("fork to wipe")? {
        ForkResult::Child => std::process::exit(i32::from(wipe().is_err())),
        ForkResult::Parent { child } => match waitpid(child, None).stage("wait for the wipe")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(Errno::ENOTEMPTY).stage("wipe"),
        },
    }
}

fn wipe() -> Result<(), Failed> {
    program::drop_root()?;
    for place in PLACES {
        let _not_ours = chmod(place);
        match open(place, DIRECTORY, Mode::empty()) {
            // Not every cell has every place.
            Err(Errno::ENOENT) => {}
            top => top.and_then(|top| empty(&top)).stage(place)?,
        }
    }
    remove_system_v("shm")?;
    remove_system_v("sem")?;
    remove_system_v("msg")
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Empties a directory without going down: every directory inside another is moved to the top
/// first. So two descriptors do for any depth, and the work is bounded by the number of inodes.
fn empty(top: &OwnedFd) -> nix::Result<()> {
    let mut moved = 0;
    loop {
        let entries = list(top)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (name, kind) in entries {
            if kind == Some(Type::Directory) {
                flatten(top, &name, &mut moved)?;
            } else {
                unlinkat(top, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
    }
}

/// Removes the files of a directory, moves its directories to the top, and removes it.
fn flatten(top: &OwnedFd, name: &CStr, moved: &mut u64) -> nix::Result<()> {
    own(top, name)?;
    let inner = openat(top, name, DIRECTORY, Mode::empty())?;
    for (entry, kind) in list(&inner)? {
        if kind == Some(Type::Directory) {
            *moved += 1;
            let target = format!(".moved-{}-{moved}", std::process::id());
            own(&inner, &entry)?;
            renameat(&inner, entry.as_c_str(), top, target.as_str())?;
        } else {
            unlinkat(&inner, entry.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
    }
    unlinkat(top, name, UnlinkatFlags::RemoveDir)
}

/// A directory's owner may have taken away its own rights. Nobody else is alive who could put a link
/// in its place.
fn own(parent: &OwnedFd, name: &CStr) -> nix::Result<()> {
    fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
}

fn chmod(place: &str) -> std::io::Result<()> {
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o700))
}

/// The names in a directory, with what they are.
fn list(directory: &OwnedFd) -> nix::Result<Vec<(CString, Option<Type>)>> {
    let mut found = Vec::new();
    for entry in Dir::openat(directory, ".", DIRECTORY, Mode::empty())?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

/// Removes System V objects of one kind; the second column of the kernel's list is the id.
fn remove_system_v(kind: &str) -> Result<(), Failed> {
    let Ok(list) = std::fs::read_to_string(format!("/proc/sysvipc/{kind}")) else {
        return Ok(());
    };
    let id = |line: &str| line.split_whitespace().nth(1)?.parse().ok();
    for id in list.lines().skip(1).filter_map(id) {
        Errno::result(remove_object(kind, id)).stage("remove a System V object")?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "System V IPC has no wrapper")]
fn remove_object(kind: &str, id: i32) -> i32 {
    // SAFETY: IPC_RMID takes no argument, so no memory is passed.
    unsafe {
        match kind {
            "shm" => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            "sem" => libc::semctl(id, 0, libc::IPC_RMID),
            _ => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_is_emptied_however_deep_and_without_following_links() {
        let outside = std::env::temp_dir().join(format!("wipe-outside-{}", std::process::id()));
        let inside = std::env::temp_dir().join(format!("wipe-inside-{}", std::process::id()));
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        // Deeper than a path may be long; made as a program would, from within.
        let mut deep = inside.clone();
        for level in 0..200 {
            deep.push(format!("level-{level}"));
        }
        fs::create_dir_all(&deep).unwrap();
        std::os::unix::fs::symlink(&outside, deep.join("link")).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        fs::set_permissions(inside.join("level-0/level-1"), fs::Permissions::from_mode(0o000))
            .unwrap();

        empty(&open(&inside, DIRECTORY, Mode::empty()).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        fs::remove_dir(&inside).unwrap();
        fs::remove_dir_all(&outside).unwrap();
    }
}
