//! How long to wait before trying again: full jitter over a bound that doubles, so that ten thousand agents that lost their
//! server at once do not come back at once.

use std::thread;
use std::time::Duration;

use crate::chance;
use crate::log::Subject;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Grows with each failure in a row.
#[derive(Debug)]
pub(crate) struct Patience {
    failures: u32,
    longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { failures: 0, longest: LONGEST }
    }
}

impl Patience {
    /// With one on the same computer, whom it costs nothing to be asked every now and then.
    pub(crate) fn with_neighbour() -> Self {
        Self { longest: Duration::from_secs(1), ..Self::default() }
    }

    /// It worked: the next failure is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    pub(crate) fn wait(&mut self) {
        thread::sleep(self.next(chance::fraction()));
    }

    /// Waits before the next try of something that fails, but no longer than until another thread sees it work.
    pub(crate) fn wait_for(&mut self, subject: &Subject) {
        subject.wait(self.next(chance::fraction()));
    }

    fn next(&mut self, fraction: f64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_half_a_minute_and_begins_anew() {
        let mut patience = Patience::default();
        let bounds: Vec<u128> = (0..10).map(|_| patience.next(1.0).as_millis()).collect();
        assert_eq!(bounds, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(patience.next(0.5).as_millis(), 15_000);
        patience.reset();
        assert_eq!(patience.next(1.0).as_millis(), 200);
    }
}
