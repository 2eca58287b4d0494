//! Becomes a user of the operating system and executes a command, as a log-in does: own session, own terminal where there
//! is one, the user's groups, uid and gid, nothing left of root.
//!
//! ```text
//! as-user UID GID[,GID…] [--terminal] [--cgroup DIRECTORY] -- COMMAND [ARGUMENT]...
//! ```

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::process::{Gid, Uid, ioctl_tiocsctty, setsid};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

fn main() -> ExitCode {
    let error = become_and_execute()
        .err()
        .map_or_else(|| "executed, and came back".into(), |error| format!("{error:#}"));
    eprintln!("as-user: {error}");
    ExitCode::from(125)
}

fn become_and_execute() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut word = || arguments.next().and_then(|word| word.into_string().ok());
    let uid: u32 = word().and_then(|uid| uid.parse().ok()).context("expected a uid")?;
    let gids = word().context("expected gids, separated by commas")?;
    let gids = gids.split(',').map(|gid| Ok(Gid::from_raw(gid.parse()?))).collect::<Result<Vec<_>>>()?;
    let gid = *gids.first().context("expected at least one gid")?;
    let mut terminal = false;
    loop {
        match word().as_deref() {
            Some("--terminal") => terminal = true,
            Some("--cgroup") => join(&word().context("expected a directory behind --cgroup")?)?,
            Some("--") => break,
            other => bail!("expected --terminal, --cgroup or --, not {other:?}"),
        }
    }
    if terminal {
        setsid().context("make a session")?;
        let tty = [stdin(), stdout(), stderr()].into_iter().find(|fd: &BorrowedFd<'_>| isatty(fd));
        ioctl_tiocsctty(tty.context("none of the standard descriptors is a terminal")?)?;
    }
    // This program has one thread, so what the calls do to a thread they do to all of it.
    let uid = Uid::from_raw(uid);
    set_thread_groups(&gids)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let rest: Vec<OsString> = arguments.collect();
    let (command, rest) = rest.split_first().context("expected a command")?;
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP,INT,QUIT,TERM,TSTP,TTIN,TTOU").arg(command).args(rest);
    Err(env.exec()).with_context(|| format!("execute {}", command.display()))
}

fn join(cgroup: &str) -> Result<()> {
    let procs = format!("{cgroup}/cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| format!("join {procs}"))
}
