//! The system's packages that tests need beyond a Rust toolchain and a C compiler.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::program::{find, is_root, program, run};

/// A package of Debian and Ubuntu, and the program that shows that it is there.
struct Package {
    name: &'static str,
    shown_by: Shown,
}

enum Shown {
    /// One of these programs.
    Program(&'static [&'static str]),
    /// PostgreSQL's server, which Debian keeps off the PATH.
    Postgres,
    /// A folder.
    Folder(&'static str),
    /// A file.
    File(&'static str),
}

const PACKAGES: [Package; 24] = [
    Package { name: "postgresql", shown_by: Shown::Postgres },
    Package {
        name: "chromium",
        shown_by: Shown::Program(&["chromium", "chromium-browser", "google-chrome"]),
    },
    Package { name: "chromium-driver", shown_by: Shown::Program(&["chromedriver"]) },
    // Without a font the browser draws boxes.
    Package { name: "fonts-dejavu-core", shown_by: Shown::Folder("/usr/share/fonts/truetype/dejavu") },
    Package { name: "sudo", shown_by: Shown::Program(&["sudo"]) },
    Package { name: "strace", shown_by: Shown::Program(&["strace"]) },
    Package { name: "faketime", shown_by: Shown::Program(&["faketime"]) },
    Package { name: "rpm", shown_by: Shown::Program(&["rpm", "rpmbuild"]) },
    Package { name: "vim", shown_by: Shown::Program(&["vim"]) },
    Package { name: "procps", shown_by: Shown::Program(&["top"]) },
    Package { name: "osslsigncode", shown_by: Shown::Program(&["osslsigncode"]) },
    Package { name: "ca-certificates", shown_by: Shown::Folder("/etc/ssl/certs") },
    Package { name: "polkitd", shown_by: Shown::Program(&["pkcheck"]) },
    Package { name: "dbus", shown_by: Shown::Program(&["dbus-daemon"]) },
    // Its actions are those that polkit is asked about.
    Package {
        name: "systemd",
        shown_by: Shown::File("/usr/share/polkit-1/actions/org.freedesktop.hostname1.policy"),
    },
    Package { name: "bash-completion", shown_by: Shown::Folder("/usr/share/bash-completion") },
    Package { name: "zsh", shown_by: Shown::Program(&["zsh"]) },
    Package { name: "fish", shown_by: Shown::Program(&["fish"]) },
    Package { name: "mandoc", shown_by: Shown::Program(&["mandoc"]) },
    Package { name: "xvfb", shown_by: Shown::Program(&["Xvfb"]) },
    Package { name: "x11-utils", shown_by: Shown::Program(&["xdpyinfo"]) },
    Package { name: "acl", shown_by: Shown::Program(&["setfacl"]) },
    Package { name: "passwd", shown_by: Shown::Program(&["useradd"]) },
    Package { name: "g++", shown_by: Shown::Program(&["g++", "c++", "clang++"]) },
];

/// What launches are measured beside.
const BESIDE_LAUNCHES: [Package; 6] = [
    Package { name: "sudo", shown_by: Shown::Program(&["sudo"]) },
    Package { name: "doas", shown_by: Shown::Program(&["doas"]) },
    Package { name: "pkexec", shown_by: Shown::Program(&["pkexec"]) },
    Package { name: "polkitd", shown_by: Shown::Program(&["pkcheck"]) },
    Package { name: "dbus", shown_by: Shown::Program(&["dbus-daemon"]) },
    // To build sudo-rs.
    Package { name: "libpam0g-dev", shown_by: Shown::Folder("/usr/include/security") },
];

impl Package {
    fn is_there(&self) -> bool {
        match self.shown_by {
            Shown::Program(names) => names.iter().any(|name| find(name).is_some()),
            Shown::Postgres => crate::postgres::programs().is_some(),
            Shown::File(path) => fs::metadata(path).is_ok_and(|file| file.is_file()),
            Shown::Folder(path) => fs::metadata(path).is_ok_and(|folder| folder.is_dir()),
        }
    }
}

/// Installs what is missing for the tests, or says exactly what to install.
pub(crate) fn provide() -> Result<()> {
    provide_all(&PACKAGES)
}

/// The same for what launches are measured beside.
pub(crate) fn provide_for_launches() -> Result<()> {
    provide_all(&BESIDE_LAUNCHES)
}

fn provide_all(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if missing.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install {}", missing.join(" "));
    if find("apt-get").is_none() {
        bail!(
            "these programs of Debian's packages are needed, and there is no apt-get to install them: {}",
            missing.join(" ")
        );
    }
    if !is_root() {
        bail!("system packages are missing; install them with `{by_hand}`, then run this again");
    }
    run(apt().arg("update")).context("bring the lists of packages up to date")?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("install system packages; by hand: `{by_hand}`"))?;
    let still: Vec<&str> =
        packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if !still.is_empty() {
        bail!("these packages are installed, yet their programs are not found: {}", still.join(" "));
    }
    Ok(())
}

fn apt() -> std::process::Command {
    let mut apt = program("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet=2", "--option=Dpkg::Use-Pty=0"]);
    apt
}
