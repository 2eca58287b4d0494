//! Files that are waited for: the kernel tells when one in a directory is written or put in its place, so that what must
//! happen right then can.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use crate::clock::Deadline;

/// A directory whose files are watched from now on.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    what: String,
}

impl Watch {
    /// Whenever a file in it is written to.
    pub fn written(directory: &Path) -> Result<Self> {
        Self::on(directory, WatchFlags::MODIFY)
    }

    /// Whenever a file in it is put in its place by its name.
    pub fn placed(directory: &Path) -> Result<Self> {
        Self::on(directory, WatchFlags::MOVED_TO)
    }

    fn on(directory: &Path, flags: WatchFlags) -> Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = directory.display().to_string();
        add_watch(&inotify, directory, flags).with_context(|| format!("watch {what}"))?;
        Ok(Self { inotify, what })
    }

    /// Waits for a file for whose name `wanted` says yes.
    pub fn wait(&self, within: Duration, mut wanted: impl FnMut(&str) -> Result<bool>) -> Result<()> {
        let deadline = Deadline::within(within);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(CStr::to_string_lossy).unwrap_or_default();
                    if wanted(&name)? {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    let Some(left) = deadline.left() else {
                        bail!("waited {within:?} for a file in {}, and it did not come", self.what);
                    };
                    let mut ready = [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)];
                    poll(&mut ready, Some(&Timespec::try_from(left)?))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
