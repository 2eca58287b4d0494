//! DER (ITU-T X.690): tag, length, content; one way to write each thing. Anything else is an error: no indefinite lengths, no
//! lengths longer than they need to be, no tags of several bytes.

/// What was expected where something else was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const FIRST: u8 = 0xa0;
/// `[1]`, constructed.
pub(super) const SECOND: u8 = 0xa1;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// Elements one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next element, whatever it is; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let element = Element::first_of(self.rest)?;
        self.rest = self.rest.get(element.whole.len()..).unwrap_or_default();
        Ok(Some(element))
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
        self.optional(tag)?.ok_or(Malformed(what))
    }

    /// The next element, if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) { self.next() } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(super) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

impl<'a> Element<'a> {
    /// The element that these bytes begin with.
    pub(super) fn first_of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("DER");
        let (tag, rest) = bytes.split_first().ok_or(WRONG)?;
        if tag & 0x1f == 0x1f {
            return Err(WRONG);
        }
        let (first, rest) = rest.split_first().ok_or(WRONG)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80)).ok_or(WRONG)?;
                let length = digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit));
                let shortest = digits.first() != Some(&0) && length >= 0x80;
                (Some(length).filter(|_| shortest).ok_or(WRONG)?, rest)
            }
            _ => return Err(WRONG),
        };
        let content = rest.get(..length).ok_or(WRONG)?;
        let head = bytes.len() - rest.len();
        Ok(Self { tag: *tag, content, whole: bytes.get(..head + length).ok_or(WRONG)? })
    }

    /// What is in it.
    pub(super) fn inside(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}
