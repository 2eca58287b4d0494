//! A paragraph of control fields (deb822(5)).

use std::collections::BTreeMap;

/// The fields of one paragraph, by their names in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields<'a>(BTreeMap<String, &'a [u8]>);

/// Reads one paragraph; nothing where it is not well-formed, or has a field twice.
pub fn fields(paragraph: &[u8]) -> Option<Fields<'_>> {
    let mut fields = BTreeMap::new();
    let mut rest = paragraph.strip_suffix(b"\n").unwrap_or(paragraph);
    while !rest.is_empty() {
        let end = field_end(rest);
        let (field, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = field.split_at(colon);
        let is_name = |byte: &u8| byte.is_ascii_graphic();
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty() && name.as_bytes().iter().all(is_name))?;
        if fields.insert(name.to_ascii_lowercase(), value.get(1..).unwrap_or_default()).is_some() {
            return None;
        }
    }
    Some(Fields(fields))
}

/// Where the first line that does not go on with a blank ends.
fn field_end(text: &[u8]) -> usize {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    ends.find(|at| !matches!(text.get(at + 1), Some(b' ' | b'\t'))).unwrap_or(text.len())
}

impl<'a> Fields<'a> {
    /// A field that stands on one line, without the blanks around it; nothing where it is no UTF-8.
    pub fn word(&self, name: &str) -> Option<&'a str> {
        let text = self.text(name)?;
        std::str::from_utf8(text.trim_ascii()).ok().filter(|text| !text.contains('\n'))
    }

    /// A field as it stands, lines and all.
    pub fn text(&self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name).copied()
    }
}
