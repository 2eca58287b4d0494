//! How much a launch may take: cgroups with controllers for processes and memory, of version 2 where it has them, else of
//! version 1 beside the launch's own. Only launches with limits have such cgroups: controllers make every cgroup dearer.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use elevon_policy::bounds::Limits;
use elevon_policy::event::LimitLayer;

use super::containment;
use crate::chance;

/// The folder of limited launches' cgroups, in the elevator's own.
pub(crate) const FOLDER: &str = "elevon-limited";

/// Where this computer has its controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Controller {
    /// In a hierarchy of version 2; each launch's only cgroup is then below this folder.
    Unified(PathBuf),
    /// In a hierarchy of its own, below this folder.
    Own(PathBuf),
}

/// The cgroups of a launch that has limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limited {
    /// In place of the launch's usual one.
    pub(crate) cgroup: Option<PathBuf>,
    /// Beside it.
    pub(crate) beside: Vec<PathBuf>,
}

/// What comes of these limits here: of processes, of memory.
pub(crate) fn layers(limits: Limits) -> (Option<LimitLayer>, Option<LimitLayer>) {
    let layer = |wanted: bool, kind| {
        let there = || controller(kind).map_or(LimitLayer::Absent, |_| LimitLayer::InForce);
        wanted.then(there)
    };
    (layer(limits.processes.is_some(), "pids"), layer(limits.memory.is_some(), "memory"))
}

/// Whether this computer has the controller for processes, and for memory.
pub(crate) fn controllers() -> (bool, bool) {
    (controller("pids").is_some(), controller("memory").is_some())
}

/// Makes the cgroups that keep a launch to these limits, as far as there are controllers.
pub(crate) fn make(limits: Limits) -> io::Result<Limited> {
    let mut made = Limited::default();
    let kept = keep(limits, &mut made);
    if kept.is_err() {
        forget(made.cgroup.iter().chain(&made.beside));
    }
    kept.map(|()| made)
}

fn keep(limits: Limits, made: &mut Limited) -> io::Result<()> {
    let name = format!("{:016x}", chance::number());
    if let (Some(most), Some(controller)) = (limits.processes, controller("pids")) {
        let cgroup = made.cgroup_of(controller, &name)?;
        set(&cgroup.join("pids.max"), most)?;
    }
    if let (Some(most), Some(controller)) = (limits.memory, controller("memory")) {
        let cgroup = made.cgroup_of(controller, &name)?;
        match controller {
            Controller::Unified(_) => {
                set(&cgroup.join("memory.max"), most)?;
                // Where memory may not be swapped out there is no such file, and nothing to limit.
                let _ = set(&cgroup.join("memory.swap.max"), 0);
            }
            Controller::Own(_) => {
                set(&cgroup.join("memory.limit_in_bytes"), most)?;
                let _ = set(&cgroup.join("memory.memsw.limit_in_bytes"), most);
            }
        }
    }
    Ok(())
}

impl Limited {
    fn cgroup_of(&mut self, controller: &Controller, name: &str) -> io::Result<PathBuf> {
        let (Controller::Unified(folder) | Controller::Own(folder)) = controller;
        let cgroup = folder.join(name);
        std::fs::create_dir_all(&cgroup)?;
        match controller {
            Controller::Unified(_) => self.cgroup = Some(cgroup.clone()),
            Controller::Own(_) => self.beside.push(cgroup.clone()),
        }
        Ok(cgroup)
    }
}

/// Puts a process into a cgroup.
pub(crate) fn enter(cgroup: &Path, process: i32) -> io::Result<()> {
    set(&cgroup.join("cgroup.procs"), process)
}

/// Removes what is left of them.
pub(crate) fn forget<'a>(cgroups: impl IntoIterator<Item = &'a PathBuf>) {
    for cgroup in cgroups {
        containment::remove_cgroup(cgroup);
        // Others may be limited, too: then it stays.
        let _ = cgroup.parent().map(std::fs::remove_dir);
    }
}

fn set(file: &Path, value: impl Display) -> io::Result<()> {
    std::fs::write(file, value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("could not write {}: {error}", file.display())))
}

fn controller(kind: &'static str) -> Option<&'static Controller> {
    static PROCESSES: OnceLock<Option<Controller>> = OnceLock::new();
    static MEMORY: OnceLock<Option<Controller>> = OnceLock::new();
    let known = if kind == "pids" { &PROCESSES } else { &MEMORY };
    known.get_or_init(|| unified(kind).or_else(|| own(kind))).as_ref()
}

/// In the hierarchy of version 2, where the elevator's own cgroup passes the controller on.
fn unified(kind: &str) -> Option<Controller> {
    let above = containment::cgroups()?.parent()?;
    let folder = above.join(FOLDER);
    let pass_on = |at: &Path| std::fs::write(at.join("cgroup.subtree_control"), format!("+{kind}"));
    pass_on(above).ok()?;
    std::fs::create_dir_all(&folder).ok()?;
    pass_on(&folder).ok()?;
    let file = if kind == "pids" { "pids.max" } else { "memory.max" };
    usable(folder, file).map(Controller::Unified)
}

/// In a hierarchy of version 1 that is about nothing else, or about this among others.
fn own(kind: &str) -> Option<Controller> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, folder, "cgroup", options, ..] = fields.as_slice() else { return None };
        options.split(',').any(|option| option == kind).then(|| PathBuf::from(folder))
    })?;
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let place = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, place) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == kind).then_some(place)
    })?;
    let inner = mount.join(place.trim_start_matches('/'));
    // In a container the path may be that of the host, and the mount begins at the container's own.
    let above = if inner.is_dir() { inner } else { mount };
    let file = if kind == "pids" { "pids.max" } else { "memory.limit_in_bytes" };
    usable(above.join(FOLDER), file).map(Controller::Own)
}

/// A folder in which cgroups that have this file can be made.
fn usable(folder: PathBuf, file: &str) -> Option<PathBuf> {
    let probe = folder.join(format!("probe-{}", std::process::id()));
    std::fs::create_dir_all(&probe).ok()?;
    let there = probe.join(file).exists();
    let _ = std::fs::remove_dir(&probe);
    let _ = std::fs::remove_dir(&folder);
    there.then_some(folder)
}
