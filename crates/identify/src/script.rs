//! The first line of a script, read as Linux reads it (`fs/binfmt_script.c`, 5.1 and later).

use std::fmt;

use elevon_policy::text::OsText;

/// How many bytes of a file the kernel looks at (`BINPRM_BUF_SIZE`).
pub const HEAD: usize = 256;

/// Who reads a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shebang {
    /// As written: not yet known to be absolute, to exist, or to be trusted. Never empty.
    pub interpreter: OsText,
    /// All that follows it, as one argument.
    pub argument: Option<OsText>,
}

/// The file begins with `#!`, but the kernel would not take its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadShebang {
    /// No interpreter is named.
    Nameless,
    /// The interpreter's name may go on behind the bytes that the kernel looks at.
    TooLong,
}

impl fmt::Display for BadShebang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nameless => "its first line names no interpreter behind #!",
            Self::TooLong => "the interpreter on its first line does not end within 256 bytes",
        })
    }
}

impl std::error::Error for BadShebang {}

/// Reads the first line from a file's first bytes, of which at most [`HEAD`] count. `None` where the file is no script.
pub fn shebang(head: &[u8]) -> Result<Option<Shebang>, BadShebang> {
    if !head.starts_with(b"#!") {
        return Ok(None);
    }
    let line = Line::new(head);
    let end = line.end()?;
    let name = line.find(2, end, |byte| !blank(byte)).filter(|at| *at != end).ok_or(BadShebang::Nameless)?;
    let behind = line.find(name, end, ends_name);
    let argument = behind
        .filter(|at| line.byte(*at) != 0)
        .and_then(|at| line.find(at, end, |byte| !blank(byte)))
        .map(|at| line.text(at, end));
    let interpreter = line.text(name, behind.unwrap_or(end));
    if interpreter.is_empty() {
        return Err(BadShebang::Nameless);
    }
    Ok(Some(Shebang { interpreter: OsText::new(interpreter), argument: argument.map(OsText::new) }))
}

fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn ends_name(byte: u8) -> bool {
    blank(byte) || byte == 0
}

/// The kernel's buffer: the file's first bytes, and zeros where the file is shorter.
struct Line([u8; HEAD]);

impl Line {
    const LAST: usize = HEAD - 1;

    fn new(head: &[u8]) -> Self {
        let mut line = [0; HEAD];
        line.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        Self(line)
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// The first position from `first` up to and including `last` that is `wanted`.
    fn find(&self, first: usize, last: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
        (first..=last.min(Self::LAST)).find(|at| wanted(self.byte(*at)))
    }

    /// Where the line ends, without blanks at its end. A NUL hides a newline behind it, as in the kernel.
    fn end(&self) -> Result<usize, BadShebang> {
        let newline = self.find(0, Self::LAST, |byte| byte == b'\n' || byte == 0);
        let mut end = match newline.filter(|at| self.byte(*at) == b'\n') {
            Some(at) => at,
            None => {
                let name = self.find(2, Self::LAST, |byte| !blank(byte)).ok_or(BadShebang::Nameless)?;
                self.find(name, Self::LAST, ends_name).ok_or(BadShebang::TooLong)?;
                Self::LAST
            }
        };
        while end > 2 && blank(self.byte(end - 1)) {
            end -= 1;
        }
        Ok(end)
    }

    /// The bytes from `start` to before `end`, or to before a NUL: the kernel copies C strings.
    fn text(&self, start: usize, end: usize) -> Vec<u8> {
        (start..end).map(|at| self.byte(at)).take_while(|byte| *byte != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let shebang = shebang(head).ok().flatten()?;
        Some((
            shebang.interpreter.as_bytes().to_vec(),
            shebang.argument.map(|argument| argument.as_bytes().to_vec()),
        ))
    }

    #[track_caller]
    fn check(head: &[u8], interpreter: &str, argument: Option<&str>) {
        assert_eq!(read(head), Some((interpreter.into(), argument.map(Into::into))));
    }

    #[test]
    fn the_forms_that_people_write() {
        check(b"#!/bin/sh\necho", "/bin/sh", None);
        check(b"#!/bin/sh", "/bin/sh", None);
        check(b"#! /bin/sh\n", "/bin/sh", None);
        check(b"#!\t /usr/bin/env\tpython3 \t\nx", "/usr/bin/env", Some("python3"));
        check(b"#!/usr/bin/awk -f  -v x\n", "/usr/bin/awk", Some("-f  -v x"));
        check(b"#!/bin/sh   \n", "/bin/sh", None);
        check(b"#!sh2\n", "sh2", None);
    }

    #[test]
    fn a_carriage_return_belongs_to_the_name() {
        check(b"#!/bin/sh\r\n", "/bin/sh\r", None);
    }

    #[test]
    fn nul_ends_the_name_and_hides_the_newline() {
        check(b"#!/bin/sh\0\n", "/bin/sh", None);
        check(b"#!/bin/sh\0-x\n", "/bin/sh", None);
        check(b"#!/bin/sh -x\0y\n", "/bin/sh", Some("-x"));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for head in [b"#!".as_slice(), b"#!\n", b"#!  \t \n/bin/sh", b"#!\0/bin/sh\n", b"#! \0"] {
            assert_eq!(shebang(head), Err(BadShebang::Nameless), "{head:?}");
        }
        assert_eq!(shebang(&[b"#!".as_slice(), &[b' '; 300]].concat()), Err(BadShebang::Nameless));
    }

    #[test]
    fn a_name_that_may_go_on_is_refused_and_an_argument_is_cut() {
        let long = [b"#!/".as_slice(), &[b'a'; 300], b"\n"].concat();
        assert_eq!(shebang(&long), Err(BadShebang::TooLong));
        let argument = [b"#!/bin/sh ".as_slice(), &[b'a'; 300], b"\n"].concat();
        check(&argument, "/bin/sh", Some(&"a".repeat(255 - 10)));
        let fits = [b"#!/".as_slice(), &[b'a'; 252], b"\n"].concat();
        check(&fits, &format!("/{}", "a".repeat(252)), None);
    }

    #[test]
    fn other_files_are_no_scripts() {
        for head in [b"".as_slice(), b"#", b"# !/bin/sh", b"\x7fELF", b" #!/bin/sh"] {
            assert_eq!(shebang(head), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn never_panics(mut head: Vec<u8>, script: bool) {
            if script {
                head.splice(0..0, *b"#!");
            }
            if let Ok(Some(read)) = shebang(&head) {
                prop_assert!(!read.interpreter.as_bytes().is_empty());
                prop_assert!(!read.interpreter.as_bytes().contains(&0));
                prop_assert!(read.argument.is_none_or(|argument| !argument.as_bytes().contains(&0)));
            }
        }

        #[test]
        fn lines_of_few_characters(head in "#![ \t\n\0/ab]{0,20}[ \t\n\0/ab]{0,260}") {
            let _ = shebang(head.as_bytes());
        }
    }
}
