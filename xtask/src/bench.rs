//! The measures, each by its name.

use std::process::Command;

use anyhow::{Result, bail};

use crate::packages;
use crate::postgres::Postgres;
use crate::program::{cargo, root, run, target_directory};
use crate::release;

/// A measure's name, and what takes it; it is given what the developer adds.
type Bench = (&'static str, fn(&[String]) -> Result<()>);

const BENCHES: [Bench; 5] = [
    ("decide", |more| run(&mut measure("decide", more))),
    ("events", |more| beside_postgres(measure("events", more))),
    ("identify", identify),
    ("launch", |more| beside_sudo(measure("launch", more))),
    ("verify", |more| beside_postgres(measure("verify", more))),
];

/// Takes one measure, or lists them.
pub(crate) fn bench(name: Option<&str>, more: &[String]) -> Result<()> {
    let names = BENCHES.map(|(name, _)| name).join("\n");
    let Some(name) = name else {
        println!("{names}");
        return Ok(());
    };
    match BENCHES.iter().find(|(known, _)| *known == name) {
        Some((_, take)) => take(more),
        None => bail!("there is no bench {name}; there are:\n{names}"),
    }
}

/// A program of `bench/`.
fn measure(name: &str, more: &[String]) -> Command {
    let mut command = cargo(["run", "--release", "--quiet", "--package=elevon-bench", "--bin", name, "--"]);
    command.args(more);
    command
}

/// Measured from within the elevator, whose parts nobody else can call.
fn identify(more: &[String]) -> Result<()> {
    let mut command =
        cargo(["test", "--release", "--quiet", "--package=elevon-elevator", "identify_is_measured"]);
    command.args(["--", "--ignored", "--nocapture"]).args(more);
    run(command.env("ELEVON_BENCH", "1"))
}

fn beside_postgres(mut bench: Command) -> Result<()> {
    let postgres = Postgres::start_durable()?;
    run(bench.env("ELEVON_BENCH_POSTGRES_URL", postgres.url()))
}

/// Debian has no package of sudo-rs yet: it is built from its own sources, once.
fn beside_sudo(mut bench: Command) -> Result<()> {
    packages::provide_for_launches()?;
    release::programs()?;
    // As they are installed: built again they would be linked otherwise.
    bench.env("ELEVON_BUILT", "1");
    let folder = target_directory()?.join("sudo-rs");
    run(cargo(["install", "--quiet", "--locked", "sudo-rs", "--version=0.2.13", "--root"]).arg(&folder))?;
    bench.arg("--sudo-rs").arg(folder.join("bin/sudo"));
    run(bench.arg("--write").arg(root().join("docs/benchmarks.md")))
}
