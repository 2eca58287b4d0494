//! Each kind of rule, and what only looks like what it is for: real programs of this Debian, and a program that rpm installed. The
//! tables are printed (`--nocapture`), and are the test: each rule stands alone while its row is played.

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::binaries::binary;
use elevon_e2e::policy::{folder, hash_of, privileged, rule};
use elevon_e2e::program::must;
use elevon_e2e::site::Site;
use elevon_policy::rule::{Recognises, Rule};
use elevon_policy::text::Text;
use serde_json::Value;

use crate::applications::{automatic, executable, explained, product, put, refused, runs, vendor, word};

/// What looks like the program and is not.
const IMPOSTORS: [&str; 6] =
    ["renamed copy", "copy elsewhere", "modified copy", "copy in /tmp", "hard link", "same name"];

/// Each of [`IMPOSTORS`], and whether its bytes are the program's.
fn impostors(site: &Site, program: &Path) -> Result<[(PathBuf, bool); 6]> {
    let bytes = fs::read(program)?;
    let name = program.file_name().context("a program has a name")?;
    let places = site.programs.join("impostors").join(name);
    let modified = [bytes.as_slice(), b"\0"].concat();
    // As /tmp is, and below it: everybody may write there.
    let open = site.tree.join("open");
    let in_tmp = put(open.join(name), &bytes)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777))?;
    chown(&in_tmp, Some(site.alice.uid), Some(site.alice.gid))?;
    let link = places.join("linked").join(name);
    fs::create_dir_all(link.parent().context("it lies in a folder")?)?;
    if !link.exists() {
        fs::hard_link(program, &link).context("link to a program")?;
    }
    Ok([
        (put(places.join("renamed/tool"), &bytes)?, true),
        (put(places.join("copied").join(name), &bytes)?, true),
        (put(places.join("modified").join(name), &modified)?, false),
        (in_tmp, true),
        (link, true),
        (put(places.join("namesake").join(name), &fs::read(binary("evil")?)?)?, false),
    ])
}

/// The table.
#[derive(Default)]
struct Matrix {
    rows: Vec<(String, String, [String; 6])>,
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:26} {:44}", "rule", "the program itself")?;
        IMPOSTORS.iter().try_for_each(|impostor| write!(f, " {impostor:15}"))?;
        for (rule, itself, others) in &self.rows {
            write!(f, "\n{rule:26} {itself:44}")?;
            others.iter().try_for_each(|other| write!(f, " {other:15}"))?;
        }
        Ok(())
    }
}

/// A rule, how it is told of when it decides, and the command that it is for, with what that prints.
struct Row<'a> {
    rule: Rule,
    how: &'a str,
    command: &'a [&'a str],
    prints: &'a str,
    /// Whether it goes by bytes alone: then those of a copy are the same application, wherever they lie.
    by_bytes: bool,
}

impl Matrix {
    /// Only this rule is in force.
    fn play(&mut self, site: &Site, row: Row<'_>) -> Result<()> {
        let Row { rule, how, command, prints, by_bytes } = row;
        let program = Path::new(command.first().context("a command")?);
        let list = site.deploy(&privileged(&format!("By {how}"), automatic(vec![rule]))?)?;
        ensure!(word(site, program)? == how, "{how}: {}", explained(site, program)?);
        runs(site, command, prints).with_context(|| how.to_owned())?;
        let mut others = Vec::new();
        for ((impostor, same_bytes), looks_like) in impostors(site, program)?.iter().zip(IMPOSTORS) {
            let path = impostor.to_str().context("a path that is text")?;
            let told = word(site, impostor)?;
            others.push(if by_bytes && *same_bytes {
                ensure!(told == how, "{how}, {looks_like}: {told}");
                // By any other name it is the same bytes, and those run.
                runs(site, &[&[path], command.get(1..).unwrap_or_default()].concat(), prints)?;
                "same bytes: runs".to_owned()
            } else {
                ensure!(told == "not_listed", "{how}, {looks_like}: {}", explained(site, impostor)?);
                refused(site, impostor).with_context(|| format!("{how}, {looks_like}"))?;
                "refused".to_owned()
            });
        }
        let others = <[String; 6]>::try_from(others).ok().context("one for each")?;
        self.rows.push((how.to_owned(), format!("{} runs", program.display()), others));
        site.api.post(&format!("privileged-application-lists/{list}/withdraw"), &serde_json::json!({}))?;
        Ok(())
    }
}

#[test]
fn each_kind_of_rule_lets_the_right_debian_program_through() -> Result<()> {
    let site = Site::start()?;
    let apt = explained(&site, Path::new("/usr/bin/apt-get"))?;
    let package = &apt["application"]["package"];
    assert_eq!(package["vendor"]["verified"], true, "`apt-get update` fills apt's lists: {apt}");
    assert_eq!((&package["name"], &package["unmodified"]), (&Value::from("apt"), &Value::from(true)));
    let mut matrix = Matrix::default();
    let rows = [
        (vendor("Debian", true)?, "vendor", &["/usr/bin/apt-get", "--version"][..], "apt "),
        (product("coreutils", "Debian")?, "product", &["/usr/bin/id", "-u"], "0"),
        (
            executable("systemd", "Debian", "systemctl")?,
            "verified_executable",
            &["/usr/bin/systemctl", "--version"],
            "systemd ",
        ),
        (
            hash_of(&fs::canonicalize("/usr/bin/getent")?)?,
            "file_hash",
            &["/usr/bin/getent", "passwd", "root"],
            "root:",
        ),
        (
            folder(Path::new("/usr/sbin"), false)?,
            "folder_path",
            &["/usr/sbin/ldconfig", "--version"],
            "ldconfig",
        ),
    ];
    for (rule, how, command, prints) in rows {
        matrix.play(&site, Row { rule, how, command, prints, by_bytes: how == "file_hash" })?;
    }
    println!("{matrix}");
    // Other programs of the same package, and other packages by the same vendor.
    site.deploy(&privileged("findmnt", automatic(vec![executable("util-linux", "Debian", "findmnt")?]))?)?;
    assert_eq!(word(&site, Path::new("/usr/bin/findmnt"))?, "verified_executable");
    assert_eq!(word(&site, Path::new("/usr/bin/lsblk"))?, "not_listed");
    refused(&site, Path::new("/usr/bin/apt-get"))?;
    // By way of a link; and where /bin is one, dpkg may have recorded another name.
    site.deploy(&privileged("All of Debian", automatic(vec![vendor("Debian", true)?]))?)?;
    runs(&site, &["/bin/lsblk", "--version"], "lsblk")?;
    Ok(())
}

const SET_NAME: &str = "org.freedesktop.hostname1.set-hostname";
const OF_THE_SAME_PACKAGE: &str = "org.freedesktop.hostname1.set-static-hostname";

/// A definition of an action among the system's own, which its owner could change; gone when dropped.
struct Definition(PathBuf);

impl Definition {
    fn lay(site: &Site, action: &str) -> Result<Self> {
        let path = format!("/usr/share/polkit-1/actions/{}.policy", site.alice.name);
        let text = format!("<policyconfig><action id=\"{action}\"><defaults/></action></policyconfig>\n");
        let definition = Self(PathBuf::from(path));
        fs::write(&definition.0, text)?;
        chown(&definition.0, Some(site.alice.uid), Some(site.alice.gid))?;
        Ok(definition)
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

#[test]
fn a_rule_by_component_lets_the_right_action_through() -> Result<()> {
    let site = Site::start()?;
    let by = |action: &str| rule(Recognises::Clsid { component: Text::new(action) });
    let planted = format!("org.elevon.{}.act", site.alice.name);
    let _definition = Definition::lay(&site, &planted)?;
    site.deploy(&privileged("By component", automatic(vec![by(SET_NAME)?, by(&planted)?]))?)?;
    let asks = |action: &str| site.alice_runs(&["run", "--component", action]);
    asks(SET_NAME)?.expect(0).says("polkit lets you do");
    let mut table = format!("{:20} {:34} {SET_NAME}: granted", "rule", "what is asked for");
    let upper = SET_NAME.to_uppercase();
    for (what, action, status) in [
        ("another action of it", OF_THE_SAME_PACKAGE, 126),
        ("hers to change", planted.as_str(), 127),
        ("other case", upper.as_str(), 127),
        ("its service's name", "org.freedesktop.hostname1", 127),
        ("its definition's path", "/usr/share/polkit-1/actions/org.freedesktop.hostname1.policy", 127),
    ] {
        let ran = asks(action)?.expect(status);
        ensure!(ran.out.is_empty(), "{action} printed {}", ran.text());
        table += &format!("\n{:20} {what:34} {action}: refused, {status}", "clsid");
    }
    // No rule by component is about a program, not even one of the same package.
    assert_eq!(word(&site, Path::new("/usr/bin/hostnamectl"))?, "not_listed");
    refused(&site, Path::new("/usr/bin/hostnamectl"))?;
    println!("{table}");
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
    let mut matrix = Matrix::default();
    let rows = [
        (vendor("Elevon tests", false)?, "vendor"),
        (product(&package.name, "Elevon tests")?, "product"),
        (executable(&package.name, "Elevon tests", "tool")?, "verified_executable"),
        (hash_of(&package.program)?, "file_hash"),
        (folder(package.program.parent().context("it lies in a folder")?, false)?, "folder_path"),
    ];
    for (rule, how) in rows {
        // With a minimum version not even the same bytes do: no package says which version they are.
        for minimum in [None, Some("1.9")] {
            let rule = Rule { minimum_version: minimum.map(Text::new), ..rule.clone() };
            let by_bytes = how == "file_hash" && minimum.is_none();
            let row = Row { rule, how, command: &[program], prints: "good uid=0", by_bytes };
            matrix.play(&site, row)?;
            if let (Some((rule, ..)), Some(minimum)) = (matrix.rows.last_mut(), minimum) {
                *rule += &format!(" ≥ {minimum}");
            }
        }
    }
    println!("{matrix}");
    site.deploy(&privileged("Ours", automatic(vec![vendor("Elevon tests", false)?]))?)?;
    let json = explained(&site, &package.program)?;
    assert_eq!(json["application"]["package"]["version"], "1.10-1.test", "{json}");
    let original = fs::read(&package.program)?;
    fs::write(&package.program, [original.as_slice(), b"\0"].concat())?;
    refused(&site, &package.program)?;
    put(package.program.clone(), &original)?;
    runs(&site, &[program], "good uid=0")?;
    must(package.rpm().args(["--erase", "--nodeps", &package.name]), b"")?;
    put(package.program.clone(), &original)?;
    refused(&site, &package.program)?;
    Ok(())
}
