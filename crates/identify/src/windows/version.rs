//! The version resource: what a program says of itself. Nobody vouches for it but whoever signed the file.

use elevon_policy::text::Text;

use super::pe::{Pe, word16, word32};

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// `ProductName`
    pub product: Option<Text>,
    /// `CompanyName`
    pub company: Option<Text>,
    /// `FileDescription`
    pub description: Option<Text>,
    /// `OriginalFilename`
    pub file_name: Option<Text>,
    /// The version as four numbers, from the fixed part of the resource.
    pub version: Option<[u16; 4]>,
}

/// The type of the resource, `RT_VERSION`.
const VERSION: u32 = 16;
/// The fixed part begins with this.
const FIXED: u32 = 0xfeef_04bd;
/// Strings longer than this are cut, in UTF-16 units.
const MAX_STRING: usize = 1024;
/// So many blocks are looked at: a resource has some thirty.
const MAX_BLOCKS: usize = 512;

impl Version {
    /// Reads the first version resource; what cannot be read is not there.
    pub fn of(pe: &Pe<'_>) -> Self {
        let mut version = Self::default();
        let Some(resource) = resource(pe) else { return version };
        let mut blocks = MAX_BLOCKS;
        version.read(resource, 0, &mut blocks);
        version
    }

    /// A block has a length, the length of its value, its type, a name, the value, and blocks in it: the first has the fixed
    /// part as its value, then `StringFileInfo`, a table for each language, and the strings.
    fn read(&mut self, bytes: &[u8], depth: usize, blocks: &mut usize) {
        let mut rest = bytes;
        while let Some(block) = Block::first_of(rest) {
            let Some(left) = blocks.checked_sub(1) else { return };
            *blocks = left;
            match depth {
                0 => self.version = self.version.or_else(|| fixed(block.value)),
                3 => self.keep(&block),
                _ => {}
            }
            let strings = depth != 1 || block.name == "StringFileInfo";
            if depth < 3 && strings {
                self.read(block.inside, depth + 1, blocks);
            }
            if depth == 0 {
                return;
            }
            rest = block.after;
        }
    }

    fn keep(&mut self, string: &Block<'_>) {
        let place = match string.name.as_str() {
            "ProductName" => &mut self.product,
            "CompanyName" => &mut self.company,
            "FileDescription" => &mut self.description,
            "OriginalFilename" => &mut self.file_name,
            _ => return,
        };
        let text = utf16(string.value);
        let text = text.trim();
        if place.is_none() && !text.is_empty() {
            *place = Some(Text::new(text));
        }
    }
}

struct Block<'a> {
    name: String,
    value: &'a [u8],
    inside: &'a [u8],
    after: &'a [u8],
}

impl<'a> Block<'a> {
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
        const HEAD: usize = 6;
        let length = usize::from(word16(bytes, 0)?);
        let whole = bytes.get(..length).filter(|whole| whole.len() > HEAD)?;
        let text = word16(bytes, 4)? == 1;
        // The length of a text is in characters.
        let size = usize::from(word16(bytes, 2)?) * if text { 2 } else { 1 };
        let named = whole.get(HEAD..)?;
        let name = utf16(named);
        let units = named.chunks_exact(2).take(MAX_STRING).take_while(|unit| **unit != [0, 0]).count();
        let start = aligned(HEAD + 2 * (units + 1));
        let value = whole.get(start..).unwrap_or_default();
        let value = value.get(..size).unwrap_or(value);
        Some(Self {
            name,
            value,
            inside: whole.get(aligned(start + size)..).unwrap_or_default(),
            after: bytes.get(aligned(length)..).unwrap_or_default(),
        })
    }
}

fn aligned(at: usize) -> usize {
    at.next_multiple_of(4)
}

/// Text up to its end, or as long as it may be.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let units = units.take(MAX_STRING).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

fn fixed(value: &[u8]) -> Option<[u16; 4]> {
    if word32(value, 0)? != FIXED {
        return None;
    }
    Some([word16(value, 10)?, word16(value, 8)?, word16(value, 14)?, word16(value, 12)?])
}

/// The bytes of the first resource of this type: a tree of folders three deep, by type, name and language.
fn resource<'a>(pe: &Pe<'a>) -> Option<&'a [u8]> {
    let (resources, address) = pe.resources()?;
    let named = child(resources, 0, Some(VERSION))?;
    let language = child(resources, named, None)?;
    let leaf = child(resources, language, None)?;
    if leaf & FOLDER != 0 {
        return None;
    }
    let at = word32(resources, leaf as usize)?.checked_sub(address)? as usize;
    let size = word32(resources, leaf as usize + 4)? as usize;
    resources.get(at..)?.get(..size)
}

/// An entry that leads to another folder has this bit.
const FOLDER: u32 = 0x8000_0000;

/// Where an entry of a folder leads: the one of this number, or the first.
fn child(resources: &[u8], folder: u32, wanted: Option<u32>) -> Option<u32> {
    const HEAD: usize = 16;
    let folder = (folder & !FOLDER) as usize;
    let entries = usize::from(word16(resources, folder + 12)?) + usize::from(word16(resources, folder + 14)?);
    (0..entries)
        .map_while(|entry| {
            let at = folder + HEAD + 8 * entry;
            Some((word32(resources, at)?, word32(resources, at + 4)?))
        })
        .find(|(number, _)| wanted.is_none_or(|wanted| wanted == *number))
        .map(|(_, to)| to)
}
