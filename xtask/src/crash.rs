//! Everything killed at every step, and what became of it: the crash corpus, each case several times.

use anyhow::{Context, Result};

use crate::postgres::Postgres;
use crate::program::{cargo, run};
use crate::test::as_root;

/// Builds everything, and plays the cases that are named, or all; as root, since they elevate for real.
pub(crate) fn crash(rounds: u32, names: &[String]) -> Result<()> {
    run(&mut cargo(["build", "--quiet", "--workspace"])).context("build the programs")?;
    let postgres = Postgres::start()?;
    let mut cases = cargo(["test", "--quiet", "--package=elevon-e2e", "--test=crash", "--"]);
    cases.arg("--rounds").arg(rounds.to_string()).args(names);
    as_root(cases.env("ELEVON_BUILT", "1"))?;
    run(cases.env("ELEVON_TEST_POSTGRES_URL", postgres.url()))
}
