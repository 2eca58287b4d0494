//! An RPM package (`docs/manual/format_v4.md` of rpm): a lead that nobody reads any more, a header of signatures, the header
//! of the package, and a packed archive.
//!
//! The signatures are not verified: a computer's own database keeps none, so that a vendor is never verified there either.

use std::io::{Read, Seek, SeekFrom};

use super::unpack::{Packing, not_unpacked};
use super::{Format, NotMeasured, Upload, broken, cpio, digest, piece};
use crate::rpm::header::Header;
use crate::rpm::{MAX_HEADER, tag};

/// How a lead begins.
pub(super) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];

const LEAD: u64 = 96;
const SECTION: &[u8] = &[0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];

pub(super) fn package(file: &mut (impl Read + Seek)) -> Result<Upload, NotMeasured> {
    // The kind of a package stands in the lead, and nowhere else for those who do not know all tags.
    if piece(file, 6, 2)? != [0, 0] {
        return Err(broken("it is a source package, which installs no program; expected a binary one"));
    }
    let mut upload = Upload::of(digest(file)?, Format::Rpm);
    let signatures = section(file, LEAD)?;
    let begin = LEAD + SECTION.len() as u64 + signatures.len() as u64;
    let begin = begin.next_multiple_of(8);
    let blob = section(file, begin)?;
    let header = Header::read(&blob).ok_or_else(|| broken("its header cannot be read"))?;
    let told = crate::rpm::package(&header);
    upload.package =
        Some(told.ok_or_else(|| broken("its header does not name the package, version and release"))?);
    if header.string(tag::PAYLOAD_FORMAT).is_some_and(|format| format != "cpio") {
        return Err(broken("its files are in an archive that is not read; expected cpio"));
    }
    let packing = Packing::of_name(header.string(tag::PAYLOAD_COMPRESSOR).unwrap_or("gzip"));
    let packing = packing
        .ok_or_else(|| broken("its files are packed in a way that is not read; expected gzip, xz or zstd"))?;
    file.seek(SeekFrom::Start(begin + SECTION.len() as u64 + blob.len() as u64))?;
    cpio::contents(packing.unpack(file)?)?.tell(&mut upload)?;
    Ok(upload)
}

/// A header as [`Header`] reads it: two counts, entries, data.
fn section(file: &mut (impl Read + Seek), offset: u64) -> Result<Vec<u8>, NotMeasured> {
    const COUNTS: usize = 8;
    let begin = piece(file, offset, SECTION.len() + COUNTS)?;
    let counts = begin.strip_prefix(SECTION).and_then(|counts| counts.first_chunk::<COUNTS>());
    let [a, b, c, d, e, f, g, h] = *counts.ok_or_else(|| broken("it is cut short, or has no header"))?;
    let (entries, size) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let length = COUNTS as u64 + u64::from(entries) * 16 + u64::from(size);
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER);
    let length = length.ok_or_else(|| broken("its header is larger than any package's"))?;
    let blob = piece(file, offset + SECTION.len() as u64, length)?;
    if blob.len() == length { Ok(blob) } else { Err(not_unpacked(std::io::ErrorKind::UnexpectedEof.into())) }
}
