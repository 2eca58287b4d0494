//! A Debian package (deb(5)): an `ar` archive of three members, of which two are `tar` archives: what the package says of
//! itself, and its files.

use std::io::{Read, Seek, SeekFrom};

use elevon_policy::text::Text;
use tar::{Archive, EntryType};

use super::contents::Contents;
use super::unpack::{Packing, not_unpacked};
use super::{Format, NotMeasured, Upload, broken, digest, piece};
use crate::dpkg;

/// How every `ar` archive begins.
pub(super) const MAGIC: &[u8] = b"!<arch>\n";

const HEADER: usize = 60;
/// A package has three members; signatures may follow, and nobody has more.
const MAX_MEMBERS: usize = 32;
/// Larger control files are not read.
const MAX_CONTROL: u64 = 1 << 20;
/// In the archive of what a package says of itself.
const MAX_FILES: usize = 4096;

/// A member of the archive.
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

pub(super) fn package(file: &mut (impl Read + Seek)) -> Result<Upload, NotMeasured> {
    let members = members(file)?;
    let version = members.first().filter(|member| member.name == "debian-binary" && member.size < 64);
    let version = version.ok_or_else(|| broken("it is an ar archive, but no Debian package"))?;
    if !piece(file, version.offset, 64.min(version.size as usize))?.starts_with(b"2.") {
        return Err(broken("it is a Debian package of a format that is not known; expected 2.0"));
    }
    let mut upload = Upload::of(digest(file)?, Format::Deb);
    let control = control(file, &members)?;
    let told = dpkg::control(control.trim_ascii_end());
    let told =
        told.ok_or_else(|| broken("its control file does not name the package, version and architecture"))?;
    upload.package = Some(told.package(None));
    let (data, packing) = tar_of(&members, "data.tar")?;
    contents(Archive::new(packing.unpack(at(file, data)?)?))?.tell(&mut upload)?;
    Ok(upload)
}

fn members(file: &mut (impl Read + Seek)) -> Result<Vec<Member>, NotMeasured> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut members = Vec::new();
    let mut offset = MAGIC.len() as u64;
    while offset < end {
        let header = piece(file, offset, HEADER)?;
        let member = member(&header, offset + HEADER as u64)
            .filter(|member| member.offset + member.size <= end && members.len() < MAX_MEMBERS)
            .ok_or_else(|| broken("it is cut short, or its members do not follow each other"))?;
        offset = (member.offset + member.size).next_multiple_of(2);
        members.push(member);
    }
    Ok(members)
}

fn member(header: &[u8], offset: u64) -> Option<Member> {
    let text = |from: usize, to: usize| std::str::from_utf8(header.get(from..to)?).ok().map(str::trim_end);
    if header.get(58..60) != Some(b"`\n") {
        return None;
    }
    let name = text(0, 16)?;
    let size = text(48, 58)?;
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let size = digits.then(|| size.parse().ok())??;
    Some(Member { name: name.strip_suffix('/').unwrap_or(name).to_owned(), offset, size })
}

/// The one member of that name, however it is packed.
fn tar_of<'a>(members: &'a [Member], name: &str) -> Result<(&'a Member, Packing), NotMeasured> {
    let mut found = members.iter().filter_map(|member| Some((member, member.name.strip_prefix(name)?)));
    let (member, suffix) = found.next().ok_or_else(|| broken(format_args!("it has no member {name}")))?;
    if found.next().is_some() {
        return Err(broken(format_args!("it has several members {name}")));
    }
    let packing = Packing::of_suffix(suffix);
    let packing = packing.ok_or_else(|| {
        let suffix = Text::new(suffix);
        broken(format_args!("its {name} is packed as {}; expected .gz, .xz, .zst or none", suffix.visible()))
    })?;
    Ok((member, packing))
}

fn at<'a, F: Read + Seek>(
    file: &'a mut F,
    member: &Member,
) -> Result<impl Read + 'a + use<'a, F>, NotMeasured> {
    file.seek(SeekFrom::Start(member.offset))?;
    Ok(file.take(member.size))
}

fn control(file: &mut (impl Read + Seek), members: &[Member]) -> Result<Vec<u8>, NotMeasured> {
    let (member, packing) = tar_of(members, "control.tar")?;
    let mut archive = Archive::new(packing.unpack(at(file, member)?)?);
    for entry in archive.entries().map_err(not_unpacked)?.take(MAX_FILES) {
        let entry = entry.map_err(not_unpacked)?;
        let name = entry.path_bytes().into_owned();
        if name.strip_prefix(b"./").unwrap_or(&name) == b"control" && entry.header().entry_type().is_file() {
            let mut control = Vec::new();
            entry.take(MAX_CONTROL).read_to_end(&mut control).map_err(not_unpacked)?;
            return Ok(control);
        }
    }
    Err(broken("it has no control file"))
}

fn contents(mut archive: Archive<impl Read>) -> Result<Contents, NotMeasured> {
    let mut contents = Contents::default();
    for entry in archive.entries().map_err(not_unpacked)? {
        let mut entry = entry.map_err(not_unpacked)?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let mode = entry.header().mode().map_err(not_unpacked)?;
        let name = entry.path_bytes().into_owned();
        contents.take(&name, mode, &mut entry)?;
    }
    Ok(contents)
}
