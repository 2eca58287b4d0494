//! A command line as a person reads it: one line, quoted as in a shell, every hidden character visible.

use std::fmt;

use elevon_policy::text::OsText;

/// A program and its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    path: &'a OsText,
    arguments: Arguments<'a>,
}

impl<'a> Command<'a> {
    /// `argv` starts with the program's own name.
    pub fn new(path: &'a OsText, argv: &'a [OsText]) -> Self {
        Self { path, arguments: Arguments::new(argv) }
    }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(self.path, f)?;
        if self.arguments.0.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.arguments)
    }
}

/// Arguments without the program's own name.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a>(&'a [OsText]);

impl<'a> Arguments<'a> {
    /// `argv` starts with the program's own name.
    pub fn new(argv: &'a [OsText]) -> Self {
        Self(argv.get(1..).unwrap_or_default())
    }
}

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, argument) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            quoted(argument, f)?;
        }
        Ok(())
    }
}

/// Quotes wherever a reader could take one word for two, or for none.
fn quoted(word: &OsText, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-\\".contains(byte) || !byte.is_ascii();
    let visible = word.visible().to_string();
    if !visible.is_empty() && word.as_bytes().iter().all(plain) {
        return f.write_str(&visible);
    }
    write!(f, "'{}'", visible.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_be_taken_for_one_another() {
        let path = OsText::from("/usr/bin/rm");
        let argv: Vec<OsText> = ["rm", "a b", "", "it's", "--all", "a\nb"].map(OsText::from).to_vec();
        assert_eq!(Command::new(&path, &argv).to_string(), r"/usr/bin/rm 'a b' '' 'it'\''s' --all 'a\x0ab'");
        assert_eq!(Command::new(&path, &[]).to_string(), "/usr/bin/rm");
    }
}
