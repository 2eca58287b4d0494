//! What dpkg's database says (`/var/lib/dpkg`, deb822(5), dpkg-divert(1)): paragraphs of `status`, lines of
//! `info/*.list` and `info/*.md5sums`, and `diversions`. What is not of the form that dpkg writes says nothing.

mod names;
mod paragraph;

use elevon_policy::application::{Package, PackageSystem, Vendor};
use elevon_policy::text::Text;

pub use names::Names;
pub use paragraph::{Fields, fields};

use crate::package::{Recorded, hex};

/// An installed package, from its paragraph in `status`; or one yet to be installed, from its control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The binary package's name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// The source package it was made from.
    pub source: String,
    /// The vendor as the package itself names it: anybody can write that.
    pub claimed_vendor: Option<String>,
    /// Whether it can be installed for several architectures at once, which shows in the names of its files in `info/`.
    pub several_architectures: bool,
}

impl Installed {
    /// What its files in `info/` are called, without `.list` and so on.
    pub fn stem(&self) -> String {
        match self.several_architectures {
            true => format!("{}:{}", self.name, self.architecture),
            false => self.name.clone(),
        }
    }

    /// As a decision needs it; `verified` is the vendor that a signed index gives it.
    pub fn package(&self, verified: Option<&str>) -> Package {
        let claimed = self.claimed_vendor.as_deref().map(|name| (name, false));
        let vendor = verified.map(|name| (name, true)).or(claimed);
        Package {
            system: PackageSystem::Dpkg,
            name: Text::new(&self.name),
            product: Text::new(&self.source),
            version: Text::new(&self.version),
            vendor: vendor.map(|(name, verified)| Vendor { name: Text::new(name), verified }),
            unmodified: false,
        }
    }
}

/// Reads a paragraph of `status`; nothing where the package is not installed as a whole.
pub fn installed(paragraph: &[u8]) -> Option<Installed> {
    let fields = fields(paragraph)?;
    let mut status = fields.word("status")?.split(' ');
    let (_wanted, intact, state) = (status.next()?, status.next()?, status.next()?);
    if intact != "ok" || !["installed", "triggers-awaited", "triggers-pending"].contains(&state) {
        return None;
    }
    described(&fields)
}

/// Reads the control file of a package that is not installed yet.
pub fn control(file: &[u8]) -> Option<Installed> {
    described(&fields(file)?)
}

fn described(fields: &Fields<'_>) -> Option<Installed> {
    let name = fields.word("package").filter(|name| is_name(name))?.to_owned();
    let architecture = fields.word("architecture").filter(|name| is_name(name))?.to_owned();
    let source = match fields.word("source") {
        Some(source) => source.split(' ').next().filter(|name| is_name(name))?.to_owned(),
        None => name.clone(),
    };
    Some(Installed {
        architecture,
        version: fields.word("version").filter(|version| !version.is_empty())?.to_owned(),
        source,
        claimed_vendor: ["vendor", "origin"]
            .into_iter()
            .find_map(|field| fields.word(field).filter(|name| !name.is_empty()).map(str::to_owned)),
        several_architectures: fields.word("multi-arch") == Some("same"),
        name,
    })
}

/// The digest that a paragraph of `status` records of a configuration file, by the name under which it was recorded.
pub fn configuration_file(paragraph: &[u8], recorded: &[u8]) -> Option<Recorded> {
    let fields = fields(paragraph)?;
    let lines = fields.text("conffiles")?.split(|byte| *byte == b'\n');
    lines.map(<[u8]>::trim_ascii).find_map(|line| {
        let mut words = line.strip_prefix(recorded)?.strip_prefix(b" ")?.split(|byte| *byte == b' ');
        let digest = hex(words.next()?)?;
        words.next().is_none().then_some(Recorded::Md5(digest))
    })
}

/// A line of `info/*.md5sums`: the digest, and the file's recorded name without its first slash.
pub fn digest_line(line: &[u8]) -> Option<(Recorded, &[u8])> {
    let (digest, name) = line.split_at_checked(32)?;
    let name = name.strip_prefix(b"  ").filter(|name| !name.is_empty() && !name.starts_with(b"/"))?;
    Some((Recorded::Md5(hex(digest)?), name))
}

/// Of packages and architectures: they become parts of file names.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() < 200
        && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APT: &[u8] = b"Package: apt\nStatus: install ok installed\nPriority: required\n\
Maintainer: APT Development Team <deity@lists.debian.org>\nArchitecture: amd64\nVersion: 2.6.1\n\
Conffiles:\n /etc/apt/apt.conf.d/01autoremove ab6540f7278a05a4b7f9e58afcaa5f46\n \
/etc/cron.daily/apt 49e9b2cfa17849700d4db735d04244f3 obsolete\nDescription: commandline package manager\n \
Version: 9.9.9\n .\n more\n";

    #[test]
    fn an_installed_package_is_read() {
        let apt = installed(APT).expect("it is installed");
        assert_eq!((apt.name.as_str(), apt.source.as_str(), apt.version.as_str()), ("apt", "apt", "2.6.1"));
        assert_eq!(apt.stem(), "apt");
        assert_eq!(
            apt.package(Some("Debian")).vendor,
            Some(Vendor { name: Text::new("Debian"), verified: true })
        );
        assert_eq!(apt.package(None).vendor, None);
    }

    fn changed(from: &str, to: &str) -> Option<Installed> {
        installed(String::from_utf8_lossy(APT).replace(from, to).as_bytes())
    }

    #[test]
    fn source_vendor_and_architectures_are_read() {
        let libc =
            changed("Architecture", "Source: glibc (2.36-9)\nOrigin: Acme\nMulti-Arch: same\nArchitecture");
        let libc = libc.expect("it is installed");
        assert_eq!((libc.source.as_str(), libc.stem().as_str()), ("glibc", "apt:amd64"));
        assert_eq!(libc.package(None).vendor, Some(Vendor { name: Text::new("Acme"), verified: false }));
        assert_eq!(libc.package(Some("Debian")).vendor.expect("a vendor").name, Text::new("Debian"));
    }

    #[test]
    fn what_is_not_installed_as_a_whole_owns_nothing() {
        for state in [
            "deinstall ok config-files",
            "install reinstreq installed",
            "install ok half-installed",
            "install ok",
            "unpacked",
        ] {
            assert_eq!(changed("install ok installed", state), None, "{state}");
        }
        for (from, to) in [
            ("Package: apt\n", ""),
            ("Package: apt", "Package: ../apt"),
            ("Package: apt", "Package: a b"),
            ("Version: 2.6.1\n", ""),
            ("Version: 2.6.1\n", "Version: 1\nVersion: 2\n"),
            ("Package: apt", "Package apt"),
            ("Package: apt", "Package: apt\nSource: ../x"),
            ("Priority", "\n\nPriority"),
        ] {
            assert_eq!(changed(from, to), None, "{to}");
        }
        assert_eq!(installed(b""), None);
    }

    #[test]
    fn recorded_digests_are_read() {
        assert!(configuration_file(APT, b"/etc/apt/apt.conf.d/01autoremove").is_some());
        // An obsolete one belongs to the package no more.
        assert_eq!(configuration_file(APT, b"/etc/cron.daily/apt"), None);
        assert_eq!(configuration_file(APT, b"/etc/apt"), None);
        let (digest, name) = digest_line(b"a05db20a2f3adc9f4175c37140e62a2a  usr/bin/a b").expect("a line");
        assert!(matches!(digest, Recorded::Md5([0xa0, 0x5d, ..])) && name == b"usr/bin/a b");
        for bad in [
            &b""[..],
            b"a05d  usr/bin/x",
            b"a05db20a2f3adc9f4175c37140e62a2a usr/bin/x",
            b"a05db20a2f3adc9f4175c37140e62a2a  ",
            b"a05db20a2f3adc9f4175c37140e62a2a  /usr/bin/x",
            b"+05db20a2f3adc9f4175c37140e62a2a  usr/bin/x",
        ] {
            assert_eq!(digest_line(bad), None);
        }
    }
}
