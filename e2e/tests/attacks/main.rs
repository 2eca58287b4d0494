//! The attack corpus: one named case each, all of them for real. After every case three oracles speak: *evil* never ran with
//! uid 0 or a capability, the canary is unchanged, and the record has exactly the events that the case states.
//!
//!     attacks [NAME]…        only cases whose names contain one of these
//!     attacks --list         their names
//!
//! Races run for 2 s each; with `ELEVON_ATTACK_FULL=1` for thousands of rounds. `cargo xtask attack` runs it.
#![allow(clippy::unwrap_used, missing_docs)]

mod ground;

mod end_of_a_grant;
mod environment;
mod identity;
mod install;
mod launch;
mod resources;
mod socket;
mod terminal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use elevon_e2e::clock::Stopwatch;

use crate::ground::Ground;

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    area: &'static str,
    name: &'static str,
    act: Act,
}

/// What a case needs; it gives what was seen.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// A site that other cases use, too.
    Shared(fn(&mut Ground) -> Result<String>),
    /// A site of its own, because it breaks something of it.
    Alone(fn(&mut Ground) -> Result<String>),
}

/// The cases of a file.
#[macro_export]
macro_rules! cases {
    ($($act:ident $name:ident,)*) => {
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            area: module_path!(),
            name: stringify!($name),
            act: $crate::Act::$act($name),
        },)*];
    };
}

fn main() -> ExitCode {
    let all = [
        launch::CASES,
        environment::CASES,
        identity::CASES,
        terminal::CASES,
        socket::CASES,
        resources::CASES,
        install::CASES,
        end_of_a_grant::CASES,
    ];
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named = |case: &&Case| {
        let mut wanted = words.iter().filter(|word| !word.starts_with('-')).peekable();
        wanted.peek().is_none() || wanted.any(|word| case.title().contains(word.as_str()))
    };
    let chosen: Vec<&Case> = all.into_iter().flatten().filter(named).collect();
    if words.iter().any(|word| word == "--list") {
        for case in &chosen {
            println!("{}: test", case.title());
        }
        return ExitCode::SUCCESS;
    }
    match play(&chosen) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Case {
    fn title(&self) -> String {
        format!("{}::{}", self.area.rsplit("::").next().unwrap_or_default(), self.name)
    }
}

/// Plays the cases, prints a row for each, and gives how many failed.
fn play(cases: &[&Case]) -> usize {
    let whole = Stopwatch::start();
    let mut shared = None;
    let mut failures = Vec::new();
    println!("{:64} {:8} {:>7}  seen", "case", "outcome", "seconds");
    for case in cases {
        let watch = Stopwatch::start();
        let seen = match case.act {
            Act::Shared(act) => on_shared(&mut shared, act),
            Act::Alone(act) => on_its_own(act),
        };
        let seconds = watch.elapsed().as_secs_f64();
        match seen {
            Ok(seen) => println!("{:64} {:8} {seconds:7.1}  {seen}", case.title(), "safe"),
            Err(error) => {
                println!("{:64} {:8} {seconds:7.1}  {}", case.title(), "FAILED", first_line(&error));
                failures.push((case.title(), error));
            }
        }
    }
    if let Err(error) = finish(shared) {
        failures.push(("what the cases left behind".into(), error));
    }
    for (title, error) in &failures {
        println!("\n── {title}\n{error:#}");
    }
    let (all, failed) = (cases.len(), failures.len());
    println!("\n{all} cases, {failed} failed, {:.0} s", whole.elapsed().as_secs_f64());
    failed
}

/// In one text, the cause first, and what the programs said.
fn told(error: anyhow::Error, ground: &Ground) -> anyhow::Error {
    anyhow!("{error:#}\n{}", ground.site.log())
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// A site on which a case failed may be in any state: the next one gets a fresh one.
fn on_shared(shared: &mut Option<Ground>, act: fn(&mut Ground) -> Result<String>) -> Result<String> {
    let mut ground = match shared.take() {
        Some(ground) => ground,
        None => caught(Ground::set)?,
    };
    match caught(|| ground.stands(act)) {
        Ok(seen) => {
            *shared = Some(ground);
            Ok(seen)
        }
        Err(error) => {
            let error = told(error, &ground);
            // What it left behind is not worth telling of, beside what happened.
            let _ = finish(Some(ground));
            Err(error)
        }
    }
}

fn on_its_own(act: fn(&mut Ground) -> Result<String>) -> Result<String> {
    let mut ground = caught(Ground::set)?;
    let seen = caught(|| ground.stands(act));
    let seen = seen.map_err(|error| told(error, &ground));
    let left = finish(Some(ground));
    seen.and_then(|seen| left.map(|()| seen))
}

fn finish(ground: Option<Ground>) -> Result<()> {
    let troubles = ground.map(|ground| ground.site.finish()).unwrap_or_default();
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
