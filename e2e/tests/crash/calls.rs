//! The elevator killed before each of the calls by which it changes anything outside itself, one after the other: no place
//! between two of them is left out. A debugger does it, in the very thread: no program has a hook for this.

use std::path::PathBuf;
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

/// Threads of the elevator by how their names start, and whether those that they start are meant.
const THREADS: [(&str, &str, bool); 3] = [
    ("client", "whole story · elevator killed in a client's thread", true),
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
    let threads = until("a thread of the elevator", SOON, || {
        let threads = threads_of(elevator, thread);
        Ok((!threads.is_empty()).then_some(threads))
    })?;
    let mut debugger = Command::new("strace");
    debugger.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    debugger.args(["-e", &format!("inject={CALLS}:signal=KILL:when={place}")]);
    debugger.args(threads.iter().flat_map(|thread| ["-p".to_owned(), thread.to_string()]));
    if starts {
        debugger.arg("-f");
    }
    let mut debugger = Program::start("strace", &mut debugger, &ground.site.tree.join("logs"))?;
    let places: Vec<_> =
        threads.iter().map(|thread| PathBuf::from(format!("/proc/{elevator}/task/{thread}"))).collect();
    until("the debugger to be attached", SOON, || {
        ensure!(debugger.ended()?.is_none(), "{}", debugger.log());
        let attached = |place: &PathBuf| {
            std::fs::read_to_string(place.join("status"))
                .is_ok_and(|status| !status.contains("TracerPid:\t0"))
        };
        Ok(places.iter().all(attached).then_some(()))
    })?;
    let mut story = Story::stubborn(ground, "30m");
    story.comes_to_run(ground)?;
    story.is_revoked(ground)?;
    // Only from here on is it sure not to be killed any more.
    debugger.stop()?;
    // One of them may have ended by itself, as a client's thread does.
    let killed = !places.iter().any(|place| place.exists());
    if killed {
        // It may be on its way still.
        until_true("the elevator to be gone", SOON, || !lives(elevator))?;
        ground.restart_what_ended()?;
    }
    ends_well(ground, &mut story)?;
    Ok(killed)
}

fn threads_of(process: i32, name: &str) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let named = threads.filter(|thread| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
    });
    named.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect()
}
