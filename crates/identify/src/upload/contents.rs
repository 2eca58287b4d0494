//! What is in a package: its programs and components, however it is packed.

use std::io::Read;

use elevon_policy::text::{OsText, Text};

use super::{Inside, NotMeasured, Upload, broken, digest_of};
use crate::polkit;

/// So many programs are told of a package.
const MAX_TOLD: usize = 200;
/// Programs that lie deeper are counted, but not told: all of it has to go through a form.
const MAX_TOLD_PATH: usize = 400;
/// More programs than this are in no package that anybody makes rules of.
const MAX_PROGRAMS: usize = 20_000;
/// More files than this, programs or not, are in no package: a kernel's sources have some 80,000.
const MAX_ENTRIES: usize = 400_000;
/// So many components are told.
const MAX_COMPONENTS: usize = 200;
/// Larger definitions of components are not read.
const MAX_DEFINITIONS: u64 = 1 << 20;
/// Linux takes no longer path.
const MAX_PATH: usize = 4096;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Contents {
    programs: Vec<Inside>,
    components: Vec<Text>,
    entries: usize,
}

impl Contents {
    /// Looks at the next file of a package. `content` is read as far as need be.
    pub(super) fn take(&mut self, path: &[u8], mode: u32, content: &mut dyn Read) -> Result<(), NotMeasured> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(broken(format_args!("it holds more than {MAX_ENTRIES} files")));
        }
        let path = placed(path)?;
        if path.starts_with(b"/usr/share/polkit-1/actions/") && path.ends_with(b".policy") {
            return self.define(content);
        }
        if mode & 0o111 == 0 {
            return Ok(());
        }
        let mut head = Vec::new();
        content.take(4).read_to_end(&mut head).map_err(super::unpack::not_unpacked)?;
        if !(head == b"\x7fELF" || head.starts_with(b"#!")) {
            return Ok(());
        }
        if self.programs.len() == MAX_PROGRAMS {
            return Err(broken(format_args!("it holds more than {MAX_PROGRAMS} programs")));
        }
        let (sha256, size) = digest_of(&mut head.chain(content)).map_err(super::unpack::not_unpacked)?;
        self.programs.push(Inside { path: OsText::new(path), sha256, size });
        Ok(())
    }

    fn define(&mut self, content: &mut dyn Read) -> Result<(), NotMeasured> {
        let mut file = Vec::new();
        content.take(MAX_DEFINITIONS).read_to_end(&mut file).map_err(super::unpack::not_unpacked)?;
        for action in polkit::actions(&file).into_iter().map(Text::new) {
            if self.components.len() < MAX_COMPONENTS && !self.components.contains(&action) {
                self.components.push(action);
            }
        }
        Ok(())
    }

    /// Puts what was found into what was measured.
    pub(super) fn tell(mut self, upload: &mut Upload) -> Result<(), NotMeasured> {
        self.programs
            .sort_by_cached_key(|program| (!is_in_folder_for_programs(&program.path), program.path.clone()));
        let twice = self.programs.windows(2).find(|pair| pair.first().map(path) == pair.last().map(path));
        if let Some(Inside { path, .. }) = twice.and_then(<[_]>::first) {
            return Err(broken(format_args!("it lays two files in one place, {}", path.visible())));
        }
        let found = self.programs.len();
        self.programs.retain(|program| program.path.as_bytes().len() <= MAX_TOLD_PATH);
        self.programs.truncate(MAX_TOLD);
        upload.programs_left_out = (found - self.programs.len()) as u64;
        upload.programs = self.programs;
        upload.components = self.components;
        Ok(())
    }
}

fn path(program: &Inside) -> &OsText {
    &program.path
}

fn is_in_folder_for_programs(path: &OsText) -> bool {
    let mut parts = path.as_bytes().rsplit(|byte| *byte == b'/');
    matches!(parts.nth(1), Some(b"bin" | b"sbin"))
}

/// Where a package lays what it calls so: `./usr/bin/x` or `usr/bin/x`.
fn placed(name: &[u8]) -> Result<Vec<u8>, NotMeasured> {
    let mut path = Vec::new();
    for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." || part.contains(&0) {
            let name = OsText::new(name);
            return Err(broken(format_args!("it names a file that would lie elsewhere: {}", name.visible())));
        }
        path.push(b'/');
        path.extend(part);
    }
    if path.is_empty() {
        return Err(broken("it holds a file that has no name"));
    }
    if path.len() > MAX_PATH {
        return Err(broken("it names a file by a path that is too long"));
    }
    Ok(path)
}
