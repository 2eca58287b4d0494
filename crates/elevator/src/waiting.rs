//! Threads that wait for news: each has a counter of its own that it can poll beside its connection.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// Everyone who waits for news.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    counters: Mutex<(u64, HashMap<u64, Arc<OwnedFd>>)>,
}

/// A place among those who wait; leaving scope gives it up.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    number: u64,
    counter: Arc<OwnedFd>,
}

impl Waiting {
    /// Waits from now on: no news after this is missed.
    pub(crate) fn join(&self) -> io::Result<Place<'_>> {
        let counter = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.0 += 1;
        let number = counters.0;
        counters.1.insert(number, Arc::clone(&counter));
        Ok(Place { waiting: self, number, counter })
    }

    /// There is news.
    pub(crate) fn wake(&self) {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for counter in counters.1.values() {
            // A counter that is full has woken its thread already.
            let _ = rustix::io::write(counter, &1u64.to_ne_bytes());
        }
    }
}

impl Place<'_> {
    /// Readable when there is news.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }

    /// Takes note of the news.
    pub(crate) fn clear(&self) {
        // What the counter says does not matter.
        let _ = rustix::io::read(&*self.counter, &mut [0; 8]);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counters = self.waiting.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.1.remove(&self.number);
    }
}
