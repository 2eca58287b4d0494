//! The measures, each by its name.

use anyhow::{Result, bail};

use crate::postgres::Postgres;
use crate::program::{cargo, run};

/// A measure, and the cargo command that takes it.
const BENCHES: [(&str, &[&str]); 3] = [
    ("decide", &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=decide"]),
    ("events", &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=events", "--"]),
    (
        "identify",
        &[
            "test",
            "--release",
            "--quiet",
            "--package=elevon-elevator",
            "identify_is_measured",
            "--",
            "--ignored",
            "--nocapture",
        ],
    ),
];

/// Takes one measure, or lists them.
pub(crate) fn bench(name: Option<&str>, more: &[String]) -> Result<()> {
    let names = BENCHES.map(|(name, _)| name).join("\n");
    let Some(name) = name else {
        println!("{names}");
        return Ok(());
    };
    let Some((_, command)) = BENCHES.iter().find(|(known, _)| *known == name) else {
        bail!("there is no bench {name}; there are:\n{names}");
    };
    let mut command = cargo(command.iter().copied());
    command.args(more).env("ELEVON_BENCH", "1");
    if name != "events" {
        return run(&mut command);
    }
    let postgres = Postgres::start_durable()?;
    run(command.env("ELEVON_BENCH_POSTGRES_URL", postgres.url()))
}
