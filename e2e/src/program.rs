//! Child processes: their output goes to files, so that it can be waited for, and shown when a test fails.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{SOON, until};

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
    ended: Option<ExitStatus>,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Program {
    /// Starts it without any input; output and errors go to files in `logs`.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        Self::start_with(name, command, Stdio::null(), logs)
    }

    /// Starts it with this input.
    pub fn start_with(name: &str, command: &mut Command, input: Stdio, logs: &Path) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let out = logs.join(format!("{number:03}-{name}.out"));
        let err = logs.join(format!("{number:03}-{name}.err"));
        let child = command
            // ^C in the terminal of a demo is for the demo, which ends the others in their order.
            .process_group(0)
            .stdin(input)
            .stdout(File::create(&out).with_context(|| format!("create {}", out.display()))?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.into(), child, out, err, ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its input, where it was started with a pipe; can be taken once.
    pub fn input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        lossy(&self.out)
    }

    /// What it has printed to its standard error so far.
    pub fn errors(&self) -> String {
        lossy(&self.err)
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its end.
    pub fn exit(&mut self, within: Duration) -> Result<Ran> {
        let what = format!("the end of {}", self.name);
        let status = until(&what, within, || self.ended()).with_context(|| self.log())?;
        Ok(Ran { status, out: fs::read(&self.out)?, err: self.errors() })
    }

    /// Waits until its output has a line for which `pick` gives something.
    pub fn line<T>(&mut self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let out = self.out.clone();
        self.line_in(&out, what, pick)
    }

    /// Waits until its standard error has a line for which `pick` gives something.
    pub fn error_line<T>(&mut self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let err = self.err.clone();
        self.line_in(&err, what, pick)
    }

    fn line_in<T>(&mut self, file: &Path, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let name = self.name.clone();
        let found = until(&format!("{what}, from {name}"), SOON, || {
            // The end is looked at first: what it printed before its end must not be missed.
            let ended = self.ended()?;
            let text = lossy(file);
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            match (whole.lines().find_map(&mut pick), ended) {
                (Some(found), _) => Ok(Some(found)),
                (None, Some(status)) => bail!("{name} ended ({status}) before {what}"),
                (None, None) => Ok(None),
            }
        });
        found.with_context(|| self.log())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// SIGTERM, and its end; an error when it does not come.
    pub fn stop(&mut self) -> Result<Ran> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.exit(SOON)
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// The end of what it printed, for a failure's report.
    pub fn log(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n    ")
        };
        format!(
            "{} said\n  out:\n    {}\n  err:\n    {}",
            self.name,
            tail(self.output()),
            tail(self.errors())
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn lossy(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// How a program ended, and what it printed.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub out: Vec<u8>,
    /// What it printed to its standard error.
    pub err: String,
}

impl Ran {
    /// The status as a shell shows it: 128+N for signal N.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Fails the test unless it ended with this status.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "exit status; it printed\n{}\nand to its standard error\n{}",
            self.text(),
            self.err
        );
        self
    }

    /// Fails the test unless its standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "expected “{text}” on its standard error, which has\n{}", self.err);
        self
    }

    /// Fails the test unless it printed this text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.text().contains(text), "expected “{text}” in what it printed:\n{}", self.text());
        self
    }
}

/// A command that takes longer hangs, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a short command to its end with this input, and takes what it printed.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Ran> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that refuses ends without reading.
        let _ = stdin.write_all(input);
    }
    let process = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(PATIENCE) else {
        // What it started may have its output open, and go on.
        let _ = kill_process(process, Signal::KILL);
        bail!("{shown} did not end within {PATIENCE:?}");
    };
    let output = output?;
    Ok(Ran {
        status: output.status,
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that must succeed, and gives what it printed.
pub fn must(command: &mut Command, input: &[u8]) -> Result<String> {
    let ran = run(command, input)?;
    if !ran.status.success() {
        bail!("{command:?} ended with {}: {}{}", ran.status, ran.err, ran.text());
    }
    Ok(ran.text())
}
