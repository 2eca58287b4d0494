//! A package's header as rpm's database holds it (`lib/header.cc`): the number of entries, the size of the data, then
//! entries of four big-endian numbers (tag, type, offset, count), then the data. Only the types that are needed.

/// A header that is in memory.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    entries: &'a [[u8; 16]],
    data: &'a [u8],
}

const INT32: u32 = 4;
const CHAR: u32 = 1;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;
/// A package has no more files.
const MAX_COUNT: usize = 1 << 20;

impl<'a> Header<'a> {
    /// Nothing where the sizes do not fit.
    pub(crate) fn read(blob: &'a [u8]) -> Option<Self> {
        let (head, rest) = blob.split_first_chunk::<8>()?;
        let [entries, size] =
            [head.first_chunk::<4>()?, head.last_chunk::<4>()?].map(|number| u32::from_be_bytes(*number));
        let entries = usize::try_from(entries).ok()?.checked_mul(16)?;
        let (entries, data) = rest.split_at_checked(entries)?;
        let data = data.get(..usize::try_from(size).ok()?)?;
        Some(Self { entries: entries.as_chunks().0, data })
    }

    /// The first entry with this tag: type, where its data begins, and how many values there are.
    fn find(&self, tag: u32) -> Option<(u32, &'a [u8], usize)> {
        self.entries.iter().find_map(|entry| {
            let (numbers, _) = entry.as_chunks::<4>();
            let [found, kind, offset, count] = numbers else { return None };
            if u32::from_be_bytes(*found) != tag {
                return None;
            }
            let data = self.data.get(usize::try_from(u32::from_be_bytes(*offset)).ok()?..)?;
            let count =
                usize::try_from(u32::from_be_bytes(*count)).ok().filter(|count| *count <= MAX_COUNT)?;
            Some((u32::from_be_bytes(*kind), data, count))
        })
    }

    pub(crate) fn string(&self, tag: u32) -> Option<&'a str> {
        match self.find(tag)? {
            (STRING | I18N_STRING, data, _) => {
                std::str::from_utf8(data.split(|byte| *byte == 0).next()?).ok()
            }
            _ => None,
        }
    }

    /// As many as there are said to be, each ended by a zero byte.
    pub(crate) fn strings(&self, tag: u32) -> Option<Vec<&'a [u8]>> {
        let (STRING_ARRAY, data, count) = self.find(tag)? else { return None };
        let strings: Vec<_> = data.split_inclusive(|byte| *byte == 0).take(count).collect();
        (strings.len() == count).then_some(())?;
        strings.into_iter().map(|string| string.strip_suffix(b"\0")).collect()
    }

    pub(crate) fn numbers(&self, tag: u32) -> Option<Vec<u32>> {
        let (INT32, data, count) = self.find(tag)? else { return None };
        let (numbers, _) = data.get(..count.checked_mul(4)?)?.as_chunks();
        Some(numbers.iter().map(|number| u32::from_be_bytes(*number)).collect())
    }

    pub(crate) fn bytes(&self, tag: u32) -> Option<&'a [u8]> {
        let (CHAR, data, count) = self.find(tag)? else { return None };
        data.get(..count)
    }
}
