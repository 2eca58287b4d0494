//! The measures, each by its name.

use std::process::Command;

use anyhow::{Result, bail};

use crate::packages;
use crate::postgres::Postgres;
use crate::program::{cargo, root, run, target_directory};
use crate::release;

/// A measure's name, and what takes it; it is given what the developer adds.
type Bench = (&'static str, fn(&[String]) -> Result<()>);

const BENCHES: [Bench; 7] = [
    ("decide", |more| run(&mut measure("decide", more))),
    ("events", |more| beside_postgres(measure("events", more))),
    ("expiry", |more| as_installed(measure("expiry", more))),
    ("identify", identify),
    ("idle", |more| as_installed(measure("idle", more))),
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
    let folder = target_directory()?.join("sudo-rs");
    run(cargo(["install", "--quiet", "--locked", "sudo-rs", "--version=0.2.13", "--root"]).arg(&folder))?;
    bench.arg("--sudo-rs").arg(folder.join("bin/sudo"));
    bench.arg("--write").arg(root().join("docs/benchmarks.md"));
    as_installed(bench)
}

/// With the programs as they are installed: built again for the measure, the client would be linked otherwise.
fn as_installed(mut bench: Command) -> Result<()> {
    release::programs()?;
    run(bench.env("ELEVON_BUILT", "1"))
}
