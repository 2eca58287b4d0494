//! What ends a process tree: an own cgroup, killed until it is empty, and a sweep over everything that descends from the
//! session, which adopts what loses its parent.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use elevon_policy::bounds::{Bounds, Children};
use elevon_policy::capability::Capabilities;
use elevon_policy::event::Layers;
use elevon_policy::lists::RunsAs;
use elevon_policy::time::Span;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;

use super::{credentials, filter, landlock, limits};
use crate::chance;
use crate::clock::Uptime;
use crate::files;
use crate::syscall;

/// What making namespaces and mounts takes.
const NEEDED: Capabilities = Capabilities::SYS_ADMIN;

/// The folder of all launches' cgroups, in what the elevator was delegated.
pub(crate) const FOLDER: &str = "elevon";

/// What the unit calls the leaf that the elevator itself is in.
const LEAF: &str = "elevator";

/// The folder of all launches' cgroups; `None` where there is no cgroup (version 2) that can be written to.
pub(crate) fn cgroups() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(find_cgroups).as_deref()
}

/// In what the elevator was delegated, so that whoever delegated it is not surprised.
fn find_cgroups() -> Option<PathBuf> {
    let folder = delegated("self")?.join(FOLDER);
    std::fs::create_dir_all(&folder).ok()?;
    // A folder that is there says nothing about who may make another in it.
    let probe = folder.join(format!("probe-{}", std::process::id()));
    std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).ok()?;
    folder.join("cgroup.kill").exists().then_some(folder)
}

/// The cgroup (version 2) below which this process may make others, by its number or as `self`: its own or, where it was given a
/// leaf there, the one above (systemd: `Delegate=yes`, `DelegateSubgroup=elevator`).
pub(crate) fn delegated(process: &str) -> Option<PathBuf> {
    let mount = std::fs::read_to_string(format!("/proc/{process}/mounts")).ok()?;
    let mount = mount.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (folder, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(folder))
    })?;
    let cgroups = files::read_kernel(format!("/proc/{process}/cgroup")).ok()?;
    let own = Path::new(cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?);
    Some(mount.join(own.parent().filter(|_| own.ends_with(LEAF)).unwrap_or(own)))
}

/// What a process was delegated, as it sees it itself; nothing where it cannot be written to there.
pub(crate) fn writable_to(process: &str) -> Option<PathBuf> {
    let folder = delegated(process)?;
    let seen =
        Path::new("/proc").join(process).join("root").join(folder.strip_prefix("/").unwrap_or(&folder));
    access(&seen, Access::WRITE_OK).is_ok().then_some(seen)
}

/// Whether an elevator that runs as this process makes them. Only looks.
pub(crate) fn are_made_by(process: &str) -> bool {
    writable_to(process).is_some_and(|folder| folder.join(FOLDER).join("cgroup.kill").exists())
}

/// Removes the folders of the cgroups, if no launch is left in them.
pub(crate) fn forget_cgroups() {
    if let Some(folder) = cgroups() {
        // Launches may outlive the elevator: theirs stay.
        let _ = std::fs::remove_dir(folder);
        let _ = std::fs::remove_dir(folder.with_file_name(limits::FOLDER));
    }
}

/// The layers that end any process tree here.
pub(crate) fn layers() -> Layers {
    Layers { cgroup: cgroups().is_some(), subreaper: true, own_deadline: true, ..Layers::default() }
}

/// The layers that hold a launch with these rights: each is in force, or the launch fails before its program starts. Only a
/// limit may be absent.
pub(crate) fn layers_of(runs_as: RunsAs, bounds: &Bounds) -> Layers {
    let contained = bounds.is_contained();
    let kept = contained || runs_as == RunsAs::SameUser;
    let (process_limit, memory_limit) = limits::layers(bounds.limits);
    Layers {
        pid_namespace: contained,
        mount_namespace: contained,
        landlock: if contained { landlock::version() } else { None },
        system_calls: contained,
        no_new_privileges: kept,
        capabilities: kept.then_some(bounds.capabilities),
        one_process: bounds.children == Children::Denied,
        process_limit,
        memory_limit,
        ..layers()
    }
}

/// The layer that a contained launch would lack here, in words; none where it can be contained.
pub(crate) fn missing() -> Option<&'static str> {
    let apart = ["pid", "mnt"].iter().all(|kind| Path::new("/proc/self/ns").join(kind).exists());
    let may = credentials::out_of_reach(NEEDED);
    [
        (landlock::version().is_some(), "Landlock of version 6 or later (Linux 6.12)"),
        (filter::can_be_made(), "a filter of system calls for this kind of processor"),
        (apart, "PID and mount namespaces"),
        (matches!(may, Ok(None)), "the right to make namespaces: the elevator runs without CAP_SYS_ADMIN"),
    ]
    .into_iter()
    .find_map(|(there, layer)| (!there).then_some(layer))
}

/// Makes a cgroup for a launch to come.
pub(crate) fn make_cgroup() -> io::Result<Option<PathBuf>> {
    let Some(folder) = cgroups() else {
        return Ok(None);
    };
    let cgroup = folder.join(format!("{:016x}", chance::number()));
    // With its folder: another elevator in the same place takes that away when it ends and sees nothing in it.
    std::fs::create_dir_all(&cgroup)?;
    Ok(Some(cgroup))
}

/// Kills everything in a cgroup at once, also what is being forked.
pub(crate) fn kill_cgroup(cgroup: &Path) {
    // It may be gone already: then there is nothing to kill.
    let _ = std::fs::write(cgroup.join("cgroup.kill"), "1");
}

/// Whether anything is left in a cgroup.
pub(crate) fn is_populated(cgroup: &Path) -> bool {
    File::open(cgroup.join("cgroup.events")).and_then(|events| tells_of_members(&events)).unwrap_or(false)
}

fn tells_of_members(events: &File) -> io::Result<bool> {
    let mut text = [0; 256];
    let read = events.read_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(text.get(..read).unwrap_or_default()).contains("populated 1"))
}

/// Waits until nothing is left in a cgroup. The kernel tells whoever has read its events of each change since.
pub(crate) fn wait_until_empty(cgroup: &Path, patience: Span) -> io::Result<()> {
    let until = Uptime::now().after(patience);
    let events = File::open(cgroup.join("cgroup.events"))?;
    while tells_of_members(&events)? {
        if until.left() == Span::ZERO {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(until.left().std()).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled?),
        }
    }
    Ok(())
}

/// Whether a process has ended, or does so within this time.
pub(crate) fn ends_within(process: BorrowedFd<'_>, patience: Span) -> io::Result<bool> {
    let limit = Timespec::try_from(patience.std()).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&limit))? > 0)
}

/// Removes a cgroup in which nothing is left, with those that were made below it.
pub(crate) fn remove_cgroup(cgroup: &Path) {
    if std::fs::remove_dir(cgroup).is_err()
        && let Ok(below) = std::fs::read_dir(cgroup)
    {
        for entry in below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_cgroup(&entry.path());
        }
        let _ = std::fs::remove_dir(cgroup);
    }
}

/// Signals everything that descends from this process.
pub(crate) fn signal_descendants(of: Pid, signal: Signal) {
    for pid in descendants(of) {
        if let Some(pid) = Pid::from_raw(pid)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(process, signal);
        }
    }
}

/// Every process that descends from this one, nearest first.
pub(crate) fn descendants(of: Pid) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut next = vec![of.as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// Each process with its parent.
fn processes() -> impl Iterator<Item = (i32, i32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, parent_of(pid)?))
    })
}

/// A process's parent.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    match syscall::parent_of(process.as_fd()).ok()? {
        Some(parent) => i32::try_from(parent).ok(),
        None => stat(pid)?.get(1)?.parse().ok(),
    }
}

/// When a process started, in the kernel's ticks: with the number it names a process for good.
pub(crate) fn started(pid: i32) -> Option<u64> {
    stat(pid)?.get(19)?.parse().ok()
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything, also brackets and blanks: state, parent, …
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = files::read_kernel(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, getppid};

    use super::*;

    #[test]
    fn a_parent_is_the_same_whoever_tells_of_it() {
        let own = getpid().as_raw_nonzero().get();
        let told = getppid().map(|parent| parent.as_raw_nonzero().get());
        let on_file = stat(own).and_then(|fields| fields.get(1)?.parse().ok());
        assert_eq!([parent_of(own), on_file], [told; 2]);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let number = i32::try_from(child.id()).expect("a number");
        assert_eq!(parent_of(number), Some(own));
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(parent_of(number), None, "nobody has this number");
        assert_eq!(parent_of(1), Some(0), "nobody started the first");
    }
}
