//! The archive in an RPM package (cpio, "newc"): for each file a header of 110 hexadecimal digits, its name, its bytes.

use std::io::{self, Read};

use super::contents::Contents;
use super::unpack::not_unpacked;
use super::{NotMeasured, broken};

const HEADER: usize = 110;
/// Linux takes no longer path; its NUL is counted.
const MAX_NAME: u64 = 4097;
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

pub(super) fn contents(mut archive: impl Read) -> Result<Contents, NotMeasured> {
    let mut contents = Contents::default();
    loop {
        let mut header = [0; HEADER];
        archive.read_exact(&mut header).map_err(not_unpacked)?;
        let entry = Entry::read(&header).ok_or_else(|| {
            broken("the archive in it is not of the form that is read; expected cpio as rpm writes it for files under 4 GB")
        })?;
        let mut name = Vec::new();
        (&mut archive).take(entry.name).read_to_end(&mut name).map_err(not_unpacked)?;
        skip(&mut archive, padding(HEADER as u64 + entry.name))?;
        let name = name.strip_suffix(b"\0").ok_or_else(|| broken("a name in its archive has no end"))?;
        if name == b"TRAILER!!!" {
            return Ok(contents);
        }
        let mut content = (&mut archive).take(entry.size);
        if entry.mode & KIND == REGULAR {
            contents.take(name, entry.mode, &mut content)?;
        }
        let left = content.limit();
        skip(&mut archive, left + padding(entry.size))?;
    }
}

struct Entry {
    mode: u32,
    size: u64,
    name: u64,
}

impl Entry {
    fn read(header: &[u8; HEADER]) -> Option<Self> {
        let fields = header.strip_prefix(b"070701").or_else(|| header.strip_prefix(b"070702"))?;
        let field = |number: usize| {
            let digits = fields.get(8 * number..8 * number + 8)?;
            let digits =
                std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
            u32::from_str_radix(digits, 16).ok()
        };
        let name = u64::from(field(11)?);
        (1..=MAX_NAME).contains(&name).then_some(Self { mode: field(1)?, size: field(6)?.into(), name })
    }
}

/// What follows something of this length, up to a multiple of four.
fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

fn skip(archive: &mut impl Read, length: u64) -> Result<(), NotMeasured> {
    let skipped = io::copy(&mut archive.take(length), &mut io::sink()).map_err(not_unpacked)?;
    if skipped == length { Ok(()) } else { Err(not_unpacked(io::ErrorKind::UnexpectedEof.into())) }
}
