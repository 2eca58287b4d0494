//! Programs that are kept to less than root may do, for the cases that try to get out: a policy of their own, and perl, which
//! can ask the kernel for anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use elevon_e2e::policy::{brisk_terms, folder, privileged};
use elevon_e2e::program::{Program, Ran, run};
use elevon_e2e::site::Site;
use elevon_policy::bounds::{Bounds, Children, Containment, Display, Limits};
use elevon_policy::lists::{RunsAs, Terms, Way};
use elevon_policy::rule::Rule;
use elevon_policy::text::OsText;

use crate::ground::{Ground, Said};

/// The folders of the site's programs whose programs are kept: contained root, and the same under a limit; contained and the
/// same user; root, and the same user, without children; the same user with a capability; root, and the same user, on the
/// user's display; lists that cannot be kept.
const FOLDERS: [&str; 11] = [
    "contained",
    "limited",
    "contained-user",
    "alone",
    "contained-alone",
    "capable",
    "capable-alone",
    "on-display",
    "user-on-display",
    "by-link",
    "by-others",
];

/// What is in each: perl, a shell, and the rig's own.
const PROGRAMS: [&str; 3] = ["/usr/bin/perl", "/usr/bin/bash", "/usr/bin/tty"];

/// Deploys the policy, and lays the programs there.
pub(crate) fn set(site: &Site) -> Result<()> {
    let (data, open) = (site.programs.join("data"), site.programs.join("open"));
    for (path, mode) in [(&data, 0o755), (&open, 0o777)] {
        fs::create_dir(path)?;
        fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    let hers = site.programs.join("hers");
    fs::create_dir(&hers)?;
    chown(&hers, Some(site.alice.uid), Some(site.alice.gid))?;
    symlink(&data, site.programs.join("data-link"))?;
    let rules = FOLDERS.iter().map(|name| {
        let (runs_as, bounds) = terms(site, name)?;
        let terms = Some(Terms { runs_as, bounds, ..brisk_terms() });
        Ok(Rule { elevate: Some(Way::Automatic), terms, ..folder(&site.programs.join(name), false)? })
    });
    site.deploy(&privileged("What is kept to less than root may do", rules.collect::<Result<_>>()?)?)?;
    let kept = site.programs.join("kept");
    fs::create_dir(&kept)?;
    for program in ["probe", "evil", "restless"] {
        site.install("kept", program)?;
    }
    for program in PROGRAMS {
        fs::copy(program, kept.join(Path::new(program).file_name().unwrap_or_default()))?;
    }
    for name in FOLDERS {
        let to = site.programs.join(name);
        fs::create_dir(&to)?;
        for program in fs::read_dir(&kept)? {
            let program = program?;
            fs::hard_link(program.path(), to.join(program.file_name()))?;
        }
    }
    Ok(())
}

fn terms(site: &Site, name: &str) -> Result<(RunsAs, Bounds)> {
    let to = |folders: &[&str]| Containment::Contained {
        writable: folders
            .iter()
            .map(|folder| OsText::from(site.programs.join(folder).to_string_lossy().as_ref()))
            .collect(),
    };
    let net_raw = "net_raw".parse()?;
    let alone = Bounds { children: Children::Denied, ..Bounds::default() };
    let shown = Bounds { display: Display::OfTheUser, ..Bounds::default() };
    let contained = Bounds {
        containment: to(&["data"]),
        capabilities: "chown, dac_override, fowner, kill, setuid, setgid, net_raw".parse()?,
        ..Bounds::default()
    };
    Ok(match name {
        "contained" => (RunsAs::Root, contained),
        "limited" => {
            let limits = Limits { processes: Some(24), memory: Some(96 << 20) };
            (RunsAs::Root, Bounds { limits, ..contained })
        }
        "contained-user" => (
            RunsAs::SameUser,
            Bounds { containment: to(&["hers"]), capabilities: net_raw, ..Bounds::default() },
        ),
        "alone" => (RunsAs::Root, alone),
        "contained-alone" => (RunsAs::Root, Bounds { children: Children::Denied, ..contained }),
        "capable" => (RunsAs::SameUser, Bounds { capabilities: net_raw, ..Bounds::default() }),
        "capable-alone" => (RunsAs::SameUser, Bounds { capabilities: net_raw, ..alone }),
        "on-display" => (RunsAs::Root, shown),
        "user-on-display" => (RunsAs::SameUser, Bounds { capabilities: net_raw, ..shown }),
        "by-link" => (RunsAs::Root, Bounds { containment: to(&["data-link"]), ..Bounds::default() }),
        _ => (RunsAs::Root, Bounds { containment: to(&["data", "open"]), ..Bounds::default() }),
    })
}

/// What every script begins with: `try NAME, sub { … }` says whether it went well, `ask NUMBER, …` asks the kernel.
const PRELUDE: &str = r#"use strict; use warnings; use Socket; use Fcntl; $| = 1;
sub try { my ($name, $act) = @_; $! = 0; my $well = eval { $act->() }; print "$name: ", ($well ? "done" : "no (" . ($! + 0) . ")"), "\n"; }
sub ask { my ($number, @with) = @_; return syscall($number, @with) != -1; }
sub put { my $path = shift; open(my $file, ">>", $path) or return 0; print $file "evil\n"; return close $file; }
sub reach { my $name = shift; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or return 0; return connect($s, $name =~ /^@/ ? pack("Sa*", AF_UNIX, "\0" . substr($name, 1)) : pack_sockaddr_un($name)); }
"#;

impl Ground {
    /// Where kept programs may write.
    pub(crate) fn data(&self) -> PathBuf {
        self.site.programs.join("data")
    }

    /// A file of root's that no case may change, beside the canary: it is changed again and again, so each case has its own.
    pub(crate) fn bait(&self, name: &str) -> Result<String> {
        let path = self.site.programs.join(name);
        fs::write(&path, "bait\n")?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// `elevon run -- …` as alice, in the root folder, which every kept program sees.
    pub(crate) fn kept_command(&self, command: &[&str]) -> Result<Command> {
        let mut command = self.site.elevon(&self.site.alice, &[&["run", "--"], command].concat())?;
        command.current_dir("/");
        Ok(command)
    }

    /// The same, to its end.
    pub(crate) fn kept(&self, command: &[&str]) -> Result<Ran> {
        run(&mut self.kept_command(command)?, b"")
    }

    /// The same, left running.
    pub(crate) fn kept_running(&self, command: &[&str]) -> Result<Program> {
        Program::start("elevon", &mut self.kept_command(command)?, &self.site.tree.join("logs"))
    }

    /// A script for perl, run from this folder of the site's programs.
    pub(crate) fn perl(&self, folder: &str, script: &str) -> Result<Tried> {
        let perl = self.path(&format!("{folder}/perl"));
        let said = Said(self.kept(&[&perl, "-e", &format!("{PRELUDE}{script}")])?);
        Ok(Tried(said))
    }

    /// The same script, for a program to be started with.
    pub(crate) fn script(script: &str) -> String {
        format!("{PRELUDE}{script}")
    }
}

/// What a script tried.
#[derive(Debug)]
pub(crate) struct Tried(pub(crate) Said);

impl Tried {
    /// All of it failed, and it was so many things.
    pub(crate) fn all_failed(&self, tries: usize) -> Result<()> {
        let lines = self.outcomes();
        ensure!(lines.len() == tries, "{} of {tries} tried: {}", lines.len(), self.0.text());
        match lines.iter().find(|(_, outcome)| !outcome.starts_with("no")) {
            Some((name, outcome)) => anyhow::bail!("{name}: {outcome}\n{}", self.0.text()),
            None => Ok(()),
        }
    }

    /// This went well: whatever fails beside it does not fail because nothing works.
    pub(crate) fn did(&self, name: &str) -> Result<()> {
        let done = self.outcomes().iter().any(|(tried, outcome)| tried == name && outcome == "done");
        ensure!(done, "{name} was not done: {}", self.0.text());
        Ok(())
    }

    /// This failed.
    pub(crate) fn failed(&self, name: &str) -> Result<()> {
        let failed =
            self.outcomes().iter().any(|(tried, outcome)| tried == name && outcome.starts_with("no"));
        ensure!(failed, "{name} did not fail: {}", self.0.text());
        Ok(())
    }

    /// This failed with this error of the kernel's.
    pub(crate) fn failed_with(&self, name: &str, errno: i32) -> Result<()> {
        let expected = format!("no ({errno})");
        let failed = self.outcomes().iter().any(|(tried, outcome)| tried == name && *outcome == expected);
        ensure!(failed, "{name} did not fail with {errno}: {}", self.0.text());
        Ok(())
    }

    fn outcomes(&self) -> Vec<(String, String)> {
        let text = self.0.0.text();
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
            .collect()
    }
}
