//! The wall clock of this very computer, moved for a moment, and put back whatever becomes of whoever moved it. What it should
//! say is told by a clock that nobody can set, and that counts on in suspend.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::binaries::binary;
use crate::clock::SOON;
use crate::program::Program;

/// However long a test takes: by then everything is as it was.
const LONGEST: Duration = Duration::from_secs(60);

/// A clock that was put back is right again by this, in milliseconds.
const RIGHT: i64 = 50;

/// What the wall clock says when nobody moves it.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// How far it is ahead of the clock that nobody can set, in nanoseconds.
    ahead: i64,
}

impl Right {
    /// As it is now.
    pub fn as_it_is() -> Self {
        Self { ahead: nanos(ClockId::Realtime) - nanos(ClockId::Boottime) }
    }

    /// How far the wall clock is ahead of what is right, in milliseconds.
    pub fn off(self) -> i64 {
        (Self::as_it_is().ahead - self.ahead) / 1_000_000
    }

    /// Sets the wall clock to so many milliseconds after what is right.
    pub fn set(self, off: i64) -> Result<()> {
        const SECOND: i64 = 1_000_000_000;
        let at = nanos(ClockId::Boottime) + self.ahead + off * 1_000_000;
        let at = Timespec { tv_sec: at.div_euclid(SECOND), tv_nsec: at.rem_euclid(SECOND) };
        clock_settime(ClockId::Realtime, at).context("set the wall clock")
    }
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The wall clock, in the hands of a process that puts it back when this is dropped, when this process dies, and after a
/// minute at the latest.
#[derive(Debug)]
pub struct Wall {
    right: Right,
    keeper: Program,
    says: Option<ChildStdin>,
}

impl Wall {
    /// As it is now is right.
    pub fn keep(logs: &Path) -> Result<Self> {
        let right = Right::as_it_is();
        let mut command = Command::new(binary("clock-keeper")?);
        let mut keeper = Program::start_with("clock-keeper", &mut command, Stdio::piped(), logs)?;
        keeper.line("that it is ready", |line| (line == "ready").then_some(()))?;
        let says = keeper.input();
        Ok(Self { right, keeper, says })
    }

    /// Moves it to so many milliseconds after what is right.
    pub fn move_to(&mut self, off: i64) -> Result<()> {
        writeln!(self.says.as_mut().context("the keeper listens")?, "{off}")?;
        let off_by = format!("moved {off}");
        self.keeper.line("that it was moved", |line| (line == off_by).then_some(()))?;
        let seen = self.right.off();
        ensure!((seen - off).abs() < RIGHT, "the wall clock is off by {seen} ms, expected {off} ms");
        Ok(())
    }

    /// Puts it back; how far it is off now, in milliseconds.
    pub fn put_back(mut self) -> Result<i64> {
        self.says = None;
        let ran = self.keeper.exit(SOON)?;
        ensure!(ran.status.success(), "{}", self.keeper.log());
        let off = self.right.off();
        ensure!(off.abs() < RIGHT, "the wall clock is off by {off} ms after it was put back");
        Ok(off)
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        self.says = None;
        let kept = self.keeper.exit(SOON).is_ok_and(|ran| ran.status.success());
        if !kept || self.right.off().abs() >= RIGHT {
            eprintln!("the keeper of the wall clock did not put it back, so that is done here");
            if let Err(error) = self.right.set(0) {
                eprintln!("{error:#}: it is off by {} ms", self.right.off());
            }
        }
    }
}

/// The keeper's own life: it moves the clock as its input says, and puts it back when that ends, when it is told to end, or
/// when it has been at it for too long.
pub fn keeper() -> Result<()> {
    let right = Right::as_it_is();
    let mut told_to_end = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        told_to_end.forever().next();
        leave(right);
    });
    thread::spawn(move || {
        thread::sleep(LONGEST);
        leave(right);
    });
    let kept = move_as_told(right);
    right.set(0)?;
    kept
}

fn move_as_told(right: Right) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let off = line?.parse().context("expected milliseconds")?;
        right.set(off)?;
        println!("moved {off}");
    }
    Ok(())
}

fn leave(right: Right) {
    let put_back = right.set(0);
    std::process::exit(i32::from(put_back.is_err()) + 1);
}
