//! The X displays of this computer and the keys to them: what `DISPLAY` says (X(7)), and the file that `XAUTHORITY` names
//! (Xsecurity(7); its form as in libXau's `AuRead.c`: a family, then an address, the display's number, the name of a
//! protocol and the key, each with its length before it, all numbers big-endian).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one protocol whose keys are passed on.
const PROTOCOL: &[u8] = b"MIT-MAGIC-COOKIE-1";
/// The address is the name of this computer.
const FAMILY_LOCAL: u16 = 256;
/// For any address.
const FAMILY_WILD: u16 = 65535;

/// A display of this computer: `:N` or `:N.S`. One with a host in it is reached by the network, and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalDisplay {
    number: u16,
    screen: Option<u8>,
}

impl LocalDisplay {
    /// What `DISPLAY` says; none where it says anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(':')?;
        let (number, screen) = match text.split_once('.') {
            Some((number, screen)) => (number, Some(screen)),
            None => (text, None),
        };
        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = Some(number).filter(digits)?.parse().ok()?;
        let screen = match screen {
            Some(screen) => Some(Some(screen).filter(digits)?.parse().ok()?),
            None => None,
        };
        Some(Self { number, screen })
    }
}

impl fmt::Display for LocalDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.number)?;
        self.screen.map_or(Ok(()), |screen| write!(f, ".{screen}"))
    }
}

/// The key to a display: whoever has it may do anything there. It never shows in what is logged.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cookie([u8; 16]);

impl Cookie {
    /// The key to a display among those in such a file, on a computer of this name; the first one counts, as it does for X's
    /// own library.
    pub fn find(file: &[u8], display: LocalDisplay, host: &[u8]) -> Option<Self> {
        let number = display.number.to_string();
        let mut rest = file;
        while !rest.is_empty() {
            let (family, behind) = rest.split_first_chunk::<2>()?;
            let mut behind = behind;
            let mut field = || {
                let (length, text) = behind.split_first_chunk::<2>()?;
                let (field, left) = text.split_at_checked(u16::from_be_bytes(*length).into())?;
                behind = left;
                Some(field)
            };
            let (address, of, protocol, key) = (field()?, field()?, field()?, field()?);
            rest = behind;
            let here = match u16::from_be_bytes(*family) {
                FAMILY_WILD => true,
                FAMILY_LOCAL => address == host,
                _ => false,
            };
            if here && (of.is_empty() || of == number.as_bytes()) && protocol == PROTOCOL {
                return Some(Self(key.try_into().ok()?));
            }
        }
        None
    }

    /// A file with this key to this display, and no other.
    pub fn file(&self, display: LocalDisplay) -> Vec<u8> {
        let number = display.number.to_string();
        let mut file = FAMILY_WILD.to_be_bytes().to_vec();
        for field in [&b""[..], number.as_bytes(), PROTOCOL, &self.0] {
            // None is longer than sixteen, or eighteen, bytes.
            file.extend_from_slice(&[0, u8::try_from(field.len()).unwrap_or_default()]);
            file.extend_from_slice(field);
        }
        file
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(text: &str) -> LocalDisplay {
        LocalDisplay::parse(text.as_bytes()).expect("one of this computer")
    }

    fn entry(family: u16, address: &[u8], number: &[u8], protocol: &[u8], key: &[u8]) -> Vec<u8> {
        let mut entry = family.to_be_bytes().to_vec();
        for field in [address, number, protocol, key] {
            entry.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
            entry.extend(field);
        }
        entry
    }

    #[test]
    fn a_display_of_this_computer_is_a_number() {
        for (text, shown) in [(":0", ":0"), (":99.1", ":99.1"), (":007", ":7"), (":65535", ":65535")] {
            assert_eq!(display(text).to_string(), shown);
        }
        for text in [
            "",
            ":",
            "0",
            "host:0",
            "localhost:10.0",
            "unix:0",
            ":-1",
            ":+1",
            ":0.",
            ":0.0.0",
            ":.0",
            ":65536",
            ":0.256",
            ":0\n",
            ":0 ",
            ":a",
            "::0",
            ":/tmp/x",
            "/tmp/x:0",
            "tcp/evil:0",
            ":0/../x",
            ":٣",
            ":0\0",
        ] {
            assert_eq!(LocalDisplay::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LocalDisplay::parse(b":\xff"), None);
    }

    #[test]
    fn the_key_to_the_display_is_found_and_no_other() {
        let file = [
            entry(0, &[127, 0, 0, 1], b"7", PROTOCOL, &[1; 16]),
            entry(256, b"other", b"7", PROTOCOL, &[2; 16]),
            entry(256, b"here", b"8", PROTOCOL, &[3; 16]),
            entry(256, b"here", b"7", b"XDM-AUTHORIZATION-1", &[4; 16]),
            entry(256, b"here", b"7", PROTOCOL, &[5; 16]),
            entry(65535, b"", b"", PROTOCOL, &[6; 16]),
        ]
        .concat();
        let found = |display: &str, host: &[u8]| Cookie::find(&file, self::display(display), host);
        assert_eq!(found(":7", b"here"), Some(Cookie([5; 16])));
        assert_eq!(found(":7.0", b"other"), Some(Cookie([2; 16])));
        assert_eq!(found(":8", b"here"), Some(Cookie([3; 16])));
        assert_eq!(found(":9", b"here"), Some(Cookie([6; 16])));
    }

    #[test]
    fn what_is_no_such_file_has_no_key() {
        let whole = entry(65535, b"", b"7", PROTOCOL, &[5; 16]);
        for length in 0..whole.len() {
            assert_eq!(Cookie::find(&whole[..length], display(":7"), b"here"), None, "{length}");
        }
        assert_eq!(Cookie::find(b"root:$y$j9T$abc:19000:0:99999:7:::\n", display(":7"), b"here"), None);
        let long = entry(65535, b"", b"7", PROTOCOL, &[5; 17]);
        assert_eq!(Cookie::find(&long, display(":7"), b"here"), None);
    }

    #[test]
    fn a_file_of_one_key_is_read_again() {
        let cookie = Cookie([0xab; 16]);
        assert_eq!(cookie.file(display(":7.1")), entry(65535, b"", b"7", PROTOCOL, &[0xab; 16]));
        assert_eq!(Cookie::find(&cookie.file(display(":7")), display(":7"), b"any"), Some(cookie));
        assert_eq!(Cookie::find(&cookie.file(display(":7")), display(":8"), b"any"), None);
        assert!(!format!("{cookie:?}").contains("171"));
    }
}
