//! Everything CI runs, as named steps. It stops at the first that fails, and says what to do.

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock::Stopwatch;
use crate::postgres::Postgres;
use crate::program::{cargo, find, is_root, output, program, run};
use crate::{deny, manual, packages, tidy, windows};

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
    /// What to do when it fails.
    next: &'static str,
}

const STEPS: [Step; 13] = [
    Step {
        name: "packages",
        what: "the system's packages that later steps need are there, or are installed",
        run: packages::provide,
        next: "install what is named above",
    },
    Step {
        name: "fmt",
        what: "the code is formatted",
        run: formatting,
        next: "`cargo fmt --all` formats it",
    },
    Step {
        name: "tidy",
        what: "the rules of the house are kept",
        run: tidy::tidy,
        next: "each finding says what instead; `cargo xtask tidy` runs this step alone",
    },
    Step {
        name: "clippy",
        what: "no warning, in any target",
        run: clippy,
        next: "`cargo clippy --workspace --all-targets` shows them all",
    },
    Step {
        name: "build",
        what: "every program builds",
        run: build,
        next: "`cargo build --workspace` shows the errors",
    },
    Step {
        name: "manual",
        what: "manual pages and completions are made, and bash, zsh, fish, groff and mandoc make sense of them",
        run: manual::check,
        next: "`cargo xtask manual` writes them to look at; they come from each program's --help",
    },
    Step {
        name: "units",
        what: "the tests that need neither root nor services",
        run: units,
        next: "`cargo test` runs them alone; where a golden file differs and should: `cargo xtask bless`",
    },
    Step {
        name: "windows",
        what: "signed programs of Windows: those of a made-up authority, and one of a vendor",
        run: windows::test,
        next: "`cargo xtask test windows` runs them alone; a vendor's program is fetched once by npm",
    },
    Step {
        name: "services",
        what: "the tests that need root or PostgreSQL",
        run: services,
        next: "`cargo xtask test services` runs them alone",
    },
    Step {
        name: "e2e",
        what: "the whole system: real processes, root, users, terminals, a browser",
        run: whole_system,
        next: "`cargo xtask test e2e` runs them alone",
    },
    Step {
        name: "docs",
        what: "the documentation of every crate builds without a warning",
        run: documentation,
        next: "`cargo doc --workspace --no-deps` shows the warnings",
    },
    Step {
        name: "fuzz",
        what: "the fuzz targets survive their corpus",
        run: fuzz_targets,
        next: "`cargo xtask fuzz TARGET` looks for more",
    },
    Step {
        name: "deny",
        what: "licences, sources, doubled and unsound dependencies",
        run: deny::check,
        next: "deny.toml says what is allowed, and why",
    },
];

/// Prints the steps.
pub(crate) fn list() -> Result<()> {
    for step in &STEPS {
        println!("{:10} {}", step.name, step.what);
    }
    Ok(())
}

/// Runs all steps, or those named.
pub(crate) fn test(named: &[String]) -> Result<()> {
    if let Some(unknown) = named.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("there is no step {unknown}; `cargo xtask test --list` prints them");
    }
    let whole = Stopwatch::start();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for step in STEPS.iter().filter(|step| named.is_empty() || named.iter().any(|name| name == step.name)) {
        println!("\n── {}: {}", step.name, step.what);
        let watch = Stopwatch::start();
        let _limit = limit(step);
        (step.run)().with_context(|| format!("step {} failed. What to do: {}", step.name, step.next))?;
        times.push((step.name, watch.elapsed()));
    }
    println!();
    for (name, time) in times {
        println!("ok  {name:10} {:6.1} s", time.as_secs_f64());
    }
    println!("ok  all of it  {:6.1} s", whole.elapsed().as_secs_f64());
    Ok(())
}

/// A step that takes longer hangs, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Ends all of this when the step hangs, unless what this gives is let go before.
fn limit(step: &Step) -> Sender<()> {
    let (over, waits) = mpsc::channel();
    let (name, next) = (step.name, step.next);
    thread::spawn(move || {
        if let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(PATIENCE) {
            eprintln!("step {name} did not end within {PATIENCE:?}. What to do: {next}");
            std::process::exit(1);
        }
    });
    over
}

fn formatting() -> Result<()> {
    run(&mut cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run(&mut cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn build() -> Result<()> {
    run(&mut cargo(["build", "--quiet", "--workspace", "--locked"]))
}

const WITHOUT_E2E: [&str; 5] = ["test", "--quiet", "--workspace", "--exclude=elevon-e2e", "--locked"];

fn units() -> Result<()> {
    run(&mut cargo(WITHOUT_E2E))
}

fn services() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut tests = cargo(WITHOUT_E2E);
    // Its ignored tests are those of `windows`.
    tests.arg("--exclude=elevon-identify");
    as_root(tests.args(["--", "--ignored"]))?;
    run(tests.env("ELEVON_TEST_POSTGRES_URL", postgres.url()))
}

fn whole_system() -> Result<()> {
    build()?;
    let postgres = Postgres::start()?;
    let mut tests = cargo(["test", "--package=elevon-e2e", "--locked", "--", "--include-ignored"]);
    as_root(tests.env("ELEVON_BUILT", "1"))?;
    run(tests.env("ELEVON_TEST_POSTGRES_URL", postgres.url()))
}

/// Has cargo run what it built as root: under sudo, where this does not run as root already. Cargo itself stays who it is,
/// so that nothing it builds belongs to root.
pub(crate) fn as_root(cargo: &mut Command) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if find("sudo").is_none() {
        bail!("these tests elevate for real and so need root, and there is no sudo here; run this as root");
    }
    let host = output(program("rustc").arg("-vV"))?;
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    let runner = format!("CARGO_TARGET_{}_RUNNER", host.replace('-', "_").to_uppercase());
    cargo.env(runner, "sudo --preserve-env");
    Ok(())
}

fn documentation() -> Result<()> {
    let mut doc = cargo(["doc", "--quiet", "--workspace", "--no-deps", "--locked"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn fuzz_targets() -> Result<()> {
    let mut tests = cargo(["test", "--quiet", "--manifest-path=fuzz/Cargo.toml", "--no-default-features"]);
    run(tests.arg("--target-dir").arg(crate::program::target_directory()?.join("fuzz")))
}
