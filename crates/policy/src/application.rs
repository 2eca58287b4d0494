//! What the endpoint measured about a program, and who wants to run it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{OsText, Text};

/// A SHA-256 digest; in text, 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The first and last digits, for a screen.
    pub fn short(&self) -> String {
        let hex = self.to_string();
        format!("{}…{}", hex.get(..6).unwrap_or_default(), hex.get(60..).unwrap_or_default())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Sha256 {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut digest = [0; 32];
        if text.len() != 64 {
            return Err(InvalidDigest);
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low).ok_or(InvalidDigest)?;
            *byte = u8::try_from(value).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Every record of a chain has one, and whole chains are read: no allocation where the text allows it.
        struct Reads;
        impl serde::de::Visitor<'_> for Reads {
            type Value = Sha256;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&InvalidDigest, f)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sha256, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Reads)
    }
}

/// The text is not a SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDigest;

impl fmt::Display for InvalidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a SHA-256 digest: 64 hexadecimal digits, as sha256sum prints it")
    }
}

impl std::error::Error for InvalidDigest {}

/// An operating-system account, as the kernel knows it: both the number and the name bind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The number.
    pub uid: u32,
    /// The name that number had when it was looked at.
    pub name: Text,
}

/// What was measured of the very file that would run; of a component, of the file that defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Absolute path without symbolic links.
    pub path: OsText,
    /// Digest of the bytes that would run; of the script, where it is one.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    /// The file's owner.
    pub owner: u32,
    /// The file's mode, permission and set-id bits.
    pub mode: u32,
    /// Whether anyone but root could have changed what the path leads to.
    pub lane: Lane,
    /// The program that reads it, where it is a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Interpreter>,
    /// What a package database says of it, where one owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// Whether the computer has a package database that Elevon reads: without one, no package means nothing.
    #[serde(default)]
    pub package_database: bool,
    /// What was asked for, where that is no program: then nothing runs, and all else here is about the file that defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
}

impl Application {
    /// What a person would call it: its file name, or the component's.
    pub fn name(&self) -> OsText {
        match &self.component {
            Some(component) => OsText::from(component.action.as_untrusted()),
            None if self.is_of_windows() => self.path.file_name_on_windows(),
            None => self.path.file_name(),
        }
    }

    fn is_of_windows(&self) -> bool {
        self.package.as_ref().is_some_and(|package| package.system == PackageSystem::Windows)
    }

    /// By what it is told from all others: its path, or the component's name.
    pub fn place(&self) -> OsText {
        if self.component.is_some() { self.name() } else { self.path.clone() }
    }
}

/// Something that a program lets others do, and asks about each time: a polkit action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Such as `org.freedesktop.packagekit.package-install`.
    pub action: Text,
    /// The D-Bus names that its package ships, each of which is shorthand for all actions of that package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Text>,
}

impl Component {
    /// Whether a rule that names this is about it.
    pub fn is_called(&self, name: &Text) -> bool {
        self.action == *name || self.services.contains(name)
    }
}

/// Whether a path can be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "lane", rename_all = "snake_case", deny_unknown_fields)]
pub enum Lane {
    /// Every component belongs to root and nobody else can write to it: the file itself is executed.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Trusted,
    /// Somebody else could change it: only its bytes count, and a sealed copy of them is executed.
    Untrusted {
        /// The component that could be changed.
        component: OsText,
        /// By what.
        because: Distrust,
    },
}

/// Why a component of a path cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distrust {
    /// Its owner is not root.
    Owner,
    /// Its mode lets a group or others write.
    Writable,
    /// An access control list lets someone else write.
    AccessList,
    /// It lies on a file system that is not a known local one.
    FileSystem,
    /// It lies on a mount whose owners prove nothing: mounted `nosuid`, as media that others filled are, or id-mapped.
    Mount,
    /// The path leads somewhere else by now.
    Moved,
}

impl Distrust {
    /// As the end of the sentence "`component` …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Owner => "does not belong to root",
            Self::Writable => "can be written to by others",
            Self::AccessList => "can be written to by others through an access control list",
            Self::FileSystem => "is not on a local file system that Elevon knows",
            Self::Mount => "is on a mount whose owners prove nothing (nosuid or id-mapped)",
            Self::Moved => "changed while it was being looked at",
        }
    }
}

/// The program that reads a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Absolute path without symbolic links; always trusted.
    pub path: OsText,
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// What the script's first line gives it as an argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<OsText>,
    /// What a package database says of it, where one owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
}

/// What a package database says of a file; of a file of Windows, what its signature and the file itself say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Whose database it is, and so how versions compare.
    pub system: PackageSystem,
    /// The binary package.
    pub name: Text,
    /// The source package: the product.
    pub product: Text,
    /// As the package system writes it.
    pub version: Text,
    /// Who made it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Vendor>,
    /// Whether the file equals what the package recorded; `false` also where it recorded nothing. Of a file of Windows whether
    /// its signature holds.
    pub unmodified: bool,
}

/// What vouches for a file: the package systems whose databases Elevon reads, and signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageSystem {
    /// Debian's and those of its descendants.
    Dpkg,
    /// Fedora's, SUSE's and others'.
    Rpm,
    /// No database: every file is signed by itself, and says in its version resource what it is.
    Windows,
}

/// Who made a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// As a signed index, or the package itself, names them.
    pub name: Text,
    /// Whether a signature stands behind the name.
    pub verified: bool,
}
