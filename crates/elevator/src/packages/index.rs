//! The index over dpkg's database, on disk: which packages may own what lies at a path, and where each package's paragraph
//! stands. It only says where to look: the database itself is read for each answer, so two paths that hash alike cost time
//! and nothing else. It is searched where it lies; nothing of it stays in memory but its header.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dpkg::Stamp;

/// What is built into this version's index.
const FORMAT: u32 = 1;
const MAX_HEADER: u32 = 1 << 20;
/// In bytes: where the paragraph stands, the package's identity, the paragraph's length, its vendor.
const ENTRY: u64 = 24;
const PLACE: u64 = 8;
/// The part of a place that is a package's number; the rest is the path's hash.
const NUMBER: u64 = 0xffff;
/// The number 0xffff is left for the end of a search.
pub(super) const MAX_PACKAGES: usize = 0xffff;

/// An index to search in.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    header: Header,
    entries_at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    stamp: Stamp,
    vendors: Vec<String>,
    entries: u64,
    places: u64,
}

/// A package's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where its paragraph stands in `status`.
    pub(super) offset: u64,
    /// The paragraph's length.
    pub(super) length: u32,
    /// A hash of name, version and architecture.
    pub(super) identity: u64,
    /// The vendor that a signed index gives it.
    pub(super) vendor: Option<u16>,
}

/// An index that is being made.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) entries: Vec<Entry>,
    pub(super) vendors: Vec<String>,
    places: Vec<u64>,
}

impl Draft {
    /// The package of this number may own what lies there.
    pub(super) fn place(&mut self, path: &[u8], package: u16) {
        self.places.push(hash(&[path]) & !NUMBER | u64::from(package));
    }

    /// Replaces the index at this path.
    pub(super) fn write(mut self, path: &Path, stamp: &Stamp) -> io::Result<()> {
        self.places.sort_unstable();
        self.places.dedup();
        let header = Header {
            format: FORMAT,
            stamp: *stamp,
            vendors: self.vendors,
            entries: self.entries.len() as u64,
            places: self.places.len() as u64,
        };
        let header = serde_json::to_vec(&header)?;
        let fresh = path.with_added_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        let mut out = BufWriter::new(file);
        let length = u32::try_from(header.len()).ok().filter(|length| *length <= MAX_HEADER);
        out.write_all(&length.ok_or_else(|| broken("its header is too long"))?.to_le_bytes())?;
        out.write_all(&header)?;
        for Entry { offset, length, identity, vendor } in &self.entries {
            out.write_all(&offset.to_le_bytes())?;
            out.write_all(&identity.to_le_bytes())?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(&vendor.map_or(0, |vendor| u32::from(vendor) + 1).to_le_bytes())?;
        }
        for place in &self.places {
            out.write_all(&place.to_le_bytes())?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&fresh, path)
    }
}

impl Index {
    /// Opens an index that this version made; of another one only an error comes out.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut length = [0; 4];
        file.read_exact_at(&mut length, 0)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(broken("its header is too long"));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut header, 4)?;
        let header: Header = serde_json::from_slice(&header)?;
        if header.format != FORMAT {
            return Err(broken("another version made it"));
        }
        Ok(Self { file, header, entries_at: 4 + u64::from(length) })
    }

    /// The state that the database was in when this was made.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.header.stamp
    }

    /// The line of the package with this number.
    pub(super) fn entry(&self, number: u16) -> io::Result<Entry> {
        let mut bytes = [0; 24];
        if u64::from(number) >= self.header.entries {
            return Err(broken("it names a package that is not in it"));
        }
        self.file.read_exact_at(&mut bytes, self.entries_at + u64::from(number) * ENTRY)?;
        let ([offset, identity, rest], _) = bytes.as_chunks::<8>() else {
            return Err(broken("a line is too short"));
        };
        let [length, vendor] =
            [rest.first_chunk(), rest.last_chunk()].map(|part| part.copied().map_or(0, u32::from_le_bytes));
        Ok(Entry {
            offset: u64::from_le_bytes(*offset),
            length,
            identity: u64::from_le_bytes(*identity),
            vendor: vendor.checked_sub(1).and_then(|vendor| u16::try_from(vendor).ok()),
        })
    }

    /// Every line.
    pub(super) fn entries(&self) -> impl Iterator<Item = io::Result<Entry>> {
        (0..self.header.entries)
            .filter_map(|number| u16::try_from(number).ok())
            .map(|number| self.entry(number))
    }

    /// The vendor of a line.
    pub(super) fn vendor(&self, entry: &Entry) -> Option<&str> {
        self.header.vendors.get(usize::from(entry.vendor?)).map(String::as_str)
    }

    /// The packages that may own what lies there.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Vec<u16>> {
        let first = hash(&[path]) & !NUMBER;
        let (mut low, mut high) = (0, self.header.places);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.place(middle)? < first {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut found = Vec::new();
        while low < self.header.places {
            let place = self.place(low)?;
            if place & !NUMBER != first {
                break;
            }
            found.extend(u16::try_from(place & NUMBER));
            low += 1;
        }
        Ok(found)
    }

    fn place(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.entries_at + self.header.entries * ENTRY + at * PLACE)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// FNV-1a over the parts, each ended by a zero byte: the same in every version of this program.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn broken(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the index of packages cannot be used: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("packages.index");
        let mut draft = Draft { vendors: vec!["Debian".into()], ..Draft::default() };
        for number in 0..300_u16 {
            let vendor = (number % 2 == 0).then_some(0);
            draft.entries.push(Entry { offset: u64::from(number) * 7, length: 7, identity: 1, vendor });
            draft.place(format!("/usr/bin/tool{number}").as_bytes(), number);
            draft.place(b"/usr/share/common", number);
        }
        draft.write(&path, &Stamp::default()).expect("there is room");
        let index = Index::open(&path).expect("it was just made");
        assert_eq!(index.stamp(), &Stamp::default());
        for number in 0..300_u16 {
            let found = index.find(format!("/usr/bin/tool{number}").as_bytes()).expect("it can be read");
            assert_eq!(found, [number]);
            let entry = index.entry(number).expect("it is there");
            assert_eq!(entry.offset, u64::from(number) * 7);
            assert_eq!(index.vendor(&entry), (number % 2 == 0).then_some("Debian"));
        }
        assert_eq!(index.find(b"/usr/share/common").expect("it can be read").len(), 300);
        assert!(index.find(b"/usr/bin/other").expect("it can be read").is_empty());
        assert!(index.entry(300).is_err());
    }

    #[test]
    fn a_broken_index_is_an_error_and_never_an_answer() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("packages.index");
        let mut draft = Draft::default();
        draft.place(b"/usr/bin/tool", 3);
        draft.write(&path, &Stamp::default()).expect("there is room");
        let whole = std::fs::read(&path).expect("it is there");
        for length in 0..whole.len() {
            std::fs::write(&path, whole.get(..length).unwrap_or_default()).expect("there is room");
            let found = Index::open(&path).and_then(|index| index.find(b"/usr/bin/tool"));
            assert!(found.is_err(), "{length} bytes of it");
        }
    }
}
