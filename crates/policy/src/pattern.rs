//! Patterns for one argument of a command line.

use serde::{Deserialize, Serialize};

use crate::text::OsText;

/// What one argument may look like. `*` stands for any bytes but `/`, also none; a backslash takes the byte behind it as it
/// is; everything else stands for itself.
///
/// A `*` is meant for a name, so it never stands for what would make it something else: at the beginning of the argument
/// not for a `-` (an option), and a part of a path that has a `*` is never `.` or `..` (another folder).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(OsText);

impl Pattern {
    /// Takes any bytes for a pattern.
    pub fn new(pattern: OsText) -> Self {
        Self(pattern)
    }

    /// As it was written.
    pub fn written(&self) -> &OsText {
        &self.0
    }

    /// Whether it covers the argument. Linear in the length of both.
    pub fn matches(&self, argument: &OsText) -> bool {
        let parts = self.parts();
        let mut given = argument.as_bytes().split(|byte| *byte == b'/');
        let begins_as_option = argument.as_bytes().starts_with(b"-");
        let first_is_open = parts.first().and_then(|part| part.first()).is_some_and(Vec::is_empty);
        if begins_as_option && first_is_open && parts.first().is_some_and(|part| part.len() > 1) {
            return false;
        }
        parts.iter().all(|part| given.next().is_some_and(|given| part_matches(part, given)))
            && given.next().is_none()
    }

    /// Parts between slashes; of each, the literal pieces between its stars. `a*/b` is `[["a", ""], ["b"]]`.
    fn parts(&self) -> Vec<Vec<Vec<u8>>> {
        let mut parts = vec![vec![Vec::new()]];
        let mut bytes = self.0.as_bytes().iter().copied();
        while let Some(byte) = bytes.next() {
            let Some(part) = parts.last_mut() else { break };
            let behind_a_star = part.len() > 1 && part.last().is_some_and(Vec::is_empty);
            match (byte, part.last_mut()) {
                (b'/', _) => parts.push(vec![Vec::new()]),
                (b'*', _) if behind_a_star => {}
                (b'*', _) => part.push(Vec::new()),
                (b'\\', Some(piece)) => piece.extend(bytes.next()),
                (_, Some(piece)) => piece.push(byte),
                (_, None) => {}
            }
        }
        parts
    }
}

/// Whether the literal pieces occur in this order: the first at the beginning, the last at the end, each other one at the
/// first place that is left, which leaves the most for those behind it.
fn part_matches(pieces: &[Vec<u8>], given: &[u8]) -> bool {
    let [first, between @ .., last] = pieces else {
        return pieces.first().is_some_and(|piece| piece == given);
    };
    if matches!(given, b"." | b"..") {
        return false;
    }
    let inner = given.strip_prefix(first.as_slice()).and_then(|rest| rest.strip_suffix(last.as_slice()));
    let rest = inner.and_then(|inner| {
        between.iter().try_fold(inner, |rest, piece| {
            let at = find(rest, piece)?;
            rest.get(at + piece.len()..)
        })
    });
    rest.is_some()
}

/// Where the piece first occurs (Knuth, Morris, Pratt 1977): no text makes it look at a byte more than twice.
fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    let borders = borders(piece);
    let mut matched = 0;
    for (at, byte) in text.iter().enumerate() {
        if matched == piece.len() {
            break;
        }
        while matched > 0 && piece.get(matched) != Some(byte) {
            matched = borders.get(matched - 1).copied().unwrap_or(0);
        }
        if piece.get(matched) == Some(byte) {
            matched += 1;
        }
        if matched == piece.len() {
            return (at + 1).checked_sub(matched);
        }
    }
    piece.is_empty().then_some(0)
}

/// Of each beginning of the piece, the length of the longest shorter beginning that is also its end.
fn borders(piece: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; piece.len()];
    let mut length = 0;
    for (at, byte) in piece.iter().enumerate().skip(1) {
        while length > 0 && piece.get(length) != Some(byte) {
            length = borders.get(length - 1).copied().unwrap_or(0);
        }
        if piece.get(length) == Some(byte) {
            length += 1;
        }
        if let Some(border) = borders.get_mut(at) {
            *border = length;
        }
    }
    borders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, argument: &str) -> bool {
        Pattern::new(OsText::from(pattern)).matches(&OsText::from(argument))
    }

    #[test]
    fn a_star_stands_for_part_of_a_name() {
        for (pattern, argument) in [
            ("", ""),
            ("nginx", "nginx"),
            ("nginx*", "nginx"),
            ("nginx*", "nginx-full"),
            ("*", ""),
            ("*", "a b"),
            ("*.log", "a.log"),
            ("*a*b*", "xaxbx"),
            ("/var/log/*", "/var/log/syslog"),
            ("/var/*/x", "/var/a/x"),
            (r"\*", "*"),
            (r"a\\b", r"a\b"),
            ("--name=*", "--name=x"),
            ("*****a", "ba"),
            ("a*a", "aa"),
            ("..", ".."),
            ("../*", "../a"),
            ("a*ab*b", "aabb"),
            ("*", "a\nb"),
            ("/srv/*", "/srv/..."),
        ] {
            assert!(matches(pattern, argument), "{pattern} covers {argument:?}");
        }
    }

    #[test]
    fn a_star_never_makes_it_something_else() {
        for (pattern, argument) in [
            ("", "a"),
            ("a", ""),
            ("nginx", "nginx "),
            ("nginx", "Nginx"),
            ("nginx*", "xnginx"),
            ("*", "/"),
            ("*", "a/b"),
            ("*", "-o"),
            ("*", "--force"),
            ("**", "-"),
            ("*.log", "-x.log"),
            ("/var/log/*", "/var/log/a/b"),
            ("/var/log/*", "/var/log/.."),
            ("/var/log/*", "/var/log/."),
            ("/var/*/x", "/var/../x"),
            ("/var/.*", "/var/.."),
            ("/var/log/*", "/var/log"),
            ("*", ".."),
            ("a*a", "a"),
            ("*ab*ab*", "abxa"),
            (r"\*", "a"),
            (r"a\", "a/"),
        ] {
            assert!(!matches(pattern, argument), "{pattern} does not cover {argument:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_bytes() {
        let pattern = Pattern::new(OsText::new(*b"\xff*"));
        assert!(pattern.matches(&OsText::new(*b"\xff\x80")) && !pattern.matches(&OsText::new(*b"\x80")));
    }

    #[test]
    fn hostile_patterns_stay_cheap() {
        let stars = format!("{}b", "*a".repeat(20_000));
        let many = "a".repeat(100_000);
        assert!(!matches(&stars, &many));
        assert!(!matches(&format!("*{}b*", "a".repeat(50_000)), &many));
        assert!(!matches(&format!("{}b", "*".repeat(100_000)), &many));
    }
}
