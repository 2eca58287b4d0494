//! A terminal as a person has one: a pty whose other end this side types into and reads.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, LocalModes, OutputModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::clock::{Deadline, SOON, until};

/// A terminal and the program that was started in it.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    ended: Option<ExitStatus>,
    seen: Vec<u8>,
    looked: usize,
}

/// What a shell or a full-screen program sets on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    local: LocalModes,
    input: InputModes,
    output: OutputModes,
}

impl Modes {
    /// Whether it is as a shell's user expects it: lines, echo, ^C.
    pub fn are_sane(self) -> bool {
        self.local.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

impl Terminal {
    /// Starts a program with all three standard descriptors in a terminal of 24 lines of 80. The program must make it
    /// its controlling terminal: `as-user --terminal` does.
    pub fn open(command: &mut Command) -> Result<Self> {
        Self::open_with(command, None, None)
    }

    /// The same with standard input or output somewhere else.
    pub fn open_with(command: &mut Command, input: Option<Stdio>, output: Option<Stdio>) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("open a pty")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let inner = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&master, window(24, 80))?;
        let side = || -> Result<Stdio> { Ok(Stdio::from(inner.try_clone()?)) };
        let child = command
            .stdin(input.map_or_else(side, Ok)?)
            .stdout(output.map_or_else(side, Ok)?)
            .stderr(side()?)
            .spawn()
            .with_context(|| format!("start {command:?} in a terminal"))?;
        // What the command holds of the inner end would keep the terminal open after its end.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { master, child, ended: None, seen: Vec::new(), looked: 0 })
    }

    /// The process id of the program.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The pipe to its standard input, where it was started with one; can be taken once.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The pipe from its standard output, where it was started with one; can be taken once.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Types.
    pub fn send(&self, keys: &str) -> Result<()> {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written = write(&self.master, rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Waits until the text appears behind what was waited for last; gives all that came up to its end.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.expect_within(text, SOON)
    }

    /// [`Terminal::expect`] with an own limit.
    pub fn expect_within(&mut self, text: &str, span: Duration) -> Result<String> {
        let deadline = Deadline::within(span);
        loop {
            let fresh = &self.seen[self.looked..];
            if let Some(at) = position(fresh, text.as_bytes()) {
                let end = at + text.len();
                let found = String::from_utf8_lossy(&fresh[..end]).into_owned();
                self.looked += end;
                return Ok(found);
            }
            let Some(left) = deadline.left() else {
                bail!("waited {span:?} for “{text}” in the terminal, which shows\n{}", self.transcript());
            };
            if !self.read(left)? {
                bail!(
                    "the terminal was closed before “{text}” appeared in it; it shows\n{}",
                    self.transcript()
                );
            }
        }
    }

    /// Gives the terminal another size; the kernel tells the program in the foreground.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tcsetwinsize(&self.master, window(rows, columns))?)
    }

    /// Its size: lines and columns.
    pub fn size(&self) -> Result<(u16, u16)> {
        let size = tcgetwinsize(&self.master)?;
        Ok((size.ws_row, size.ws_col))
    }

    /// What is set on it now.
    pub fn modes(&self) -> Result<Modes> {
        let set = tcgetattr(&self.master)?;
        Ok(Modes { local: set.local_modes, input: set.input_modes, output: set.output_modes })
    }

    /// Sends a signal to the program itself, not through the terminal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Waits for the program's end, reading on; the status as a shell shows it.
    pub fn exit(&mut self, span: Duration) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = until("the end of the program in the terminal", span, || {
            self.read(Duration::from_millis(1))?;
            if self.ended.is_none() {
                self.ended = self.child.try_wait()?;
            }
            Ok(self.ended)
        });
        let status = status.with_context(|| format!("the terminal shows\n{}", self.transcript()))?;
        while self.read(Duration::from_millis(1))? {}
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// All that appeared, with control characters made visible.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.seen)
            .chars()
            .flat_map(|character| match character {
                '\n' => vec!['\n'],
                '\r' => vec![],
                control if control.is_control() => control.escape_default().collect(),
                other => vec![other],
            })
            .collect()
    }

    /// Reads what is there, waiting at most this long; `false` when nothing will come any more, or nothing came in time
    /// and the program has ended.
    fn read(&mut self, wait: Duration) -> Result<bool> {
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        let limit = Timespec::try_from(wait)?;
        if poll(&mut ready, Some(&limit))? == 0 {
            return Ok(self.ended.is_none());
        }
        let mut buffer = [0; 16 << 10];
        match read(self.master.as_fd(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => {
                self.seen.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // First the way that lets it clean up after itself.
        let _ = kill_process(self.pid(), Signal::TERM);
        if self.exit(SOON).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
