//! The attack corpus: one named case each, all of them for real. After every case three oracles speak: *evil* never ran with
//! uid 0 or a capability, the canary is unchanged, and the record has exactly the events that the case states.
//!
//!     attacks [NAME]…        only cases whose names contain one of these
//!     attacks --list         their names
//!
//! Races run for 2 s each; with `ELEVON_ATTACK_FULL=1` for thousands of rounds. Where a day passes at once, it has
//! `ELEVON_ATTACK_HOURS`, or 24. The cases that move this computer's own wall clock are there only with
//! `ELEVON_ATTACK_DISRUPTIVE=1`. `cargo xtask attack` runs it.
#![allow(clippy::unwrap_used, missing_docs)]

mod ground;

mod alone;
mod capabilities;
mod clock;
mod contained;
mod display;
mod end_of_a_grant;
mod environment;
mod identity;
mod install;
mod kept;
mod launch;
mod nesting;
mod oracle;
mod pam;
mod presence;
mod resources;
mod socket;
mod terminal;
mod wall_clock;

use std::process::ExitCode;

use anyhow::Result;
use elevon_e2e::corpus::{self, Course};

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
        oracle::CASES,
        terminal::CASES,
        socket::CASES,
        resources::CASES,
        install::CASES,
        end_of_a_grant::CASES,
        clock::CASES,
        pam::CASES,
        contained::CASES,
        display::CASES,
        alone::CASES,
        capabilities::CASES,
        presence::CASES,
        if ground::disruptive() { wall_clock::CASES } else { &[] },
        nesting::CASES,
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
    let course = Course { well: "safe", rounds: 1, at_once: 1 };
    match course.play(&chosen.into_iter().map(Case::played).collect::<Vec<_>>()) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Case {
    fn title(&self) -> String {
        format!("{}::{}", self.area.rsplit("::").next().unwrap_or_default(), self.name)
    }

    fn played(&self) -> corpus::Case<Ground> {
        let (alone, act) = match self.act {
            Act::Shared(act) => (false, act),
            Act::Alone(act) => (true, act),
        };
        let act = Box::new(move |ground: &mut Ground| ground.stands(act));
        corpus::Case { title: self.title(), kind: (), alone, act }
    }
}
