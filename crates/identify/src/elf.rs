//! What an ELF program asks for before it starts: its interpreter, as the kernel finds it (`fs/binfmt_elf.c`), and where
//! it wants its libraries from, as the dynamic linker finds it (gABI, "Dynamic Section"). Section headers play no part in
//! either, so they are not looked at: a file may carry any nonsense there and still run.

use std::fmt;

use elevon_policy::text::OsText;
use elf::abi;
use elf::dynamic::{Dyn, DynamicTable};
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::{ProgramHeader, SegmentTable};

/// The kernel takes no larger program header table.
const MAX_TABLE: usize = 65_536;
/// The longest path, its NUL included.
const MAX_PATH: u64 = 4096;
/// A list of folders may be long; no sane one is longer than this.
const MAX_STRING: u64 = 65_536;
/// Of strings: libraries by name, above all.
const MAX_STRINGS: usize = 4096;
/// Of folders and libraries by path.
const MAX_PLACES: usize = 256;
/// No sane program has a larger dynamic section; glibc's own has some 500 bytes.
const MAX_DYNAMIC: u64 = 1 << 20;

/// What the program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// For which processor it was made.
    pub machine: Machine,
    /// The dynamic linker (`PT_INTERP`) as written; `None` for a static program. Never empty.
    pub interpreter: Option<OsText>,
    /// Folders (`DT_RPATH`, `DT_RUNPATH`) as written, tokens such as `$ORIGIN` not replaced. An empty one means the
    /// working directory. Only of programs with an interpreter.
    pub search: Vec<OsText>,
    /// Libraries it names by a path instead of a bare name (`DT_NEEDED`, `DT_AUXILIARY`, `DT_FILTER`, `DT_AUDIT`,
    /// `DT_DEPAUDIT`). Only of programs with an interpreter.
    pub libraries: Vec<OsText>,
}

/// For which processor a program was made: class, byte order and machine together, so that a file cannot be read one
/// way here and another way by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// 64 bits, x86.
    X86_64,
    /// 32 bits, x86.
    X86,
    /// 64 bits, ARM, little-endian.
    Aarch64,
    /// 32 bits, ARM, little-endian.
    Arm,
    /// 64 bits, RISC-V.
    Riscv64,
    /// Something else, with its `e_machine`.
    Other(u16),
}

/// The bytes are no ELF program that Linux would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotElf {
    /// It does not begin as ELF files do.
    Magic,
    /// It is a library's object, a core file or the like.
    Kind,
    /// Its program headers are missing, misshapen or too many.
    Headers,
    /// The interpreter's path is empty, too long, or does not end with NUL.
    Interpreter,
    /// Its dynamic section cannot be followed, or names more than 256 places for libraries.
    Dynamic,
    /// It is a shared library that starts without an interpreter: the dynamic linker itself, above all, which would run
    /// whatever program its arguments name.
    Library,
}

impl fmt::Display for NotElf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "it is neither an ELF program nor a script that begins with #!",
            Self::Kind => "it is an ELF file, but not a program",
            Self::Headers => "it is an ELF file with broken program headers",
            Self::Interpreter => "it is an ELF file with a broken interpreter path",
            Self::Dynamic => "it is an ELF file with a broken or oversized dynamic section",
            Self::Library => "it is a library or a dynamic linker, not a program of its own",
        })
    }
}

impl std::error::Error for NotElf {}

/// Why a program could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    /// The bytes are no program.
    NotElf(NotElf),
    /// The bytes could not be had.
    Bytes(E),
}

impl<E> From<NotElf> for Unread<E> {
    fn from(not: NotElf) -> Self {
        Self::NotElf(not)
    }
}

/// The interpreter of a program that is in memory as a whole; `None` for a static one.
pub fn interpreter(file: &[u8]) -> Result<Option<OsText>, NotElf> {
    program(file).map(|program| program.interpreter)
}

/// Reads a program that is in memory as a whole.
pub fn program(file: &[u8]) -> Result<Program, NotElf> {
    let piece = |offset, length| {
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or_default();
        Ok::<_, NotElf>(rest.get(..length).unwrap_or(rest).to_vec())
    };
    read(piece).map_err(|error| match error {
        Unread::NotElf(not) | Unread::Bytes(not) => not,
    })
}

/// Reads a program in pieces: `piece(offset, length)` gives `length` bytes, or fewer where the file ends. A piece has at
/// most 1 MiB, and there are few of them.
pub fn read<E>(piece: impl FnMut(u64, usize) -> Result<Vec<u8>, E>) -> Result<Program, Unread<E>> {
    let mut file = Pieces(piece);
    let header = file.header()?;
    let segments = file.segments(&header)?;
    let interpreter = file.interpreter(&segments)?;
    let mut program =
        Program { machine: machine(&header), interpreter, search: Vec::new(), libraries: Vec::new() };
    let dynamic = file.dynamic(&header, &segments);
    if program.interpreter.is_some() {
        file.linkage(&dynamic?, &segments, &mut program)?;
        return Ok(program);
    }
    // What starts without a dynamic linker is not followed any further, so it may be as broken as it likes.
    let dynamic = match dynamic {
        Err(Unread::NotElf(_)) => Vec::new(),
        dynamic => dynamic?,
    };
    match dynamic.iter().any(|entry| entry.d_tag == abi::DT_SONAME) {
        true => Err(NotElf::Library.into()),
        false => Ok(program),
    }
}

struct Pieces<F>(F);

impl<F, E> Pieces<F>
where
    F: FnMut(u64, usize) -> Result<Vec<u8>, E>,
{
    /// Exactly `length` bytes.
    fn exactly(&mut self, offset: u64, length: usize, otherwise: NotElf) -> Result<Vec<u8>, Unread<E>> {
        let bytes = (self.0)(offset, length).map_err(Unread::Bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(otherwise.into()) }
    }

    fn header(&mut self) -> Result<FileHeader<AnyEndian>, Unread<E>> {
        let head = (self.0)(0, 64).map_err(Unread::Bytes)?;
        let (ident, tail) = head.split_at_checked(abi::EI_NIDENT).ok_or(NotElf::Magic)?;
        let ident = parse_ident(ident).map_err(|_| NotElf::Magic)?;
        let header = FileHeader::parse_tail(ident, tail).map_err(|_| NotElf::Headers)?;
        match header.e_type {
            abi::ET_EXEC | abi::ET_DYN => Ok(header),
            _ => Err(NotElf::Kind.into()),
        }
    }

    fn segments(&mut self, header: &FileHeader<AnyEndian>) -> Result<Vec<ProgramHeader>, Unread<E>> {
        let entry = ProgramHeader::size_for(header.class);
        let size = entry * usize::from(header.e_phnum);
        if usize::from(header.e_phentsize) != entry || size == 0 || size > MAX_TABLE {
            return Err(NotElf::Headers.into());
        }
        let table = self.exactly(header.e_phoff, size, NotElf::Headers)?;
        Ok(SegmentTable::new(header.endianness, header.class, &table).iter().collect())
    }

    /// Only the first one counts, as in the kernel.
    fn interpreter(&mut self, segments: &[ProgramHeader]) -> Result<Option<OsText>, Unread<E>> {
        let Some(segment) = segments.iter().find(|segment| segment.p_type == abi::PT_INTERP) else {
            return Ok(None);
        };
        if !(2..=MAX_PATH).contains(&segment.p_filesz) {
            return Err(NotElf::Interpreter.into());
        }
        let length = usize::try_from(segment.p_filesz).map_err(|_| NotElf::Interpreter)?;
        let bytes = self.exactly(segment.p_offset, length, NotElf::Interpreter)?;
        if bytes.last() != Some(&0) {
            return Err(NotElf::Interpreter.into());
        }
        match c_string(&bytes) {
            Some(path) if !path.as_bytes().is_empty() => Ok(Some(path)),
            _ => Err(NotElf::Interpreter.into()),
        }
    }

    fn dynamic(
        &mut self,
        header: &FileHeader<AnyEndian>,
        segments: &[ProgramHeader],
    ) -> Result<Vec<Dyn>, Unread<E>> {
        // The dynamic linker, too, takes the last one it comes across.
        let Some(segment) = segments.iter().rfind(|segment| segment.p_type == abi::PT_DYNAMIC) else {
            return Ok(Vec::new());
        };
        let length = Some(segment.p_filesz).filter(|size| *size <= MAX_DYNAMIC).ok_or(NotElf::Dynamic)?;
        let length = usize::try_from(length).map_err(|_| NotElf::Dynamic)?;
        let bytes = self.exactly(segment.p_offset, length, NotElf::Dynamic)?;
        let table = DynamicTable::new(header.endianness, header.class, &bytes);
        Ok(table.iter().take_while(|entry| entry.d_tag != abi::DT_NULL).collect())
    }

    fn linkage(
        &mut self,
        entries: &[Dyn],
        segments: &[ProgramHeader],
        program: &mut Program,
    ) -> Result<(), Unread<E>> {
        let strings = entries.iter().rfind(|entry| entry.d_tag == abi::DT_STRTAB).map(Dyn::d_ptr);
        let texts =
            entries.iter().filter_map(|entry| Role::of(entry.d_tag).map(|role| (role, entry.d_val())));
        for (count, (role, offset)) in texts.enumerate() {
            let address = strings.and_then(|start| start.checked_add(offset)).ok_or(NotElf::Dynamic)?;
            let text = self.string(segments, address)?;
            match role {
                Role::Search => program.search.extend(text.split(|byte| *byte == b':').map(OsText::new)),
                Role::Libraries => program.libraries.extend(by_path(text.split(|byte| *byte == b':'))),
                Role::Library => program.libraries.extend(by_path([text.as_slice()])),
            }
            // Whoever reads this goes to each place; a file must not be able to send them to any number.
            if count >= MAX_STRINGS || program.search.len() + program.libraries.len() > MAX_PLACES {
                return Err(NotElf::Dynamic.into());
            }
        }
        Ok(())
    }

    /// The string at an address of the running program.
    fn string(&mut self, segments: &[ProgramHeader], address: u64) -> Result<Vec<u8>, Unread<E>> {
        let loaded = segments.iter().filter(|segment| segment.p_type == abi::PT_LOAD).find_map(|segment| {
            let into = address.checked_sub(segment.p_vaddr)?;
            let left = segment.p_filesz.checked_sub(into).filter(|left| *left > 0)?;
            Some((segment.p_offset.checked_add(into)?, left.min(MAX_STRING)))
        });
        let (offset, length) = loaded.ok_or(NotElf::Dynamic)?;
        let length = usize::try_from(length).map_err(|_| NotElf::Dynamic)?;
        let bytes = (self.0)(offset, length).map_err(Unread::Bytes)?;
        Ok(c_string(&bytes).ok_or(NotElf::Dynamic)?.as_bytes().to_vec())
    }
}

/// What a string of the dynamic section is for.
enum Role {
    Search,
    Library,
    Libraries,
}

impl Role {
    fn of(tag: i64) -> Option<Self> {
        const DT_AUXILIARY: i64 = 0x7fff_fffd;
        const DT_FILTER: i64 = 0x7fff_ffff;
        const DT_DEPAUDIT: i64 = 0x6fff_fefb;
        const DT_AUDIT: i64 = 0x6fff_fefc;
        match tag {
            abi::DT_RPATH | abi::DT_RUNPATH => Some(Self::Search),
            abi::DT_NEEDED | DT_AUXILIARY | DT_FILTER => Some(Self::Library),
            DT_AUDIT | DT_DEPAUDIT => Some(Self::Libraries),
            _ => None,
        }
    }
}

/// Names with a slash in them are opened as they stand; others are searched for.
fn by_path<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = OsText> {
    names.into_iter().filter(|name| name.contains(&b'/')).map(OsText::new)
}

fn c_string(bytes: &[u8]) -> Option<OsText> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..end).map(OsText::new)
}

fn machine(header: &FileHeader<AnyEndian>) -> Machine {
    match (header.class, header.endianness, header.e_machine) {
        (Class::ELF64, AnyEndian::Little, abi::EM_X86_64) => Machine::X86_64,
        (Class::ELF32, AnyEndian::Little, abi::EM_386) => Machine::X86,
        (Class::ELF64, AnyEndian::Little, abi::EM_AARCH64) => Machine::Aarch64,
        (Class::ELF32, AnyEndian::Little, abi::EM_ARM) => Machine::Arm,
        (Class::ELF64, AnyEndian::Little, abi::EM_RISCV) => Machine::Riscv64,
        (_, _, other) => Machine::Other(other),
    }
}

#[cfg(test)]
mod tests;
