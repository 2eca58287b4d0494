//! A whole file that somebody sends, so that rules are made of it: what it is, what stands behind it, and, where it is a
//! package, which programs it holds. Every byte of it may be an attacker's: whatever is counted, unpacked or kept has a bound,
//! and what cannot be read as a whole is refused with its cause.

mod contents;
mod cpio;
mod deb;
mod rpm;
mod unpack;
mod windows;

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use elevon_policy::application::{Package, Sha256};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::elf;
use crate::script::{self, shebang};
use crate::windows::Trust;

/// What was measured of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// Digest of the whole file.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    /// What it is.
    pub format: Format,
    /// Who reads it: of a script the program in its first line, of an ELF program its dynamic linker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<OsText>,
    /// What a package, or a file of Windows, says of itself, and whether anything stands behind that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// Who signed a file of Windows, or why nobody did who can be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signed>,
    /// The programs in a package, those in folders for programs first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Inside>,
    /// How many more programs are in it than are told.
    #[serde(default)]
    pub programs_left_out: u64,
    /// The components (polkit actions) that a package defines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Text>,
}

impl Upload {
    /// Of a file of which nothing else is known.
    fn of(measured: (Sha256, u64), format: Format) -> Self {
        Self {
            sha256: measured.0,
            size: measured.1,
            format,
            interpreter: None,
            package: None,
            signature: None,
            programs: Vec::new(),
            programs_left_out: 0,
            components: Vec::new(),
        }
    }

    /// How much it says of itself, in bytes.
    fn words(&self) -> usize {
        let length = |text: &Text| text.as_untrusted().len();
        let package = self.package.as_ref().map_or(0, |package| {
            let vendor = package.vendor.as_ref().map_or(0, |vendor| length(&vendor.name));
            length(&package.name) + length(&package.product) + length(&package.version) + vendor
        });
        let signature = match &self.signature {
            Some(Signed::Holds { publisher, issuer, .. }) => length(publisher) + length(issuer),
            Some(Signed::Refused { because, claims }) => length(because) + claims.as_ref().map_or(0, length),
            None => 0,
        };
        package + signature
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A program of Linux.
    Elf,
    /// A script that names who reads it.
    Script,
    /// A Debian package.
    Deb,
    /// An RPM package.
    Rpm,
    /// A program or library of Windows.
    WindowsProgram,
    /// A package of Windows Installer.
    WindowsInstaller,
}

/// A program in a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// Where the package lays it.
    pub path: OsText,
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
}

/// What became of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "signature", rename_all = "snake_case", deny_unknown_fields)]
pub enum Signed {
    /// It holds.
    Holds {
        /// Whom the certificate names.
        publisher: Text,
        /// Who says so.
        issuer: Text,
        /// SHA-256 of the certificate of the authority at the end of the way.
        authority: Sha256,
        /// When it was signed, where a time stamp says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed: Option<Timestamp>,
        /// The Authenticode digest, in hexadecimal digits.
        digest: String,
    },
    /// It does not, or there is none.
    Refused {
        /// Why, as a sentence about the file.
        because: Text,
        /// Whom it names, which nobody vouches for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claims: Option<Text>,
    },
}

/// Why a file could not be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotMeasured {
    /// It has no bytes.
    Empty,
    /// It begins like nothing that is known.
    Unknown,
    /// It is of a kind that is known, but broken or of a form that is not read: a sentence about it.
    Broken(String),
    /// The bytes could not be had.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Unknown => f.write_str(
                "it is neither a program nor a package that Elevon reads; expected an ELF program, a script that begins with #!, .deb, .rpm, .exe, .dll or .msi",
            ),
            Self::Broken(sentence) => f.write_str(sentence),
            Self::Unreadable(kind) => write!(f, "it could not be read: {kind}"),
        }
    }
}

impl std::error::Error for NotMeasured {}

impl From<io::Error> for NotMeasured {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.kind())
    }
}

fn broken(why: impl fmt::Display) -> NotMeasured {
    NotMeasured::Broken(why.to_string())
}

/// Names, versions and vendors of real packages come to some hundred bytes.
const MAX_WORDS: usize = 16 << 10;
/// The longest file that is measured, in bytes.
pub const LARGEST: u64 = 512 << 20;

/// Measures a file. Only files of Windows are held in memory as a whole; `trust` says whose signatures on them count.
pub fn measure(file: &mut (impl Read + Seek), trust: &Trust<'_>) -> Result<Upload, NotMeasured> {
    let size = file.seek(SeekFrom::End(0))?;
    if size > LARGEST {
        return Err(broken(format_args!("it has more than {} MB", LARGEST >> 20)));
    }
    let upload = by_format(file, size, trust)?;
    if upload.words() > MAX_WORDS {
        return Err(broken("what it says of itself is longer than any program or package says"));
    }
    Ok(upload)
}

fn by_format(file: &mut (impl Read + Seek), size: u64, trust: &Trust<'_>) -> Result<Upload, NotMeasured> {
    let head = piece(file, 0, script::HEAD)?;
    match head.as_slice() {
        [] => Err(NotMeasured::Empty),
        [0x7f, b'E', b'L', b'F', ..] => of_elf(file),
        [b'#', b'!', ..] => of_script(file, &head),
        [b'M', b'Z', ..] => windows::program(&whole(file, size)?, trust),
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => {
            windows::installer(&whole(file, size)?, trust)
        }
        head if head.starts_with(deb::MAGIC) => deb::package(file),
        head if head.starts_with(rpm::MAGIC) => rpm::package(file),
        _ => Err(NotMeasured::Unknown),
    }
}

fn of_elf(file: &mut (impl Read + Seek)) -> Result<Upload, NotMeasured> {
    let program = elf::read(|offset, length| piece(file, offset, length)).map_err(|unread| match unread {
        elf::Unread::NotElf(not) => broken(not),
        elf::Unread::Bytes(error) => error.into(),
    })?;
    Ok(Upload { interpreter: program.interpreter, ..Upload::of(digest(file)?, Format::Elf) })
}

fn of_script(file: &mut (impl Read + Seek), head: &[u8]) -> Result<Upload, NotMeasured> {
    let line = shebang(head).map_err(broken)?.ok_or(NotMeasured::Unknown)?;
    Ok(Upload { interpreter: Some(line.interpreter), ..Upload::of(digest(file)?, Format::Script) })
}

/// Up to so many bytes from there.
fn piece(file: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn whole(file: &mut (impl Read + Seek), size: u64) -> Result<Vec<u8>, NotMeasured> {
    let size = usize::try_from(size).map_err(|_| broken("it is too large for this computer"))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| broken("there is not enough memory to measure it"))?;
    file.rewind()?;
    file.take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Of the whole file.
fn digest(file: &mut (impl Read + Seek)) -> Result<(Sha256, u64), NotMeasured> {
    file.rewind()?;
    Ok(digest_of(file)?)
}

/// Of all that is left to read, and how much that is.
fn digest_of(content: &mut (impl Read + ?Sized)) -> io::Result<(Sha256, u64)> {
    let mut context = Context::new(&SHA256);
    let (mut bytes, mut size) = (vec![0; 64 << 10], 0);
    loop {
        let length = match content.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(bytes.get(..length).unwrap_or_default());
        size += length as u64;
    }
    Ok((finished(context), size))
}

fn finished(context: Context) -> Sha256 {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Sha256(digest)
}

#[cfg(test)]
mod tests;
