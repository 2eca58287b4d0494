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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_is_woken_is_kept_off_this_processor_for_that_moment_only() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let number = i32::try_from(child.id()).expect("a number");
        let may_run_on = || sched_getaffinity(Pid::from_raw(number)).expect("known");
        let before = may_run_on();
        // This thread stays where it is meanwhile.
        let own = sched_getaffinity(None).expect("known");
        let here = sched_getcpu();
        let mut only = own;
        only.clear();
        only.set(here);
        sched_setaffinity(None, &only).expect("kept here");
        let meanwhile = wake(number, may_run_on);
        sched_setaffinity(None, &own).expect("let go");
        assert_eq!(may_run_on(), before);
        assert_eq!(
            meanwhile.is_set(here),
            before.count() == 1,
            "it has no other processor only where there is one"
        );
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(wake(number, || 7), 7, "what wakes is done where nobody is left to wake");
    }
}
