//! Windows Installer packages: compound files ([MS-CFB]) whose streams are signed, and whose summary says what they install.
//!
//! What is signed is the content of every stream and storage, in the order of their names; and, where the package has a
//! stream `MsiDigitalSignatureEx`, also those names, sizes and times. How the digest is made is not published; it is as
//! `osslsigncode` (msi.c) makes it. Room in the file that belongs to no stream is signed by nobody, and read by nobody.

use std::io::{Cursor, Read};
use std::time::{Duration, UNIX_EPOCH};

use cfb::{CompoundFile, Entry};
use elevon_policy::text::Text;
use ring::digest::Context;

use super::authenticode::{Signature, verify_data};
use super::chain::Trust;
use super::cms::{Digest, SignedData};
use super::der::Element;
use super::pe::{word16, word32};
use super::{Refusal, der};

/// It is no package that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMsi;

impl std::fmt::Display for NotMsi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is no Windows Installer package that can be read")
    }
}

impl std::error::Error for NotMsi {}

/// A package.
#[derive(Debug)]
pub struct Msi<'a> {
    file: CompoundFile<Cursor<&'a [u8]>>,
}

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The product.
    pub product: Option<Text>,
    /// Who made it.
    pub author: Option<Text>,
    /// The package's own code, which no other package has.
    pub package: Option<Text>,
}

const SUMMARY: &str = "\u{5}SummaryInformation";
const SIGNATURE: &str = "\u{5}DigitalSignature";
const SIGNED_NAMES: &str = "\u{5}MsiDigitalSignatureEx";

/// Larger summaries and signatures are not read, in bytes.
const MAX_SMALL: u64 = 1 << 20;
/// Storages lie in storages no deeper than this.
const MAX_DEPTH: usize = 16;

impl<'a> Msi<'a> {
    /// Reads the file's tables.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotMsi> {
        CompoundFile::open(Cursor::new(bytes)).map(|file| Self { file }).map_err(|_| NotMsi)
    }

    /// What it says of itself; what cannot be read is not there.
    pub fn summary(&mut self) -> Summary {
        let stream = self.small(SUMMARY).unwrap_or_default();
        let text = |number| property(&stream, number).map(Text::new);
        Summary { product: text(3), author: text(4), package: text(9) }
    }

    /// Verifies its signature: that it is of these very streams, and that its signer can be believed.
    pub fn verify(&mut self, trust: &Trust<'_>) -> Result<Signature, Refusal> {
        let stream = self.small(SIGNATURE).ok_or(Refusal::NotSigned)?;
        let signature = Element::first_of(&stream)?;
        if signature.whole.len() != stream.len() || signature.tag != der::SEQUENCE {
            return Err(Refusal::BytesAppended);
        }
        let data = SignedData::read(signature)?;
        let names = self.small(SIGNED_NAMES);
        let mut unreadable = false;
        let signed = verify_data(&data, trust, |digest| {
            let found = self.digest(digest, names.as_deref());
            unreadable = found.is_none();
            found.unwrap_or_default()
        });
        if unreadable { Err(Refusal::Malformed("streams that can be read")) } else { signed }
    }

    /// A stream at the root, where it is there and small.
    fn small(&mut self, name: &str) -> Option<Vec<u8>> {
        let mut stream = self.file.open_stream(name).ok().filter(|stream| stream.len() <= MAX_SMALL)?;
        let mut content = Vec::new();
        stream.read_to_end(&mut content).ok()?;
        Some(content)
    }

    fn digest(&mut self, digest: Digest, names: Option<&[u8]>) -> Option<Vec<u8>> {
        let root = self.file.root_entry();
        let mut context = digest.context();
        if let Some(names) = names {
            let mut told = digest.context();
            self.tell(&root, &mut told, 0)?;
            let told = told.finish();
            if told.as_ref() != names {
                return Some(Vec::new());
            }
            context.update(told.as_ref());
        }
        self.hash(&root, &mut context, 0)?;
        Some(context.finish().as_ref().to_vec())
    }

    /// Contents, a storage's class after all that is in it.
    fn hash(&mut self, storage: &Entry, context: &mut Context, depth: usize) -> Option<()> {
        for entry in self.inside(storage, depth)? {
            if entry.is_stream() {
                let mut stream = self.file.open_stream(entry.path()).ok()?;
                let mut piece = vec![0; 64 << 10];
                loop {
                    match stream.read(&mut piece).ok()? {
                        0 => break,
                        length => context.update(piece.get(..length)?),
                    }
                }
            } else {
                self.hash(&entry, context, depth + 1)?;
            }
        }
        context.update(&storage.clsid().to_bytes_le());
        Some(())
    }

    /// Names, sizes, classes and times, a storage's own before all that is in it.
    fn tell(&mut self, entry: &Entry, context: &mut Context, depth: usize) -> Option<()> {
        if !entry.is_root() {
            context.update(&units(entry.name()));
        }
        if entry.is_stream() {
            context.update(&u32::try_from(entry.len()).ok()?.to_le_bytes());
        } else {
            context.update(&entry.clsid().to_bytes_le());
        }
        context.update(&entry.state_bits().to_le_bytes());
        if !entry.is_root() {
            for time in [entry.created(), entry.modified()] {
                let since = time.duration_since(UNIX_EPOCH).map_err(|before| before.duration());
                context.update(&file_time(since).to_le_bytes());
            }
        }
        if entry.is_stream() {
            return Some(());
        }
        for inner in self.inside(entry, depth)? {
            self.tell(&inner, context, depth + 1)?;
        }
        Some(())
    }

    /// What is in a storage, but for the signature itself, in the order of the bytes of their names.
    fn inside(&self, storage: &Entry, depth: usize) -> Option<Vec<Entry>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let of_signature = |entry: &Entry| depth == 0 && [SIGNATURE, SIGNED_NAMES].contains(&entry.name());
        let entries = self.file.read_storage(storage.path()).ok()?;
        let mut entries: Vec<_> = entries.filter(|entry| !of_signature(entry)).collect();
        // With the zero at their end: of two that begin alike the shorter comes first.
        entries.sort_by_cached_key(|entry| [units(entry.name()), vec![0, 0]].concat());
        Some(entries)
    }
}

fn units(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// In steps of 100 ns since 1601, from a time after or before 1970.
fn file_time(since: Result<Duration, Duration>) -> u64 {
    const UNIX: i128 = 116_444_736_000_000_000;
    let steps = |span: Duration| i128::try_from(span.as_nanos() / 100).unwrap_or(i128::MAX);
    let since = since.map_or_else(|before| -steps(before), steps);
    u64::try_from(UNIX.saturating_add(since)).unwrap_or(0)
}

/// A text of a property set ([MS-OLEPS]) by its number.
fn property(stream: &[u8], wanted: u32) -> Option<String> {
    const TEXT: u32 = 30;
    const MAX_PROPERTIES: u32 = 256;
    if word16(stream, 0)? != 0xfffe {
        return None;
    }
    let section = stream.get(word32(stream, 44)? as usize..)?;
    let count = word32(section, 4)?.min(MAX_PROPERTIES) as usize;
    let entry = |at: usize| Some((word32(section, 8 + 8 * at)?, word32(section, 12 + 8 * at)?));
    let (_, at) = (0..count).map_while(entry).find(|(number, _)| *number == wanted)?;
    let value = section.get(at as usize..)?;
    if word32(value, 0)? != TEXT {
        return None;
    }
    let bytes = value.get(8..)?.get(..word32(value, 4)? as usize)?;
    // Of the old code pages only what they have in common with all others is read.
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\0').trim();
    (!text.is_empty()).then(|| text.to_owned())
}
