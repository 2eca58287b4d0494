//! With which rights a program runs.

use std::io;

use elevon_policy::lists::RunsAs;

use crate::syscall;

/// Takes them on for good, in the forked child that is about to execute. An error is final: the caller ends.
pub(crate) fn take_on(runs_as: RunsAs) -> io::Result<()> {
    match runs_as {
        // Root's own group and no other: what the daemon was started with does not matter.
        RunsAs::Root => syscall::take_on(0, 0, &[0]),
    }
}
