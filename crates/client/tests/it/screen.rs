//! A terminal with a person before it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::peer::PATIENCE;

pub(crate) const ELEVON: &str = env!("CARGO_BIN_EXE_elevon");

/// The master's side of a terminal.
pub(crate) struct Screen {
    master: File,
    slave: OwnedFd,
    seen: Vec<u8>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let path = Path::new(OsStr::from_bytes(name.to_bytes())).to_owned();
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32)
            .open(path)
            .expect("the other side");
        let screen = Self { master: master.into(), slave: slave.into(), seen: Vec::new() };
        screen.resize(24, 80);
        screen
    }

    /// Standard input, output or error of a child.
    pub(crate) fn stdio(&self) -> Stdio {
        self.slave.try_clone().expect("one more descriptor").into()
    }

    /// Starts a program whose controlling terminal this is; its standard descriptors are the terminal's.
    pub(crate) fn start(&self, program: &[&str]) -> Child {
        self.start_with(program, |command| {
            command.stdin(self.stdio()).stdout(self.stdio()).stderr(self.stdio());
        })
    }

    /// Likewise, with other descriptors; standard input must be the terminal's.
    pub(crate) fn start_with(&self, program: &[&str], adjust: impl FnOnce(&mut Command)) -> Child {
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(program).env("TERM", "xterm").env_remove("NO_COLOR");
        adjust(&mut command);
        command.spawn().expect("setsid of util-linux starts")
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("resized");
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typed");
    }

    pub(crate) fn modes(&self) -> Termios {
        tcgetattr(&self.slave).expect("modes")
    }

    pub(crate) fn is_raw(&self) -> bool {
        !self.modes().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub(crate) fn translates_line_ends(&self) -> bool {
        self.modes().output_modes.contains(OutputModes::OPOST)
    }

    /// Reads until this was seen; gives all that came up to it, and forgets it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = find(&self.seen, text.as_bytes()) {
                let before: Vec<u8> = self.seen.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&before).into_owned();
            }
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            assert!(self.read_some(), "expected “{text}” on the screen, saw “{seen}”");
        }
    }

    /// Reads this many bytes.
    pub(crate) fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.seen.len() < length {
            assert!(self.read_some(), "expected {length} bytes, got {}", self.seen.len());
        }
        self.seen.drain(..length).collect()
    }

    /// Reads what comes next; `false` when nothing does.
    fn read_some(&mut self) -> bool {
        if poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience())).expect("polled") == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        let length = self.master.read(&mut bytes).expect("read");
        self.seen.extend_from_slice(&bytes[..length]);
        true
    }

    /// Closes this side of the terminal, as when its window is closed.
    pub(crate) fn hang_up(self) {}
}

impl AsFd for Screen {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.master.as_fd()
    }
}

fn patience() -> Timespec {
    Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Waits for the end of a child, and kills it when it does not come.
pub(crate) fn end_of(mut child: Child) -> ExitStatus {
    let pid = rustix::process::Pid::from_child(&child);
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a handle");
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience())).expect("polled");
    if ended == 0 {
        child.kill().expect("killed");
    }
    let status = child.wait().expect("waited for");
    assert!(ended > 0, "the client did not end by itself");
    status
}
