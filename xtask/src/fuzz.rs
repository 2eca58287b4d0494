//! Fuzzing with the stable toolchain: libFuzzer needs coverage counters, which `-C passes` and `-C llvm-args` switch on.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::program::{cargo, output, program, root, run, target_directory};

/// What cargo-fuzz passes as well, without the address sanitizer, which needs a nightly toolchain and finds nothing in
/// code without `unsafe`.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1";

/// Fuzzes a target for so long, starting from its corpus. What it finds goes to `fuzz/artifacts/TARGET/`.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let targets = targets()?;
    let Some(target) = target else {
        println!("{}", targets.join("\n"));
        return Ok(());
    };
    if !targets.iter().any(|known| known == target) {
        bail!("there is no fuzz target {target}; there are: {}", targets.join(", "));
    }
    let host = host()?;
    let built = target_directory()?.join("fuzz");
    let mut build =
        cargo(["build", "--release", "--manifest-path=fuzz/Cargo.toml", "--bin", target, "--target", &host]);
    // A target directory of its own, and `--target` so that build scripts and macros are not instrumented.
    run(build.arg("--target-dir").arg(&built).env("RUSTFLAGS", COVERAGE)).context("build the fuzz target")?;
    let corpus = built.join("corpus").join(target);
    let artifacts = root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("create {}", corpus.display()))?;
    fs::create_dir_all(&artifacts).with_context(|| format!("create {}", artifacts.display()))?;
    let mut fuzz = program(built.join(&host).join("release").join(target));
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    // New inputs go to the first folder; the committed corpus is only read.
    run(fuzz.arg(&corpus).arg(root().join("fuzz/corpus").join(target)))
}

fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn host() -> Result<String> {
    let version = output(program("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
