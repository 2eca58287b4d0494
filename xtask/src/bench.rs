//! The measures, each by its name.

use anyhow::{Result, bail};

use crate::program::{cargo, run};

/// A measure, and the cargo command that takes it.
const BENCHES: [(&str, &[&str]); 2] = [
    ("decide", &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=decide"]),
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
pub(crate) fn bench(name: Option<&str>) -> Result<()> {
    let names = BENCHES.map(|(name, _)| name).join("\n");
    let Some(name) = name else {
        println!("{names}");
        return Ok(());
    };
    match BENCHES.iter().find(|(known, _)| *known == name) {
        Some((_, command)) => run(cargo(command.iter().copied()).env("ELEVON_BENCH", "1")),
        None => bail!("there is no bench {name}; there are:\n{names}"),
    }
}
