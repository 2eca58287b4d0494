//! What a site left behind, looked for where it could be: users, processes, control groups, mounts, files.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// By what a site's leavings are recognised.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// Directories: processes that run from, work in or name them; mounts and control groups that name them.
    pub directories: Vec<PathBuf>,
    /// Numbers of users.
    pub uids: Vec<u32>,
    /// Ids of launches: control groups are named after them.
    pub launches: Vec<String>,
    /// The control group that the elevator was started in.
    pub cgroup: Option<PathBuf>,
}

/// A process that should be gone.
#[derive(Debug, Clone)]
pub struct Lingering {
    /// Its id.
    pub pid: Pid,
    /// What it is, and why it counts as the site's.
    pub what: String,
}

/// Processes of the site that still run. Zombies do not count: they run no more.
pub fn processes(marks: &Marks) -> Vec<Lingering> {
    let numbers = entries("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
    numbers.filter_map(|number| lingering(marks, number)).collect()
}

fn lingering(marks: &Marks, number: i32) -> Option<Lingering> {
    let pid = Pid::from_raw(number).filter(|_| u32::try_from(number) != Ok(std::process::id()))?;
    let file = |name: &str| PathBuf::from(format!("/proc/{number}/{name}"));
    let text =
        |name: &str| String::from_utf8_lossy(&fs::read(file(name)).unwrap_or_default()).replace('\0', " ");
    let status = text("status");
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    if status.is_empty() || field("State:").starts_with(['Z', 'X']) {
        return None;
    }
    let link = |name: &str| {
        fs::read_link(file(name)).map(|to| to.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let command = text("cmdline");
    let traces = [command.clone(), link("exe"), link("cwd"), text("cgroup")];
    let directory = marks
        .directories
        .iter()
        .map(|directory| directory.to_string_lossy())
        .find(|directory| traces.iter().any(|trace| trace.contains(directory.as_ref())));
    let cgroup = marks.cgroup.iter().filter_map(|cgroup| cgroup.file_name()?.to_str());
    let launches = marks.launches.iter().map(String::as_str);
    let group = launches.chain(cgroup).find(|name| traces[3].contains(name));
    let user = field("Uid:")
        .split_whitespace()
        .find_map(|uid| marks.uids.iter().find(|own| own.to_string() == uid).copied());
    let because = match (directory, group, user) {
        (Some(directory), _, _) => format!("names {directory}"),
        (_, Some(group), _) => format!("is in a control group of {group}"),
        (_, _, Some(uid)) => format!("has uid {uid}"),
        _ => return None,
    };
    Some(Lingering { pid, what: format!("process {number} ({}; {because})", command.trim()) })
}

/// Ends processes that should be gone, so that the next test starts clean.
pub fn end(lingering: &[Lingering]) {
    for process in lingering {
        let _ = kill_process(process.pid, Signal::KILL);
    }
}

/// Mounts that name one of the directories.
pub fn mounts(marks: &Marks) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let own =
        |point: &&str| marks.directories.iter().any(|directory| Path::new(point).starts_with(directory));
    points.filter(own).map(|point| format!("mount {point}")).collect()
}

/// Control groups named after one of the launches.
pub fn cgroups(marks: &Marks) -> Vec<String> {
    let roots = cgroup_roots();
    let mut found = Vec::new();
    for root in roots {
        named_after(&root, marks, &mut found);
    }
    found
}

fn named_after(directory: &Path, marks: &Marks, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if marks.launches.iter().any(|launch| name.contains(launch.as_str())) {
            found.push(format!("control group {}", entry.path().display()));
        }
        named_after(&entry.path(), marks, found);
    }
}

/// Removes a control group with what is below it, if no process is left in it.
pub fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn cgroup_root() -> Option<PathBuf> {
    mounted("cgroup2").into_iter().next()
}

fn cgroup_roots() -> Vec<PathBuf> {
    mounted("cgroup2").into_iter().chain(mounted("cgroup")).collect()
}

fn mounted(kind: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_kind = table
        .lines()
        .filter(|line| line.split(" - ").nth(1).is_some_and(|rest| rest.split(' ').next() == Some(kind)));
    of_kind.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
