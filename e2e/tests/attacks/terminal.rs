//! From one terminal into another.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{Deadline, SOON, until};
use elevon_e2e::process::{children, gone, lives};
use elevon_e2e::program::run;
use elevon_e2e::terminal::Terminal;
use elevon_wire::conversation::{FromClient, WindowSize};
use elevon_wire::frame::Frame;
use rustix::process::Signal;

use crate::ground::{Ground, asked, message, span};

crate::cases! {
    Shared keys_pushed_outwards_stay_inside,
    Shared keys_pushed_inwards_are_kept_out,
    Shared an_inner_terminal_is_never_open_to_others,
    Shared nothing_elevated_holds_the_users_terminal,
    Shared a_killed_client_leaves_no_terminal_behind,
    Shared output_without_end_after_the_program_ended,
    Shared windows_of_any_size,
    Shared another_process_of_the_user_cannot_steer_a_client,
}

/// A client in a terminal of alice's, with this command.
fn terminal(ground: &Ground, command: &[&str]) -> Result<Terminal> {
    let mut elevon = ground.site.in_terminal(&ground.site.alice, &ground.site.client())?;
    elevon.args(["run", "--"]).args(command);
    Terminal::open(&mut elevon)
}

const TIOCSTI: &str = "0x5412";

/// What a root program pushes into its terminal must not be read by the shell outside.
fn keys_pushed_outwards_stay_inside(ground: &mut Ground) -> Result<String> {
    let mut bash = ground.site.in_terminal(&ground.site.alice, Path::new("/bin/bash"))?;
    bash.args(["--norc", "-i"]).env("PS1", "> ");
    let mut shell = Terminal::open(&mut bash)?;
    shell.expect("> ")?;
    let push = format!(
        "elevon run -- perl -e 'for (split //, qq(touch pushed\\n)) {{ ioctl(STDIN, {TIOCSTI}, $_) or print qq(no\\n); }}'\n"
    );
    shell.send(&push)?;
    shell.expect("> ")?;
    shell.send("echo still $((20+1))\n")?;
    shell.expect("still 21")?;
    let pushed = ground.home("pushed").exists();
    shell.send("exit\n")?;
    shell.exit(SOON)?;
    ensure!(!pushed, "the shell outside took what root's program typed");
    ground.recorded(&[("launch.started", "")])?;
    Ok("the shell outside read nothing".into())
}

fn keys_pushed_inwards_are_kept_out(ground: &mut Ground) -> Result<String> {
    let mut inside = terminal(ground, &["sh", "-c", "tty; read -r line; echo \"got $line\""])?;
    let shown = inside.expect("\n")?;
    let pty =
        shown.lines().map(str::trim).find(|line| line.starts_with("/dev/pts/")).context("a pty")?.to_owned();
    let script = format!(
        "cat {pty} & sleep 0.1; kill $! 2>/dev/null; echo evil >{pty}; \
         perl -e 'open(T, q(<), q({pty})) or print qq(kept out: $!\\n); ioctl(T, {TIOCSTI}, q(x)) or print qq(kept out\\n);'"
    );
    let said = ground.shell(&script, b"")?;
    ensure!(said.text().matches("ermission denied").count() >= 3, "{}", said.text());
    inside.send("hers\n")?;
    inside.expect("got hers")?;
    inside.exit(SOON)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("{pty} is closed to alice"))
}

/// Looks at every pseudo-terminal as often as it can while terminals come and go.
fn an_inner_terminal_is_never_open_to_others(ground: &mut Ground) -> Result<String> {
    let (over, open) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let mut launches = 0;
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/dev/pts").into_iter().flatten().flatten() {
                    let Ok(facts) = entry.metadata() else { continue };
                    let (uid, mode) = (facts.uid(), facts.mode() & 0o777);
                    if uid == 0 && mode & 0o046 != 0 && entry.file_name() != "ptmx" {
                        open.lock().unwrap().insert((entry.file_name(), mode));
                    }
                }
            }
        });
        let deadline = Deadline::within(span());
        let done = (|| {
            while deadline.left().is_some() {
                let mut inside = terminal(ground, &["tty"])?;
                inside.expect("/dev/pts/")?;
                inside.exit(SOON)?;
                launches += 1;
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        done
    })?;
    let readable: Vec<_> =
        open.lock().unwrap().iter().filter(|(_, mode)| mode & 0o044 != 0).cloned().collect();
    ensure!(readable.is_empty(), "others could read {readable:?}");
    let writable: Vec<_> =
        open.lock().unwrap().iter().filter(|(_, mode)| mode & 0o002 != 0).cloned().collect();
    ensure!(writable.is_empty(), "anybody could write to {writable:?}");
    Ok(format!("{launches} launches, looked at all along"))
}

fn nothing_elevated_holds_the_users_terminal(ground: &mut Ground) -> Result<String> {
    let script = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = elevon-session ] && ls -l $p/fd; done; \
                  for n in $PPID $$; do ls -l /proc/$n/fd; done; echo inner $(tty); read -r x";
    let mut inside = terminal(ground, &["bash", "-c", script])?;
    let shown = inside.expect("inner /dev/pts/")?;
    let outer = fs::read_link(format!("/proc/{}/fd/0", inside.pid().as_raw_nonzero()))?;
    let name = format!("{}\r", outer.display());
    ensure!(!shown.contains(&name), "the elevated side holds {}:\n{shown}", outer.display());
    let (_, session) = ground.running()?;
    for pid in [vec![session], children(session)].concat() {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let to = fs::read_link(entry.path()).unwrap_or_default();
            ensure!(to != outer, "{pid} holds the user's terminal as {:?}", entry.file_name());
        }
    }
    inside.send("\n")?;
    inside.exit(SOON)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("session, monitor and program hold an own one".into())
}

fn a_killed_client_leaves_no_terminal_behind(ground: &mut Ground) -> Result<String> {
    let inside = terminal(ground, &["sleep", "60"])?;
    let (_, session) = ground.running()?;
    let outer = fs::read_link(format!("/proc/{}/fd/0", inside.pid().as_raw_nonzero()))?;
    inside.signal(Signal::KILL)?;
    drop(inside);
    gone(session, SOON)?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "hung_up")])?;
    Ok(format!("hung up, {} is nobody's", outer.display()))
}

/// The program ends at once; what it left in the background writes as fast as it can.
fn output_without_end_after_the_program_ended(ground: &mut Ground) -> Result<String> {
    let mut inside =
        terminal(ground, &["bash", "-c", "trap '' HUP; yes evil & yes evil & yes evil & sleep 1; exit 3"])?;
    let (_, session) = ground.running()?;
    let size = || {
        let status = fs::read_to_string(format!("/proc/{session}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut largest = 0;
    // Reading on, as a person's terminal does.
    let ended = until("the end of the session", Duration::from_secs(8), || {
        largest = largest.max(size());
        let read = inside.exit(Duration::from_millis(5)).is_ok();
        Ok((read && !lives(session)).then_some(()))
    });
    if ended.is_err() {
        let _ = Command::new("kill").args(["-9", &session.to_string()]).status();
    }
    ended.with_context(|| format!("it grew to {largest} KiB"))?;
    ensure!(largest < 64 << 10, "the session grew to {largest} KiB");
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("it ended, the session took {largest} KiB at most"))
}

fn windows_of_any_size(ground: &mut Ground) -> Result<String> {
    let sizes = [(0, 0), (0, u16::MAX), (u16::MAX, u16::MAX), (1, 1)];
    for (rows, columns) in sizes {
        let mut bytes = Vec::new();
        let window = WindowSize { rows, columns };
        let mut run = asked(ground.path("free/good"), &[]);
        run.window = Some(window);
        for _ in 0..500 {
            bytes.extend(message(&FromClient::Resize(window)));
        }
        bytes.extend(Frame::data(b"\x03\x1a\x04\x11\x13").encode());
        let mut command = ground.site.in_terminal(&ground.site.alice, &ground.attacker)?;
        let (file, more) = (ground.site.tree.join("message"), ground.site.tree.join("more"));
        fs::write(&file, message(&FromClient::Run(Box::new(run))))?;
        fs::write(&more, &bytes)?;
        command.args(["say", "--fds", "cwd,err,err,err", "--more", &more.to_string_lossy()]);
        let mut inside = Terminal::open_with(&mut command, Some(fs::File::open(&file)?.into()), None)?;
        inside.expect("message")?;
        inside.expect("closed")?;
        inside.exit(SOON)?;
    }
    ground.recorded(&[("launch.started", ""); 4])?;
    Ok(format!("{} sizes, 500 changes each", sizes.len()))
}

/// Malware under the same uid must not be able to type into a root terminal that is open already.
fn another_process_of_the_user_cannot_steer_a_client(ground: &mut Ground) -> Result<String> {
    let mut inside = terminal(ground, &["sh"])?;
    let (_, session) = ground.running()?;
    let client = inside.pid().as_raw_nonzero().get();
    let mut thief = ground.site.as_user(&ground.site.alice, &ground.attacker)?;
    let ran = run(thief.args(["steal", &client.to_string()]), b"")?;
    let traced = run(&mut ground.shell_command(&format!("timeout 1 strace -o /dev/null -p {client}"))?, b"")?;
    ensure!(lives(session), "the session ended");
    ensure!(
        ran.text().contains("kept out"),
        "a process of the same user took the client's socket: {}",
        ran.text()
    );
    ensure!(!traced.err.contains("attached"), "a process of the same user traces the client: {}", traced.err);
    inside.send("exit\n")?;
    inside.exit(SOON)?;
    ensure!(!Path::new("evil-was-here").exists());
    ground.recorded(&[("launch.started", "")])?;
    Ok("its socket cannot be taken, and it cannot be traced".into())
}
