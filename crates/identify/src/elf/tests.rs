use super::*;
use proptest::prelude::*;

/// A small 64-bit program: one loaded segment that holds all of it, an interpreter, a dynamic section with these
/// entries, whose strings are offsets into `strings`.
struct Sample {
    interpreter: Option<Vec<u8>>,
    dynamic: Vec<(u64, u64)>,
    strings: Vec<u8>,
}

const BASE: u64 = 0x40_0000;

impl Sample {
    fn new(interpreter: &[u8]) -> Self {
        Self { interpreter: Some(interpreter.to_vec()), dynamic: Vec::new(), strings: vec![0] }
    }

    fn with(mut self, tag: i64, text: &str) -> Self {
        self.dynamic.push((u64::try_from(tag).expect("tags are positive"), self.strings.len() as u64));
        self.strings.extend(text.bytes().chain([0]));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let interpreter = self.interpreter.clone().unwrap_or_default();
        let interpreter_at = 64 + 56 * 3;
        let strings_at = interpreter_at + interpreter.len() as u64;
        let dynamic_at = strings_at + self.strings.len() as u64;
        let dynamic: Vec<u8> = [(abi::DT_STRTAB as u64, BASE + strings_at)]
            .into_iter()
            .chain(self.dynamic.iter().copied())
            .chain([(0, 0)])
            .flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat())
            .collect();
        let end = dynamic_at + dynamic.len() as u64;
        let interp = if self.interpreter.is_some() { abi::PT_INTERP } else { abi::PT_NOTE };
        let mut file = header(abi::ET_DYN, abi::EM_X86_64, 64, 56, 3);
        file.extend(segment(abi::PT_LOAD, 0, BASE, end));
        file.extend(segment(interp, interpreter_at, BASE + interpreter_at, interpreter.len() as u64));
        file.extend(segment(abi::PT_DYNAMIC, dynamic_at, BASE + dynamic_at, dynamic.len() as u64));
        [file, interpreter, self.strings.clone(), dynamic].concat()
    }
}

fn header(kind: u16, machine: u16, table: u64, entry: u16, count: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(table.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for half in [64, entry, count, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file
}

fn segment(kind: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 5_u32.to_le_bytes()].concat();
    for word in [offset, address, address, size, size, 1] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn texts(texts: &[OsText]) -> Vec<&[u8]> {
    texts.iter().map(OsText::as_bytes).collect()
}

#[test]
fn this_very_test_program_is_read() {
    let file = std::fs::read("/proc/self/exe").expect("a program can read itself");
    let program = program(&file).expect("it runs, so it is a program");
    let interpreter = program.interpreter.expect("tests are linked dynamically");
    assert!(interpreter.as_bytes().starts_with(b"/"), "{}", interpreter.visible());
    assert!(!matches!(program.machine, Machine::Other(_)));
}

#[test]
fn the_interpreter_is_what_the_kernel_would_open() {
    let found = |path: &[u8]| interpreter(&Sample::new(path).bytes());
    assert_eq!(found(b"/lib/ld.so\0"), Ok(Some(OsText::from("/lib/ld.so"))));
    // The kernel opens a C string: what follows the first NUL is not part of it.
    assert_eq!(found(b"/evil\0/lib/ld.so\0"), Ok(Some(OsText::from("/evil"))));
    assert_eq!(found(b"/lib/ld.so"), Err(NotElf::Interpreter));
    assert_eq!(found(b"\0\0"), Err(NotElf::Interpreter));
    assert_eq!(found(b"\0"), Err(NotElf::Interpreter));
    assert_eq!(found(&[b"/".as_slice(), &[b'a'; 5000], b"\0"].concat()), Err(NotElf::Interpreter));
}

#[test]
fn a_static_program_has_none_and_its_dynamic_section_does_not_matter() {
    let mut sample = Sample::new(b"").with(abi::DT_RPATH, "/tmp");
    sample.interpreter = None;
    let program = program(&sample.bytes()).expect("static");
    assert_eq!((program.interpreter, program.search.len()), (None, 0));
}

#[test]
fn only_the_first_interpreter_counts() {
    let mut file = header(abi::ET_EXEC, abi::EM_X86_64, 64, 56, 2);
    file.extend(segment(abi::PT_INTERP, 176, 0, 3));
    file.extend(segment(abi::PT_INTERP, 179, 0, 3));
    file.extend(b"/a\0/b\0");
    assert_eq!(interpreter(&file), Ok(Some(OsText::from("/a"))));
}

#[test]
fn where_libraries_come_from() {
    let sample = Sample::new(b"/l\0")
        .with(abi::DT_NEEDED, "libc.so.6")
        .with(abi::DT_NEEDED, "./x.so")
        .with(abi::DT_RUNPATH, "$ORIGIN/../lib:/opt/x:")
        .with(abi::DT_RPATH, "")
        .with(0x6fff_fefc, "a.so:/tmp/b.so");
    let program = program(&sample.bytes()).expect("well-formed");
    assert_eq!(texts(&program.search), [b"$ORIGIN/../lib".as_slice(), b"/opt/x", b"", b""]);
    assert_eq!(texts(&program.libraries), [b"./x.so".as_slice(), b"/tmp/b.so"]);
}

/// The dynamic linker runs whatever program its arguments name.
#[test]
fn the_dynamic_linker_is_no_program_of_its_own() {
    let mut sample = Sample::new(b"/l\0").with(abi::DT_SONAME, "ld-linux.so.2");
    assert!(program(&sample.bytes()).is_ok());
    sample.interpreter = None;
    assert_eq!(program(&sample.bytes()), Err(NotElf::Library));
    let own = std::fs::read("/proc/self/exe").expect("a program can read itself");
    let linker = interpreter(&own).expect("it runs").expect("tests are linked dynamically");
    let linker = std::fs::read(linker.escaped()).expect("it was read to start this");
    assert_eq!(program(&linker), Err(NotElf::Library));
}

#[test]
fn a_file_cannot_name_any_number_of_places() {
    let many = |count: usize| {
        program(&Sample::new(b"/l\0").with(abi::DT_RPATH, &vec!["/a"; count].join(":")).bytes())
    };
    assert!(many(256).is_ok());
    assert_eq!(many(257), Err(NotElf::Dynamic));
}

#[test]
fn strings_outside_the_loaded_segments_are_refused() {
    let mut sample = Sample::new(b"/l\0");
    sample.dynamic.push((abi::DT_RPATH as u64, 1 << 40));
    assert_eq!(program(&sample.bytes()), Err(NotElf::Dynamic));
    sample.dynamic = vec![(abi::DT_RPATH as u64, u64::MAX)];
    assert_eq!(program(&sample.bytes()), Err(NotElf::Dynamic));
}

#[test]
fn what_the_kernel_would_not_start_is_no_program() {
    let cases = [
        (header(abi::ET_REL, abi::EM_X86_64, 64, 56, 1), NotElf::Kind),
        (header(abi::ET_CORE, abi::EM_X86_64, 64, 56, 1), NotElf::Kind),
        (header(abi::ET_DYN, abi::EM_X86_64, 64, 56, 0), NotElf::Headers),
        (header(abi::ET_DYN, abi::EM_X86_64, 64, 55, 1), NotElf::Headers),
        (header(abi::ET_DYN, abi::EM_X86_64, 64, 56, u16::MAX), NotElf::Headers),
        (header(abi::ET_DYN, abi::EM_X86_64, u64::MAX, 56, 1), NotElf::Headers),
        (header(abi::ET_DYN, abi::EM_X86_64, 64, 56, 1), NotElf::Headers),
        (b"\x7fELF".to_vec(), NotElf::Magic),
        (b"MZ".to_vec(), NotElf::Magic),
        (Vec::new(), NotElf::Magic),
    ];
    for (file, expected) in cases {
        assert_eq!(program(&file), Err(expected), "{file:?}");
    }
}

#[test]
fn class_and_machine_must_agree() {
    let mut file = Sample::new(b"/l\0").bytes();
    assert_eq!(program(&file).expect("well-formed").machine, Machine::X86_64);
    file[18..20].copy_from_slice(&abi::EM_386.to_le_bytes());
    assert_eq!(program(&file).expect("well-formed").machine, Machine::Other(abi::EM_386));
}

#[test]
fn section_headers_may_be_nonsense() {
    let mut file = Sample::new(b"/l\0").bytes();
    file[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(interpreter(&file), Ok(Some(OsText::from("/l"))));
}

#[test]
fn a_reader_that_fails_says_so() {
    assert_eq!(read(|_, _| Err::<Vec<u8>, _>("broken")), Err(Unread::Bytes("broken")));
}

proptest! {
    #[test]
    fn never_panics(file: Vec<u8>) {
        let _ = program(&file);
    }

    #[test]
    fn never_panics_on_a_damaged_program(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut: prop::sample::Index,
    ) {
        let mut file = Sample::new(b"/lib/ld.so\0").with(abi::DT_RUNPATH, "/a:/b").bytes();
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = program(&file);
        file.truncate(cut.index(file.len()));
        let _ = program(&file);
    }
}
