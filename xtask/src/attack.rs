//! The attack corpus, for whoever wants to see it stand. The cases are tests of the whole system (`e2e/tests/attacks`).

use anyhow::Result;

use crate::program::{cargo, run};
use crate::test::as_root;

/// Plays the cases whose names contain one of these, or all of them; `full` runs each race for thousands of rounds.
pub(crate) fn attack(full: bool, names: &[String]) -> Result<()> {
    let mut tests = cargo(["test", "--quiet", "--package=elevon-e2e", "--locked", "--test=attacks", "--"]);
    as_root(tests.args(names))?;
    run(tests.env("ELEVON_ATTACK_FULL", if full { "1" } else { "0" }))
}
