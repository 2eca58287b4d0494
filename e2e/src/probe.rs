//! What a program can see of how it was started.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use elevon_policy::text::OsText;
use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{isatty, ttyname};
use serde_json::{Value, json};

/// A program's name, its uid and its capabilities, in one line.
pub fn rights(name: &str) -> String {
    let status = status();
    let field = |name: &str| status.get(name).cloned().unwrap_or_default();
    format!("{name} uid={} euid={} capabilities={}", getuid(), geteuid(), field("CapEff"))
}

/// Everything, as one JSON object.
pub fn surroundings() -> Value {
    let status = status();
    let job = job();
    let taken = [
        "Umask",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ]
    .into_iter()
    .chain(["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "Groups", "Threads"])
    .map(|name| (name, status.get(name).cloned().unwrap_or_default()));
    json!({
        "argv": std::env::args_os().map(|argument| escaped(argument.as_bytes())).collect::<Vec<_>>(),
        "environment": std::env::vars_os()
            .map(|(name, value)| (escaped(name.as_bytes()), escaped(value.as_bytes())))
            .collect::<BTreeMap<_, _>>(),
        "working_directory": link("/proc/self/cwd"),
        "executable": link("/proc/self/exe"),
        "uid": [getuid().as_raw(), geteuid().as_raw()],
        "gid": [getgid().as_raw(), getegid().as_raw()],
        "groups": getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect::<Vec<_>>(),
        "pid": std::process::id(),
        "parent": job.parent,
        "session": job.session,
        "process_group": job.group,
        "terminal": terminal(&job),
        "descriptors": descriptors(),
        "status": taken.collect::<BTreeMap<_, _>>(),
        "limits": limits(),
        "out_of_memory_score": read("/proc/self/oom_score_adj"),
        "login_uid": read("/proc/self/loginuid"),
        "personality": read("/proc/self/personality"),
        "cgroup": read("/proc/self/cgroup").lines().map(str::to_owned).collect::<Vec<_>>(),
        "namespaces": namespaces(),
    })
}

/// Where a process stands among others. 0 is what is not there, or outside of this PID namespace.
struct Job {
    parent: i32,
    group: i32,
    session: i32,
    /// The process group in front of the controlling terminal; -1 without one.
    in_front: i32,
}

/// From the kernel's own line (proc_pid_stat(5)): the library's calls take 0 for impossible.
fn job() -> Job {
    let line = read("/proc/self/stat");
    let mut fields = line
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1)
        .map(|field| field.parse().unwrap_or(0));
    let mut next = || fields.next().unwrap_or(0);
    let (parent, group, session, _terminal) = (next(), next(), next(), next());
    Job { parent, group, session, in_front: next() }
}

fn terminal(job: &Job) -> Value {
    let standard = [stdin(), stdout(), stderr()];
    let Some(tty) = standard.iter().find(|fd| isatty(fd)) else { return Value::Null };
    json!({
        "name": ttyname(tty.as_fd(), Vec::new()).map(|name| escaped(name.as_bytes())).unwrap_or_default(),
        "standard": standard.iter().map(isatty).collect::<Vec<_>>(),
        "foreground": job.in_front,
        "size": rustix::termios::tcgetwinsize(tty).map(|size| [size.ws_row, size.ws_col]).ok(),
    })
}

/// Open descriptors and what they lead to; the one that lists them is left out.
fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let named = entries.map(|entry| {
        (entry.file_name().to_string_lossy().into_owned(), link(&entry.path().to_string_lossy()))
    });
    let own = format!("/proc/{}/fd", std::process::id());
    named.filter(|(_, to)| *to != own).collect()
}

fn namespaces() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    entries
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), link(&entry.path().to_string_lossy()))
        })
        .collect()
}

fn limits() -> BTreeMap<String, String> {
    let text = read("/proc/self/limits");
    let lines = text.lines().skip(1).filter_map(|line| line.split_at_checked(25));
    lines
        .map(|(name, rest)| {
            (name.trim().into(), rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        })
        .collect()
}

fn status() -> BTreeMap<String, String> {
    let text = read("/proc/self/status");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.into(), value.trim().into()))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn link(path: &str) -> String {
    fs::read_link(path).map(|to| escaped(to.as_os_str().as_bytes())).unwrap_or_default()
}

fn escaped(bytes: &[u8]) -> String {
    OsText::new(bytes).escaped()
}
