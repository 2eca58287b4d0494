//! What benches share: how long something takes, and how that is told.

pub mod clock;
pub mod site;

use std::time::Duration;

/// Medians and spread of many runs.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Half were faster.
    pub median: Duration,
    /// One in a hundred was slower.
    pub p99: Duration,
    /// The slowest.
    pub worst: Duration,
}

impl Spread {
    /// Of what many runs took.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let at = |part| at(part).copied().unwrap_or_default();
        Self { median: at(50), p99: at(99), worst: at(100) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            f,
            "{:9.2} µs   {:9.2} µs   {:9.2} µs",
            micros(self.median),
            micros(self.p99),
            micros(self.worst)
        )
    }
}

/// The head of a table of spreads; `what` names its first column.
pub fn head(what: &str) -> String {
    format!("{what:44} {:>12}   {:>12}   {:>12}", "median", "p99", "worst")
}

/// Runs it so often, each time with its number, after a tenth as many runs that do not count.
pub fn time<T>(runs: usize, mut run: impl FnMut(usize) -> T) -> Spread {
    (0..runs / 10).for_each(|number| drop(std::hint::black_box(run(number))));
    let times = (0..runs)
        .map(|number| {
            let start = clock::now();
            std::hint::black_box(run(number));
            start.elapsed()
        })
        .collect();
    Spread::of(times)
}
