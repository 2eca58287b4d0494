//! The elevator killed before each of the calls by which it changes anything outside itself, one after the other: no place
//! between two of them is left out. A debugger does it, in the very thread: no program has a hook for this.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::corpus::Case;
use elevon_e2e::process::lives;
use elevon_e2e::program::Program;

use crate::ground::{Ground, Kind};
use crate::steps::ends_well;
use crate::story::Story;

/// What changes files, and what tells others.
const CALLS: &str = "write,fsync,fdatasync,rename,unlink,sendto,sendmsg";

/// More than any thread makes of these in one story.
const MOST: u32 = 120;

/// A thread of the elevator by its name, and whether those that it starts are meant.
const THREADS: [(&str, &str, bool); 3] = [
    ("clients", "whole story · elevator killed in a client's thread", true),
    ("agent", "whole story · elevator killed in the agent's thread", false),
    ("launches", "whole story · elevator killed in the launches' thread", false),
];

/// Every `stride`th of the calls.
pub(crate) fn cases(stride: usize) -> Vec<Case<Ground>> {
    let case = |(thread, title, starts): (&'static str, &str, bool)| Case {
        title: title.into(),
        kind: Kind::Sqlite,
        alone: false,
        act: Box::new(move |ground: &mut Ground| {
            for (places, place) in (1..MOST).step_by(stride).enumerate() {
                let killed = killed_before(ground, thread, starts, place);
                if !killed.with_context(|| format!("before call {place}"))? {
                    return Ok(format!("{places} places, up to call {}", place - 1));
                }
            }
            bail!("a thread makes more than {MOST} calls")
        }),
    };
    THREADS.into_iter().map(case).collect()
}

/// Plays a story in which the elevator dies before the nth call of that thread; false where there are not so many.
fn killed_before(ground: &mut Ground, thread: &str, starts: bool, place: u32) -> Result<bool> {
    let elevator = ground.elevator()?;
    let thread = until("a thread of the elevator", SOON, || Ok(thread_of(elevator, thread)))?;
    let mut debugger = Command::new("strace");
    debugger.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    debugger.args(["-e", &format!("inject={CALLS}:signal=KILL:when={place}"), "-p", &thread.to_string()]);
    if starts {
        debugger.arg("-f");
    }
    let mut debugger = Program::start("strace", &mut debugger, &ground.site.tree.join("logs"))?;
    let status = format!("/proc/{elevator}/task/{thread}/status");
    until("the debugger to be attached", SOON, || {
        ensure!(debugger.ended()?.is_none(), "{}", debugger.log());
        let status = std::fs::read_to_string(&status)?;
        Ok((!status.contains("TracerPid:\t0")).then_some(()))
    })?;
    let mut story = Story::stubborn(ground, "30m");
    story.comes_to_run(ground)?;
    story.is_revoked(ground)?;
    // Only from here on is it sure not to be killed any more.
    debugger.stop()?;
    let killed = !Path::new(&status).exists();
    if killed {
        // It may be on its way still.
        until_true("the elevator to be gone", SOON, || !lives(elevator))?;
        ground.restart_what_ended()?;
    }
    ends_well(ground, &mut story)?;
    Ok(killed)
}

fn thread_of(process: i32, name: &str) -> Option<i32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let named = threads.filter(|thread| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.last()?.file_name().to_str()?.parse().ok()
}
