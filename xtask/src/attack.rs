//! The attack corpus, for whoever wants to see it stand. The cases are tests of the whole system (`e2e/tests/attacks`).

use anyhow::Result;

use crate::program::{cargo, run};
use crate::test::as_root;

/// How the cases are played.
#[derive(Debug, clap::Args)]
pub(crate) struct Attack {
    /// Runs each race for thousands of rounds.
    #[arg(long)]
    full: bool,
    /// How many hours pass at once where the elevator's clock is moved.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=160))]
    hours: u16,
    /// Also moves this computer's own wall clock, for seconds, by up to a day, and puts it back: nothing else should run here
    /// that minds.
    #[arg(long)]
    disruptive: bool,
    /// Only cases whose names contain one of these.
    names: Vec<String>,
}

/// Plays the cases that are named, or all of them.
pub(crate) fn attack(attack: &Attack) -> Result<()> {
    let switch = |on| if on { "1" } else { "0" };
    let mut tests = cargo(["test", "--quiet", "--package=elevon-e2e", "--locked", "--test=attacks", "--"]);
    as_root(tests.args(&attack.names))?;
    tests.env("ELEVON_ATTACK_FULL", switch(attack.full));
    tests.env("ELEVON_ATTACK_HOURS", attack.hours.to_string());
    run(tests.env("ELEVON_ATTACK_DISRUPTIVE", switch(attack.disruptive)))
}
