//! The layout of a PE file, as far as its signature and its version resource need it.

use std::ops::Range;

/// It is no PE file that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPe(pub &'static str);

impl std::fmt::Display for NotPe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it is no Windows program that can be read: expected {}", self.0)
    }
}

impl std::error::Error for NotPe {}

/// A PE file.
#[derive(Debug, Clone, Copy)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    /// Where the checksum stands, which no signature covers.
    checksum: usize,
    /// Where the entry about the certificate area stands, which no signature covers either.
    entry: usize,
    /// The certificate area: offset and length; both 0 where there is none.
    certificates: (usize, usize),
    /// The resources: address and length.
    resources: (u32, u32),
    /// The table of sections.
    sections: &'a [u8],
}

const DIRECTORY: usize = 8;
const RESOURCES: usize = 2;
const CERTIFICATES: usize = 4;
const SECTION: usize = 40;

impl<'a> Pe<'a> {
    /// Reads the headers.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotPe> {
        if !bytes.starts_with(b"MZ") {
            return Err(NotPe("MZ at its beginning"));
        }
        let header = word32(bytes, 0x3c).ok_or(NotPe("a DOS header"))? as usize;
        if bytes.get(header..).and_then(|rest| rest.get(..4)) != Some(b"PE\0\0") {
            return Err(NotPe("a PE header"));
        }
        let coff = header + 4;
        let count = usize::from(word16(bytes, coff + 2).ok_or(NotPe("a COFF header"))?);
        let length = usize::from(word16(bytes, coff + 16).ok_or(NotPe("a COFF header"))?);
        let optional = coff + 20;
        let directories = match word16(bytes, optional) {
            Some(0x10b) => 96,
            Some(0x20b) => 112,
            _ => return Err(NotPe("an optional header of a 32 or 64 bit program")),
        };
        let present = word32(bytes, optional + directories - 4).ok_or(NotPe("an optional header"))?;
        let fits = directories + (CERTIFICATES + 1) * DIRECTORY <= length;
        if !fits || (present as usize) <= CERTIFICATES {
            return Err(NotPe("a place for a signature among the directories"));
        }
        let directory = |number: usize| {
            let at = optional + directories + number * DIRECTORY;
            Some((word32(bytes, at)?, word32(bytes, at + 4)?))
        };
        let resources = directory(RESOURCES).ok_or(NotPe("directories"))?;
        let (at, size) = directory(CERTIFICATES).ok_or(NotPe("directories"))?;
        let start = optional + length;
        let sections = bytes.get(start..start + count * SECTION).ok_or(NotPe("a table of sections"))?;
        Ok(Self {
            bytes,
            checksum: optional + 64,
            entry: optional + directories + CERTIFICATES * DIRECTORY,
            certificates: (at as usize, size as usize),
            resources,
            sections,
        })
    }

    /// The certificate area, where the headers say that there is one.
    pub fn certificates(&self) -> Option<Range<usize>> {
        let (at, size) = self.certificates;
        (size > 0).then(|| at..at.saturating_add(size))
    }

    /// All that a signature covers: everything but the checksum, the entry about the certificate area, and that area, which
    /// comes last.
    pub(super) fn covered(&self, end: usize) -> Option<[&'a [u8]; 3]> {
        Some([
            self.bytes.get(..self.checksum)?,
            self.bytes.get(self.checksum + 4..self.entry)?,
            self.bytes.get(self.entry + DIRECTORY..end)?,
        ])
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The resources: their own bytes, and the address of the first of them.
    pub(super) fn resources(&self) -> Option<(&'a [u8], u32)> {
        let (address, size) = self.resources;
        let bytes = self.at(address)?;
        Some((bytes.get(..size as usize).unwrap_or(bytes), address))
    }

    /// What the loader lays at this address, as far as the file has it.
    fn at(&self, address: u32) -> Option<&'a [u8]> {
        self.sections.chunks_exact(SECTION).find_map(|section| {
            let (begin, size, start) =
                (word32(section, 12)?, word32(section, 16)? as usize, word32(section, 20)? as usize);
            let inside = address.checked_sub(begin)? as usize;
            self.bytes.get(start..start.checked_add(size)?)?.get(inside..).filter(|rest| !rest.is_empty())
        })
    }
}

pub(super) fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*two))
}

pub(super) fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}
