//! Which application it is, in terms that survive updates and cannot be faked: a package that is installed, modified, diverted and
//! updated for the test. What only looks like a program stands in `matrix`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::binaries::binary;
use elevon_e2e::policy::{folder, privileged, rule};
use elevon_e2e::program::must;
use elevon_e2e::site::Site;
use elevon_policy::lists::Way;
use elevon_policy::rule::{Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use serde_json::Value;

pub(crate) fn vendor(name: &str, verified: bool) -> Result<Rule> {
    rule(Recognises::Vendor { vendor: Text::new(name), verified })
}

pub(crate) fn product(product: &str, vendor: &str) -> Result<Rule> {
    rule(Recognises::Product { product: Text::new(product), vendor: Text::new(vendor) })
}

pub(crate) fn executable(product: &str, vendor: &str, file_name: &str) -> Result<Rule> {
    rule(Recognises::VerifiedExecutable {
        product: Text::new(product),
        vendor: Text::new(vendor),
        file_name: OsText::from(file_name),
    })
}

pub(crate) fn automatic(rules: Vec<Rule>) -> Vec<Rule> {
    rules.into_iter().map(|rule| Rule { elevate: Some(Way::Automatic), ..rule }).collect()
}

/// What `elevon explain` says, as JSON.
pub(crate) fn explained(site: &Site, path: &Path) -> Result<Value> {
    let path = path.to_str().context("a path that is text")?;
    let json = site.alice_runs(&["explain", "--json", "--", path])?.expect(0);
    Ok(serde_json::from_slice(&json.out)?)
}

/// How narrow the rule is that lets it through, or why it is refused.
pub(crate) fn word(site: &Site, path: &Path) -> Result<String> {
    let json = explained(site, path)?;
    let verdict = &json["decision"]["verdict"];
    let word = verdict["offer"]["specificity"].as_str().or_else(|| verdict["refusal"]["type"].as_str());
    Ok(word.with_context(|| json.to_string())?.to_owned())
}

/// It runs, as root, and says so.
pub(crate) fn runs(site: &Site, command: &[&str], prints: &str) -> Result<()> {
    let ran = site.alice_runs(&[&["run", "--"], command].concat())?.expect(0);
    ensure!(ran.text().contains(prints), "{command:?} printed {}", ran.text());
    Ok(())
}

/// It does not, and nothing of it did.
pub(crate) fn refused(site: &Site, path: &Path) -> Result<()> {
    let ran = site.alice_runs(&["run", "--", path.to_str().context("a path that is text")?])?.expect(126);
    ensure!(ran.out.is_empty(), "{} printed {}", path.display(), ran.text());
    Ok(())
}

pub(crate) fn put(to: PathBuf, bytes: &[u8]) -> Result<PathBuf> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::write(&to, bytes)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    Ok(to)
}

/// A package of the test's own, installed for real; purged when dropped.
struct Package {
    name: String,
    program: PathBuf,
    build: PathBuf,
}

impl Package {
    fn install(site: &Site, version: &str) -> Result<Self> {
        let mark = site.programs.file_name().context("a site has a name")?.to_string_lossy().into_owned();
        let build = site.tree.join("deb");
        let program = PathBuf::from("/usr/lib").join(&mark).join("tool");
        let package = Self { name: mark, program, build };
        package.update(version, "good")?;
        Ok(package)
    }

    /// Installs this version, with that program of the rig in it.
    fn update(&self, version: &str, program: &str) -> Result<()> {
        let control = format!(
            "Package: {}\nSource: elevon-e2e-source (0.9)\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\n\
Origin: Elevon tests\nDescription: for a test\n",
            self.name
        );
        let inside = |path: &Path| self.build.join(path.strip_prefix("/").unwrap_or(path));
        put(inside(&self.program), &fs::read(binary(program)?)?)?;
        let script = self.program.with_file_name("script");
        put(inside(&script), b"#!/bin/sh\nid -u\n")?;
        put(inside(&PathBuf::from("/etc").join(&self.name).join("hook")), b"#!/bin/sh\nid -u\n")?;
        let debian = self.build.join("DEBIAN");
        put(debian.join("control"), control.as_bytes())?;
        put(debian.join("conffiles"), format!("/etc/{}/hook\n", self.name).as_bytes())?;
        let sums = must(
            Command::new("sh").current_dir(&self.build).args(["-c", "find usr -type f -exec md5sum {} +"]),
            b"",
        )?;
        put(debian.join("md5sums"), sums.as_bytes())?;
        for file in ["control", "conffiles", "md5sums"] {
            fs::set_permissions(debian.join(file), fs::Permissions::from_mode(0o644))?;
        }
        let deb = self.build.with_extension("deb");
        must(
            Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&self.build).arg(&deb),
            b"",
        )?;
        must(Command::new("dpkg").args(["--install", "--force-confold"]).arg(&deb), b"")?;
        Ok(())
    }

    fn hook(&self) -> PathBuf {
        PathBuf::from("/etc").join(&self.name).join("hook")
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        for (program, arguments) in [
            ("dpkg-divert", vec!["--quiet", "--remove", self.program.to_str().unwrap_or_default()]),
            ("dpkg", vec!["--purge", "--force-all", &self.name]),
        ] {
            if let Err(error) = must(Command::new(program).args(arguments), b"") {
                eprintln!("{} could not be removed: {error:#}", self.name);
            }
        }
        let _ = fs::remove_dir_all(self.program.parent().unwrap_or(Path::new("/nonexistent")));
    }
}

#[test]
fn a_package_is_known_through_updates_and_modifications() -> Result<()> {
    let site = Site::start()?;
    let package = Package::install(&site, "1.10~rc1-1")?;
    let program = package.program.to_str().context("a path that is text")?;
    let from = |minimum: &str| -> Result<Rule> {
        Ok(Rule {
            minimum_version: Some(Text::new(minimum)),
            ..product("elevon-e2e-source", "Elevon tests")?
        })
    };
    site.deploy(&privileged("Ours", automatic(vec![from("1.9-5")?]))?)?;
    assert_eq!(word(&site, &package.program)?, "product");
    runs(&site, &[program], "good uid=0")?;
    let json = explained(&site, &package.program)?;
    let facts = &json["application"]["package"];
    assert_eq!(facts["version"], "1.10~rc1-1", "{json}");
    assert_eq!(facts["vendor"]["verified"], false, "anybody can write a vendor into a package: {json}");

    // A script, and a script that is a configuration file.
    let script = package.program.with_file_name("script");
    for script in [&script, &package.hook()] {
        assert_eq!(word(&site, script)?, "product", "{}", script.display());
    }
    runs(&site, &[script.to_str().context("a path that is text")?], "0")?;

    // Modified in place, by root and to root's alone: not the package's any more.
    let original = fs::read(&package.program)?;
    fs::OpenOptions::new().append(true).open(&package.program)?.write_all(b"\0")?;
    refused(&site, &package.program)?;
    let json = explained(&site, &package.program)?;
    assert!(json.to_string().contains(r#""missing":"unmodified""#), "{json}");
    let told = site.alice_runs(&["explain", "--", program])?.text();
    assert!(told.contains("its package recorded"), "{told}");
    fs::OpenOptions::new().append(true).open(package.hook())?.write_all(b"\n")?;
    refused(&site, &package.hook())?;
    put(package.program.clone(), &original)?;
    runs(&site, &[program], "good uid=0")?;

    // An update has other bytes and is the same application; other products and a later minimum are not.
    package.update("2:0.1-1", "probe")?;
    assert_eq!(word(&site, &package.program)?, "product");
    site.deploy(&privileged("Later", automatic(vec![from("2:0.1-2")?]))?)?;
    assert_eq!(word(&site, &package.program)?, "product", "the first list still has it");
    let json = explained(&site, &package.program)?;
    assert!(json.to_string().contains(r#""missing":"version""#), "{json}");

    // Diverted, another package's file may lie at the old path, and this one's lies at the new.
    let diverted = package.program.with_file_name("tool.elsewhere");
    must(
        Command::new("dpkg-divert")
            .args(["--quiet", "--local", "--rename", "--divert"])
            .arg(&diverted)
            .arg(program),
        b"",
    )?;
    assert_eq!(word(&site, &diverted)?, "product");
    put(package.program.clone(), &fs::read(binary("evil")?)?)?;
    refused(&site, &package.program)?;
    fs::remove_file(&package.program)?;
    must(Command::new("dpkg-divert").args(["--quiet", "--rename", "--remove", program]), b"")?;

    // Removed, its files belong to nobody, whatever they are.
    let kept = fs::read(&package.program)?;
    must(Command::new("dpkg").args(["--remove", &package.name]), b"")?;
    put(package.program.clone(), &kept)?;
    refused(&site, &package.program)?;
    Ok(())
}

#[test]
fn a_rule_that_denies_a_product_is_not_escaped_by_way_of_a_script() -> Result<()> {
    let site = Site::start()?;
    let script = put(site.programs.join("free/script.py"), b"#!/usr/bin/perl\nprint \"ran\\n\";\n")?;
    let perl = Rule { outcome: elevon_policy::rule::Outcome::Deny, ..product("perl", "Debian")? };
    let allow = automatic(vec![folder(&site.programs, true)?]);
    site.deploy(&privileged("Scripts", allow)?)?;
    runs(&site, &[script.to_str().context("a path that is text")?], "ran")?;
    site.deploy(&privileged("No perl", vec![perl])?)?;
    refused(&site, &script)?;
    assert_eq!(word(&site, &script)?, "denied");
    Ok(())
}

/// Versions of the shapes that packages have, by turns.
fn versions(count: u32) -> Vec<String> {
    const PARTS: [&str; 16] =
        ["0", "1", "10", "2", "09", "a", "rc", "~", "~rc1", "+b1", "+dfsg", ".", ".0", "^git", "beta", "00"];
    let mut state = 0x2545_f491_u32;
    let mut next = move || {
        // Xorshift: the same on every computer, so that a failure can be looked at again.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut part = move |most: u32| -> String {
        let count = 1 + next() % most;
        (0..count).map(|_| PARTS[(next() % 16) as usize]).collect()
    };
    (0..count)
        .map(|number| {
            let epoch = if number % 5 == 0 { format!("{}:", number % 3) } else { String::new() };
            let release = if number % 4 == 0 { String::new() } else { format!("-{}", part(3)) };
            format!("{epoch}1{}{release}", part(4))
        })
        .collect()
}

#[test]
fn versions_compare_as_dpkg_and_rpm_compare_them() -> Result<()> {
    use elevon_policy::application::PackageSystem::{Dpkg, Rpm};
    use elevon_policy::version::{at_least, is_version};
    let versions = versions(400);
    let mut compared = (0, 0);
    let mut script = String::new();
    let mut pairs = Vec::new();
    for pair in versions.chunks_exact(2) {
        let (one, two) = (pair[0].as_str(), pair[1].as_str());
        if is_version(Dpkg, one) && is_version(Dpkg, two) {
            let told = Command::new("dpkg").args(["--compare-versions", one, "ge", two]).status()?.success();
            assert_eq!(at_least(Dpkg, one, two), told, "{one} at least {two}, to dpkg");
            compared.0 += 1;
        }
        // To rpm a version without a release is any release; its own comparison takes both or none.
        if is_version(Rpm, one) && is_version(Rpm, two) && one.contains('-') == two.contains('-') {
            script += &format!("print(rpm.vercmp('{one}', '{two}') .. ' ')\n");
            pairs.push((one, two));
        }
    }
    let told = must(Command::new("rpm").arg("--eval").arg(format!("%{{lua:\n{script}}}")), b"")?;
    for ((one, two), order) in pairs.iter().zip(told.split_whitespace()) {
        assert_eq!(at_least(Rpm, one, two), order != "-1", "{one} at least {two}, to rpm");
        compared.1 += 1;
    }
    assert!(compared.0 > 50 && compared.1 > 50, "{compared:?} pairs were compared");
    Ok(())
}
