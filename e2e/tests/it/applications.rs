//! Which application it is, in terms that survive updates and cannot be faked: real Debian programs, their copies, links and
//! namesakes, and a package that is installed, modified and updated for the test.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::binaries::binary;
use elevon_e2e::policy::{folder, hash_of, privileged, rule};
use elevon_e2e::program::must;
use elevon_e2e::site::Site;
use elevon_policy::lists::Way;
use elevon_policy::rule::{Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use serde_json::Value;

fn vendor(name: &str, verified: bool) -> Result<Rule> {
    rule(Recognises::Vendor { vendor: Text::new(name), verified })
}

fn product(product: &str, vendor: &str) -> Result<Rule> {
    rule(Recognises::Product { product: Text::new(product), vendor: Text::new(vendor) })
}

fn executable(product: &str, vendor: &str, file_name: &str) -> Result<Rule> {
    rule(Recognises::VerifiedExecutable {
        product: Text::new(product),
        vendor: Text::new(vendor),
        file_name: OsText::from(file_name),
    })
}

fn automatic(rules: Vec<Rule>) -> Vec<Rule> {
    rules.into_iter().map(|rule| Rule { elevate: Some(Way::Automatic), ..rule }).collect()
}

/// What `elevon explain` says, as JSON.
fn explained(site: &Site, path: &Path) -> Result<Value> {
    let path = path.to_str().context("a path that is text")?;
    let json = site.alice_runs(&["explain", "--json", "--", path])?.expect(0);
    Ok(serde_json::from_slice(&json.out)?)
}

/// How narrow the rule is that lets it through, or why it is refused.
fn word(site: &Site, path: &Path) -> Result<String> {
    let json = explained(site, path)?;
    let verdict = &json["decision"]["verdict"];
    let word = verdict["offer"]["specificity"].as_str().or_else(|| verdict["refusal"]["type"].as_str());
    Ok(word.with_context(|| json.to_string())?.to_owned())
}

/// It runs, as root, and says so.
fn runs(site: &Site, command: &[&str], prints: &str) -> Result<()> {
    let ran = site.alice_runs(&[&["run", "--"], command].concat())?.expect(0);
    ensure!(ran.text().contains(prints), "{command:?} printed {}", ran.text());
    Ok(())
}

/// It does not, and nothing of it did.
fn refused(site: &Site, path: &Path) -> Result<()> {
    let ran = site.alice_runs(&["run", "--", path.to_str().context("a path that is text")?])?.expect(126);
    ensure!(ran.out.is_empty(), "{} printed {}", path.display(), ran.text());
    Ok(())
}

fn put(to: PathBuf, bytes: &[u8]) -> Result<PathBuf> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::write(&to, bytes)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    Ok(to)
}

/// Everything that looks like the program and is not: a renamed copy, the same name elsewhere, a modified copy, a copy in
/// /tmp, a hard link, and another program of that name. The bool says whether the bytes are the same.
fn impostors(site: &Site, program: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let bytes = fs::read(program)?;
    let name = program.file_name().context("a program has a name")?;
    let places = site.programs.join("impostors").join(name);
    let modified = [bytes.as_slice(), b"\0"].concat();
    let in_tmp = put(site.alice.home.join("copies").join(name), &bytes)?;
    chown(&in_tmp, Some(site.alice.uid), Some(site.alice.gid))?;
    let link = places.join("linked").join(name);
    fs::create_dir_all(link.parent().context("it lies in a folder")?)?;
    fs::hard_link(program, &link).context("link to a program")?;
    Ok(vec![
        (put(places.join("renamed/tool"), &bytes)?, true),
        (put(places.join("copied").join(name), &bytes)?, true),
        (put(places.join("modified").join(name), &modified)?, false),
        (in_tmp, true),
        (link, true),
        (put(places.join("namesake").join(name), &fs::read(binary("evil")?)?)?, false),
    ])
}

#[test]
fn each_kind_of_rule_lets_the_right_debian_program_through() -> Result<()> {
    let site = Site::start()?;
    let rules = vec![
        product("coreutils", "Debian")?,
        executable("util-linux", "Debian", "findmnt")?,
        hash_of(&fs::canonicalize("/usr/bin/getent")?)?,
        folder(Path::new("/usr/sbin"), false)?,
    ];
    site.deploy(&privileged("Debian's", automatic(rules))?)?;
    let apt = explained(&site, Path::new("/usr/bin/apt-get"))?;
    let package = &apt["application"]["package"];
    assert_eq!(package["vendor"]["verified"], true, "`apt-get update` fills apt's lists: {apt}");
    assert_eq!((&package["name"], &package["unmodified"]), (&Value::from("apt"), &Value::from(true)));

    for (program, arguments, prints, how) in [
        ("/usr/bin/id", &["-u"][..], "0", "product"),
        ("/usr/bin/findmnt", &["--version"], "findmnt", "verified_executable"),
        ("/usr/bin/getent", &["passwd", "root"], "root:", "file_hash"),
        ("/usr/sbin/ldconfig", &["--version"], "ldconfig", "folder_path"),
    ] {
        assert_eq!(word(&site, Path::new(program))?, how, "{program}");
        runs(&site, &[&[program], arguments].concat(), prints)?;
        for (impostor, same_bytes) in impostors(&site, Path::new(program))? {
            // The same bytes are the same application to a rule about bytes, and to no other.
            let expected = if how == "file_hash" && same_bytes { "file_hash" } else { "not_listed" };
            assert_eq!(word(&site, &impostor)?, expected, "{}", impostor.display());
            if expected == "not_listed" {
                refused(&site, &impostor)?;
            }
        }
    }
    // Other programs of the same package, and other packages by the same vendor.
    assert_eq!(word(&site, Path::new("/usr/bin/lsblk"))?, "not_listed");
    refused(&site, Path::new("/usr/bin/apt-get"))?;

    site.deploy(&privileged("All of Debian", automatic(vec![vendor("Debian", true)?]))?)?;
    for program in ["/usr/bin/apt-get", "/usr/bin/lsblk"] {
        assert_eq!(word(&site, Path::new(program))?, "vendor", "{program}");
        runs(&site, &[program, "--version"], "")?;
    }
    // By way of a link; and where /bin is one, dpkg may have recorded another name.
    runs(&site, &["/bin/lsblk", "--version"], "lsblk")?;
    for (impostor, _) in impostors(&site, Path::new("/usr/bin/lsblk"))? {
        assert_eq!(word(&site, &impostor)?, "not_listed", "{}", impostor.display());
        refused(&site, &impostor)?;
    }
    Ok(())
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

/// Where rpm keeps its database on the distributions that use it, and where the elevator looks for one.
const RPM_DATABASE: &str = "/var/lib/rpm";

/// A package that rpm really installed, into a database of its own making; gone when dropped.
struct RpmPackage {
    name: String,
    program: PathBuf,
    had_database: bool,
}

impl RpmPackage {
    fn install(site: &Site) -> Result<Self> {
        let had_database = Path::new(RPM_DATABASE).join("rpmdb.sqlite").exists();
        let mark = site.programs.file_name().context("a site has a name")?.to_string_lossy().into_owned();
        let (name, build) = (format!("{mark}-rpm"), site.tree.join("rpm"));
        let program = PathBuf::from("/usr/lib").join(&name).join("tool");
        let good = put(build.join("good"), &fs::read(binary("good")?)?)?;
        let spec = put(
            build.join("tool.spec"),
            format!(
                "Name: {name}\nVersion: 1.10\nRelease: 1.test\nSummary: for a test\nLicense: none\nVendor: Elevon tests\n\
%description\nfor a test\n%install\ninstall -D -m 755 {good} %{{buildroot}}{program}\n%files\n{program}\n\
%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n",
                good = good.display(),
                program = program.display()
            )
            .as_bytes(),
        )?;
        let place = |name: &str| format!("{name} {}", build.join("built").display());
        must(
            Command::new("rpmbuild")
                .args(["-bb", "--quiet", "--define", &place("_topdir"), "--define", &place("_rpmdir")])
                .args(["--define", "_build_name_fmt tool.rpm"])
                .arg(&spec),
            b"",
        )?;
        let package = Self { name, program, had_database };
        let rpm = build.join("built/tool.rpm");
        must(package.rpm().args(["--install", "--nodeps"]).arg(rpm), b"")?;
        Ok(package)
    }

    fn rpm(&self) -> Command {
        let mut rpm = Command::new("rpm");
        rpm.args(["--dbpath", RPM_DATABASE]);
        rpm
    }
}

impl Drop for RpmPackage {
    fn drop(&mut self) {
        // It may be removed already.
        let _ = must(self.rpm().args(["--erase", "--nodeps", &self.name]), b"");
        let _ = fs::remove_dir_all(self.program.parent().unwrap_or(Path::new("/nonexistent")));
        for file in ["rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-shm", ".rpm.lock"] {
            if !self.had_database {
                let _ = fs::remove_file(Path::new(RPM_DATABASE).join(file));
            }
        }
    }
}

#[test]
fn each_kind_of_rule_lets_the_right_program_of_an_rpm_through() -> Result<()> {
    let site = Site::start()?;
    let package = RpmPackage::install(&site)?;
    let program = package.program.to_str().context("a path that is text")?;
    let impostors = impostors(&site, &package.program)?;
    for (name, rule, how) in [
        ("Vendor", vendor("Elevon tests", false)?, "vendor"),
        ("Product", product(&package.name, "Elevon tests")?, "product"),
        ("Executable", executable(&package.name, "Elevon tests", "tool")?, "verified_executable"),
        ("Hash", hash_of(&package.program)?, "file_hash"),
    ] {
        // Each is narrower than the one before, and wins.
        let rule = Rule { minimum_version: Some(Text::new("1.9")), ..rule };
        site.deploy(&privileged(name, automatic(vec![rule]))?)?;
        assert_eq!(word(&site, &package.program)?, how);
        runs(&site, &[program], "good uid=0")?;
        for (impostor, _) in &impostors {
            // Not even the same bytes: no package says which version they are.
            assert_eq!(word(&site, impostor)?, "not_listed", "{how}: {}", impostor.display());
            refused(&site, impostor)?;
        }
    }
    let json = explained(&site, &package.program)?;
    assert_eq!(json["application"]["package"]["version"], "1.10-1.test", "{json}");
    let original = fs::read(&package.program)?;
    fs::OpenOptions::new().append(true).open(&package.program)?.write_all(b"\0")?;
    refused(&site, &package.program)?;
    put(package.program.clone(), &original)?;
    runs(&site, &[program], "good uid=0")?;
    must(package.rpm().args(["--erase", "--nodeps", &package.name]), b"")?;
    put(package.program.clone(), &original)?;
    refused(&site, &package.program)?;
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
