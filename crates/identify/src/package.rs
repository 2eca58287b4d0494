//! What package databases record of files.

use elevon_policy::application::{Package, Sha256};

/// A package's word on one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The package; whether the file is unmodified is yet to be seen.
    pub package: Package,
    /// The digest that it recorded of the file, where it did.
    pub digest: Option<Recorded>,
}

/// A digest in a package database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Weak: someone who chose both files can make them alike. Nobody but root can choose either here, so it tells whether
    /// the file was changed, and nothing more.
    Md5([u8; 16]),
    /// Strong.
    Sha256(Sha256),
}

/// Reads hexadecimal digits, exactly twice as many as there are bytes.
pub(crate) fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let text = std::str::from_utf8(pair)
            .ok()
            .filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(bytes)
}
