//! The crash corpus: every process killed at every step, power lost, disks full, databases locked and gone, networks cut. After
//! every case the same must hold: nothing ran past its end, the server's record of the computer is the computer's own, event
//! for event, each once, and the next request is made, approved and run without anyone's help.
//!
//!     crash [--rounds N] [--at-once N] [NAME]…    only cases whose names contain one of these
//!     crash --list                                their names
//!
//! Cases that stop PostgreSQL are played where `cargo xtask` has started one.
#![allow(clippy::unwrap_used, missing_docs)]

mod calls;
mod database;
mod full;
mod ground;
mod network;
mod power;
mod sound;
mod steps;
mod story;

use std::process::ExitCode;

use anyhow::{Context, Result};
use elevon_e2e::corpus::{Case, Course};
use elevon_e2e::postgres;

use crate::ground::{Ground, Kind};

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let (mut names, mut list) = (Vec::new(), false);
    let mut course = Course { well: "held", rounds: 1, at_once: 3 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words.next().and_then(|word| word.parse().ok()).with_context(|| format!("a number behind {word}"))
        };
        match word.as_str() {
            "--rounds" => course.rounds = number()?,
            "--at-once" => course.at_once = usize::try_from(number()?)?,
            "--list" => list = true,
            // What cargo tells every test.
            option if option.starts_with('-') => {}
            _ => names.push(word),
        }
    }
    let mut cases: Vec<Case<Ground>> = steps::cases();
    cases.extend(power::cases());
    cases.extend(full::cases());
    cases.extend(database::cases());
    cases.extend(network::cases());
    // A short pass looks at some places, and waits for nothing that takes half a minute.
    let whole = course.rounds > 1;
    cases.extend(calls::cases(if whole { 1 } else { 7 }));
    if whole {
        cases.extend(network::long_cases());
    }
    cases.retain(|case| names.is_empty() || names.iter().any(|name| case.title.contains(name.as_str())));
    if list {
        cases.iter().for_each(|case| println!("{}: test", case.title));
        return Ok(0);
    }
    let all = cases.len();
    cases.retain(|case| case.kind != Kind::Postgres || postgres::given().is_some());
    let failed = course.play(&cases);
    if cases.len() < all {
        println!("{} cases need PostgreSQL: `cargo xtask crash` starts one", all - cases.len());
    }
    Ok(failed)
}
