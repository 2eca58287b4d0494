//! Cases that are played for real, and a table of what was seen: the attacks and the crashes are such. Each case plays on a
//! ground, which others use after it unless it breaks something of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Error, Result, anyhow};

use crate::clock::Stopwatch;

/// Where cases play.
pub trait Ground: Sized {
    /// Which of several.
    type Kind: Copy + Ord + Send + Sync;

    /// Makes one.
    fn set(kind: Self::Kind) -> Result<Self>;

    /// What its programs said lately.
    fn log(&self) -> String;

    /// Takes it away; what was left behind.
    fn finish(self) -> Vec<String>;
}

/// One case.
pub struct Case<G: Ground> {
    /// How it is called.
    pub title: String,
    /// On which ground.
    pub kind: G::Kind,
    /// On one of its own.
    pub alone: bool,
    /// Plays it, and gives what was seen.
    pub act: Act<G>,
}

/// Plays a case on a ground, and gives what was seen.
pub type Act<G> = Box<dyn Fn(&mut G) -> Result<String> + Send + Sync>;

/// How the cases are played.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// What is said of a case that went well.
    pub well: &'static str,
    /// How often each is played.
    pub rounds: u32,
    /// On how many grounds at once.
    pub at_once: usize,
}

/// What came of a case.
struct Outcome {
    seconds: f64,
    held: u32,
    seen: Result<String>,
}

impl Course {
    /// Plays the cases, prints a row for each, in order, and gives how many failed.
    pub fn play<G: Ground>(self, cases: &[Case<G>]) -> usize {
        let whole = Stopwatch::start();
        let wide = cases.iter().map(|case| case.title.chars().count()).max().unwrap_or(0).max(4);
        println!("{:wide$}  {:10} {:>7}  seen", "case", "outcome", "seconds");
        let (next, table) = (AtomicUsize::new(0), Mutex::new(Table::default()));
        thread::scope(|scope| {
            for _ in 0..self.at_once.clamp(1, cases.len().max(1)) {
                scope.spawn(|| self.work(cases, &next, &table, wide));
            }
        });
        let failures = table.into_inner().expect("nobody panics while holding it").failures;
        for (title, error) in &failures {
            println!("\n── {title}\n{error:#}");
        }
        let (all, failed) = (cases.len(), failures.len());
        println!("\n{all} cases, {failed} failed, {:.0} s", whole.elapsed().as_secs_f64());
        failed
    }

    /// Plays one case after the other, on grounds of its own.
    fn work<G: Ground>(self, cases: &[Case<G>], next: &AtomicUsize, table: &Mutex<Table>, wide: usize) {
        let mut grounds = BTreeMap::new();
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(case) = cases.get(number)
        {
            let outcome = self.played(case, &mut grounds);
            let mut table = table.lock().expect("nobody panics while holding it");
            table.take(number, &case.title, outcome, self, wide);
        }
        for ground in grounds.into_values() {
            if let Err(error) = finish(ground) {
                let mut table = table.lock().expect("nobody panics while holding it");
                table.failures.push(("what the cases left behind".into(), error));
            }
        }
    }

    fn played<G: Ground>(self, case: &Case<G>, grounds: &mut BTreeMap<G::Kind, G>) -> Outcome {
        let watch = Stopwatch::start();
        let (mut held, mut seen) = (0, Ok(String::new()));
        while held < self.rounds && seen.is_ok() {
            seen = if case.alone { on_its_own(case) } else { on_shared(case, grounds) };
            held += u32::from(seen.is_ok());
        }
        Outcome { seconds: watch.elapsed().as_secs_f64(), held, seen }
    }
}

/// What is known so far; rows are printed in the order of the cases.
#[derive(Default)]
struct Table {
    waiting: BTreeMap<usize, String>,
    printed: usize,
    failures: Vec<(String, Error)>,
}

impl Table {
    fn take(&mut self, number: usize, title: &str, outcome: Outcome, course: Course, wide: usize) {
        let Outcome { seconds, held, seen } = outcome;
        let (word, told) = match &seen {
            Ok(seen) => (course.well, seen.clone()),
            Err(error) => ("FAILED", first_line(error)),
        };
        let word = match course.rounds {
            1 => word.to_owned(),
            rounds => format!("{word} {held}/{rounds}"),
        };
        self.waiting.insert(number, format!("{title:wide$}  {word:10} {seconds:7.1}  {told}"));
        self.failures.extend(seen.err().map(|error| (title.to_owned(), error)));
        while let Some(row) = self.waiting.remove(&self.printed) {
            println!("{row}");
            self.printed += 1;
        }
    }
}

fn first_line(error: &Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// In one text, the cause first, and what the programs said.
fn told(error: Error, ground: &impl Ground) -> Error {
    anyhow!("{error:#}\n{}", ground.log())
}

/// A ground on which a case failed may be in any state: the next one gets a fresh one.
fn on_shared<G: Ground>(case: &Case<G>, grounds: &mut BTreeMap<G::Kind, G>) -> Result<String> {
    let mut ground = match grounds.remove(&case.kind) {
        Some(ground) => ground,
        None => caught(|| G::set(case.kind))?,
    };
    match caught(|| (case.act)(&mut ground)) {
        Ok(seen) => {
            grounds.insert(case.kind, ground);
            Ok(seen)
        }
        Err(error) => {
            let error = told(error, &ground);
            // What it left behind is not worth telling of, beside what happened.
            let _ = finish(ground);
            Err(error)
        }
    }
}

fn on_its_own<G: Ground>(case: &Case<G>) -> Result<String> {
    let mut ground = caught(|| G::set(case.kind))?;
    let seen = caught(|| (case.act)(&mut ground));
    let seen = seen.map_err(|error| told(error, &ground));
    let left = finish(ground);
    seen.and_then(|seen| left.map(|()| seen))
}

fn finish(ground: impl Ground) -> Result<()> {
    let troubles = caught(|| Ok(ground.finish()))?;
    if troubles.is_empty() { Ok(()) } else { Err(anyhow!("left behind: {}", troubles.join("; "))) }
}

/// A failed assertion is an error like any other.
fn caught<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(anyhow!("panicked: {}", text.unwrap_or("?")))
    })
}
