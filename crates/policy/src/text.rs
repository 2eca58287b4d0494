//! Text that came from outside: a person, a file system, a command line. It has no `Display`; it leaves through
//! [`Visible`] (terminal, log, page) or [`Cell`] (spreadsheet), so that no control character, no text-direction
//! trick and no formula gets out by accident.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Free text from a person or a computer, as UTF-8: a justification, a comment, a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For comparing and storing; for showing there is [`Text::visible`].
    pub fn as_untrusted(&self) -> &str {
        &self.0
    }

    /// For a terminal, a log line, or a page (which escapes HTML on top).
    pub fn visible(&self) -> Visible<'_> {
        Visible(self.0.as_bytes())
    }

    /// For a cell of a spreadsheet, before CSV quoting.
    pub fn cell(&self) -> Cell<'_> {
        Cell(self.0.as_bytes())
    }
}

/// Bytes from the operating system: a path, an argument. In JSON, bytes that are not printable UTF-8 stand as `\xNN`
/// and a backslash as `\\`, so that nothing is lost and nothing is ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OsText(Vec<u8>);

impl OsText {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The very bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a terminal, a log line, or a page (which escapes HTML on top).
    pub fn visible(&self) -> Visible<'_> {
        Visible(&self.0)
    }

    /// For a cell of a spreadsheet, before CSV quoting.
    pub fn cell(&self) -> Cell<'_> {
        Cell(&self.0)
    }

    /// The part behind the last slash; all of it where there is none.
    pub fn file_name(&self) -> Self {
        let start = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        Self(self.0.get(start..).unwrap_or_default().to_vec())
    }

    /// The same of a path of Windows, where a backslash parts folders too.
    pub fn file_name_on_windows(&self) -> Self {
        let start = self.0.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |at| at + 1);
        Self(self.0.get(start..).unwrap_or_default().to_vec())
    }

    /// Escaped as in JSON; [`OsText::parse`] reads it back.
    pub fn escaped(&self) -> String {
        self.visible().to_string()
    }

    /// Reads what [`OsText::escaped`] writes. Also takes plain text without any escape.
    pub fn parse(text: &str) -> Result<Self, InvalidEscape> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'\\' {
                bytes.push(*first);
                continue;
            }
            match rest {
                [b'\\', tail @ ..] => {
                    bytes.push(b'\\');
                    rest = tail;
                }
                [b'x', high, low, tail @ ..] => {
                    bytes.push((hex(*high)? << 4) | hex(*low)?);
                    rest = tail;
                }
                _ => return Err(InvalidEscape),
            }
        }
        Ok(Self(bytes))
    }
}

fn hex(digit: u8) -> Result<u8, InvalidEscape> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(InvalidEscape)
}

impl From<&str> for OsText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.visible())
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A backslash stands before something other than `\` or `xNN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidEscape;

impl fmt::Display for InvalidEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r"expected \\ or \xNN behind a backslash")
    }
}

impl std::error::Error for InvalidEscape {}

/// Shows text with every control, direction and invisible character, and every byte that is not UTF-8, as `\xNN`
/// (the bytes of its UTF-8 form), and the backslash doubled. Injective: different text looks different.
#[derive(Debug, Clone, Copy)]
pub struct Visible<'a>(&'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '\\' {
                    f.write_str("\\\\")?;
                } else if hidden(character) {
                    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that change how their neighbours look, or do not look like anything: controls, line and paragraph
/// separators, bidirectional formatting (Unicode TR 9), zero-width and tag characters.
fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// [`Visible`], and harmless to a spreadsheet: what a spreadsheet would take for a formula gets a leading apostrophe.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a>(&'a [u8]);

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only what is not escaped can start a formula; spreadsheets skip blanks, and some know full-width signs.
        let start = self.0.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        if start.trim_start().starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠']) {
            f.write_str("'")?;
        }
        Visible(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_becomes_visible() {
        let text = Text::new("a\u{1b}[31m\u{202e}b\\x1b\n");
        assert_eq!(text.visible().to_string(), r"a\x1b[31m\xe2\x80\xaeb\\x1b\x0a");
        assert_eq!(Text::new("=1+1").cell().to_string(), "'=1+1");
        for formula in [" =1", "\u{a0}=1", "＝1", "\t@x"] {
            assert!(Text::new(formula).cell().to_string().starts_with('\''), "{formula}");
        }
    }

    #[test]
    fn any_bytes_survive_json() {
        for bytes in [&b"plain"[..], b"\xff\xfe", b"a\\x41", "é\u{202e}".as_bytes(), b"\0\n"] {
            let text = OsText::new(bytes);
            let json = serde_json::to_string(&text).expect("serialises");
            assert_eq!(serde_json::from_str::<OsText>(&json).expect("reads back"), text);
        }
        assert_eq!(OsText::parse(r"\q"), Err(InvalidEscape));
        assert_eq!(OsText::parse(r"\x4"), Err(InvalidEscape));
    }
}
