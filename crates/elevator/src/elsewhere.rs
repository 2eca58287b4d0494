//! Two processes side by side. The scheduler takes whoever speaks to another for somebody who waits for the answer next, and
//! wakes that one on the same processor; in a virtual machine it does so while other processors idle, which look taken there. A
//! launch has two times where both have work to do: while PAM is asked, and while the disk is written to.

use rustix::process::Pid;
use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Does what wakes a process, and has that go on beside this thread: it may not wake on the processor of this thread, and may
/// run on all of its own again at once. Where that cannot be had, it wakes where the scheduler wants.
pub(crate) fn wake<T>(process: i32, wakes: impl FnOnce() -> T) -> T {
    let process = Pid::from_raw(process);
    let Ok(all) = sched_getaffinity(process) else {
        return wakes();
    };
    let mut others = all;
    others.unset(sched_getcpu());
    let moved = others.count() > 0 && sched_setaffinity(process, &others).is_ok();
    let woken = wakes();
    if moved {
        // It may have ended meanwhile.
        let _ = sched_setaffinity(process, &all);
    }
    woken
}
