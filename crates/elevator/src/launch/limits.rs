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

/// The folder of limited launches' cgroups, in what the elevator was delegated.
pub(crate) const FOLDER: &str = "elevon-limited";

/// Where a cgroup of version 2 says which controllers it passes on.
const PASSED_ON: &str = "cgroup.subtree_control";

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

/// Has the cgroups below this folder have the controller, however often it was made anew.
fn pass_on(folder: &Path, kind: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    set(&folder.join(PASSED_ON), format!("+{kind}"))
}

/// Whether an elevator that runs as this process can limit processes, and memory. Only looks.
pub(crate) fn controllers(process: &str) -> (bool, bool) {
    let there = |kind| {
        containment::writable_to(process).is_some_and(|above| may_pass_on(&above, kind))
            || own_folder(kind, process).is_some()
    };
    (there("pids"), there("memory"))
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
        let cgroup = made.cgroup_of(controller, "pids", &name)?;
        set(&cgroup.join("pids.max"), most)?;
    }
    if let (Some(most), Some(controller)) = (limits.memory, controller("memory")) {
        let cgroup = made.cgroup_of(controller, "memory", &name)?;
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
    fn cgroup_of(&mut self, controller: &Controller, kind: &str, name: &str) -> io::Result<PathBuf> {
        let (Controller::Unified(folder) | Controller::Own(folder)) = controller;
        if let Controller::Unified(folder) = controller {
            pass_on(folder, kind)?;
        }
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
        // Others may be limited, too: then it stays. One that passes controllers on stays anyway: made anew, it would not.
        let _ = cgroup.parent().filter(|folder| !passes_on(folder)).map(std::fs::remove_dir);
    }
}

fn passes_on(folder: &Path) -> bool {
    folder.join(PASSED_ON).exists()
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

/// In the hierarchy of version 2, where what the elevator was delegated passes the controller on.
fn unified(kind: &str) -> Option<Controller> {
    let above = containment::cgroups()?.parent()?;
    if !may_pass_on(above, kind) {
        return None;
    }
    let folder = above.join(FOLDER);
    pass_on(above, kind).and_then(|()| pass_on(&folder, kind)).ok()?;
    let file = if kind == "pids" { "pids.max" } else { "memory.max" };
    usable(folder, file).map(Controller::Unified)
}

/// Whether a cgroup has this controller, and no processes of its own beside those below it: with them it would be refused, or
/// what is below could take no processes any more. The uppermost may have both.
fn may_pass_on(above: &Path, kind: &str) -> bool {
    let read = |file| std::fs::read_to_string(above.join(file)).unwrap_or_default();
    let is_uppermost = !above.join("cgroup.type").exists();
    read("cgroup.controllers").split_whitespace().any(|controller| controller == kind)
        && (is_uppermost || read("cgroup.procs").is_empty())
}

/// In a hierarchy of version 1.
fn own(kind: &str) -> Option<Controller> {
    let file = if kind == "pids" { "pids.max" } else { "memory.limit_in_bytes" };
    usable(own_folder(kind, "self")?, file).map(Controller::Own)
}

/// In a hierarchy of version 1 that is about nothing else, or about this among others: below the place of this process.
fn own_folder(kind: &str, process: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, folder, "cgroup", options, ..] = fields.as_slice() else { return None };
        options.split(',').any(|option| option == kind).then(|| PathBuf::from(folder))
    })?;
    let cgroups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let place = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, place) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == kind).then_some(place)
    })?;
    let inner = mount.join(place.trim_start_matches('/'));
    // In a container the path may be that of the host, and the mount begins at the container's own.
    let above = if inner.is_dir() { inner } else { mount };
    Some(above.join(FOLDER))
}

/// A folder in which cgroups that have this file can be made.
fn usable(folder: PathBuf, file: &str) -> Option<PathBuf> {
    let probe = folder.join(format!("probe-{}", std::process::id()));
    std::fs::create_dir_all(&probe).ok()?;
    let there = probe.join(file).exists();
    forget([&probe]);
    there.then_some(folder)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// With a controller that version 2 has on whatever computer tests run; what it limits does not matter here.
    #[test]
    #[ignore = "needs root and cgroup v2; cargo xtask test runs it"]
    fn a_controller_is_passed_on_only_where_no_processes_are_beside() {
        let root = containment::delegated("1").expect("cgroup v2 is mounted");
        let root = root.ancestors().filter(|folder| folder.join("cgroup.controllers").exists()).last();
        let root = root.expect("there is an uppermost").to_owned();
        let all = std::fs::read_to_string(root.join("cgroup.controllers")).expect("it can be read");
        let kind = all.split_whitespace().next().expect("some controller is left to version 2");
        assert!(may_pass_on(&root, kind) && !may_pass_on(&root, "none"));
        std::fs::write(root.join("cgroup.subtree_control"), format!("+{kind}")).expect("it passes it on");
        let unit = root.join(format!("elevon-test-{}.service", std::process::id()));
        let leaf = unit.join("elevator");
        std::fs::create_dir_all(&leaf).expect("cgroups can be made");
        let mut daemon = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let number = daemon.id().to_string();
        let process = i32::try_from(daemon.id()).expect("a number of a process");

        enter(&unit, process).expect("it can be moved");
        let beside = (containment::delegated(&number), may_pass_on(&unit, kind));
        enter(&leaf, process).expect("it can be moved");
        let in_leaf = (containment::delegated(&number), may_pass_on(&unit, kind));
        let passed_on = pass_on(&unit, kind);
        // One launch after the other, the folder of which may be gone in between.
        let folder = unit.join(FOLDER);
        let controls = |name: &str| {
            let controller = Controller::Unified(folder.clone());
            let cgroup = Limited::default().cgroup_of(&controller, kind, name).expect("it can be made");
            let there = std::fs::read_to_string(cgroup.join("cgroup.controllers")).expect("it can be read");
            forget([&cgroup]);
            there.contains(kind)
        };
        let one_by_one = [controls("one"), controls("another"), {
            std::fs::remove_dir(&folder).expect("it can be removed");
            controls("a third")
        }];

        daemon.kill().and_then(|()| daemon.wait()).expect("it ends");
        containment::wait_until_empty(&unit, elevon_policy::time::Span::from_secs(10)).expect("it is empty");
        containment::remove_cgroup(&unit);
        assert_eq!(beside, (Some(unit.clone()), false));
        assert_eq!(in_leaf, (Some(unit.clone()), true));
        passed_on.expect("it passes it on");
        assert_eq!(one_by_one, [true; 3]);
        assert!(!unit.exists());
    }
}
