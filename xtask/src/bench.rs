//! The measures, each by its name.

use std::process::Command;

use anyhow::{Result, bail};

use crate::packages;
use crate::postgres::Postgres;
use crate::program::{cargo, run, target_directory};

/// A measure.
struct Bench {
    name: &'static str,
    /// The cargo command that takes it.
    command: &'static [&'static str],
    /// Takes it, with what it needs beside the command.
    take: fn(&mut Command) -> Result<()>,
}

const BENCHES: [Bench; 5] = [
    Bench {
        name: "decide",
        command: &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=decide", "--"],
        take: run,
    },
    Bench {
        name: "events",
        command: &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=events", "--"],
        take: beside_postgres,
    },
    Bench {
        name: "identify",
        command: &[
            "test",
            "--release",
            "--quiet",
            "--package=elevon-elevator",
            "identify_is_measured",
            "--",
            "--ignored",
            "--nocapture",
        ],
        take: run,
    },
    Bench {
        name: "launch",
        command: &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=launch", "--"],
        take: beside_sudo,
    },
    Bench {
        name: "verify",
        command: &["run", "--release", "--quiet", "--package=elevon-bench", "--bin=verify", "--"],
        take: beside_postgres,
    },
];

/// Takes one measure, or lists them.
pub(crate) fn bench(name: Option<&str>, more: &[String]) -> Result<()> {
    let names = BENCHES.map(|bench| bench.name).join("\n");
    let Some(name) = name else {
        println!("{names}");
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no bench {name}; there are:\n{names}");
    };
    (bench.take)(cargo(bench.command).args(more).env("ELEVON_BENCH", "1"))
}

fn beside_postgres(bench: &mut Command) -> Result<()> {
    let postgres = Postgres::start_durable()?;
    run(bench.env("ELEVON_BENCH_POSTGRES_URL", postgres.url()))
}

/// Debian has no package of sudo-rs yet: it is built from its own sources, once.
fn beside_sudo(bench: &mut Command) -> Result<()> {
    packages::provide_for_launches()?;
    let folder = target_directory()?.join("sudo-rs");
    run(cargo(["install", "--quiet", "--locked", "sudo-rs", "--version=0.2.13", "--root"]).arg(&folder))?;
    run(bench.arg("--sudo-rs").arg(folder.join("bin/sudo")))
}
