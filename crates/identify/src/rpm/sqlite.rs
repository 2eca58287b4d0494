//! As much of SQLite's file format (<https://www.sqlite.org/fileformat2.html>) as it takes to look rows up by number and by
//! key, in a file that nobody writes meanwhile. Nothing is written, no SQL is understood, and no question reads more than
//! a fixed number of bytes.

use std::fmt;

/// A table or index may be this many pages deep; SQLite's own limit.
const MAX_DEPTH: u8 = 20;
/// Bytes that may be read and put together from one database: a header of 32 MiB, twice, and some.
const MAX_BYTES: usize = 96 << 20;
/// Of a key in an index.
const MAX_KEY: usize = 64 << 10;
/// Tables and indexes in a database of rpm's: about fifty.
const MAX_SCHEMA: usize = 1000;

/// A database file, read in pieces: `piece(offset, length)` gives so many bytes, or fewer where the file ends.
#[derive(Debug)]
pub struct Database<F> {
    piece: F,
    page_size: usize,
    usable: usize,
    bytes_left: usize,
    roots: Vec<(Vec<u8>, u32)>,
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, or a fraction.
    Other,
    /// A whole number.
    Integer(i64),
    /// A text or a blob.
    Bytes(Vec<u8>),
}

/// The file is no database that can be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSqlite {
    /// It does not begin as such files do.
    Header,
    /// A page is not what the page that leads there says.
    Page,
    /// There is more to read for one question than any answer takes, or its pages go round in circles.
    TooMuch,
    /// rpm's tables are not in it.
    Tables,
}

impl fmt::Display for NotSqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "it is no SQLite database",
            Self::Page => "it is a damaged SQLite database",
            Self::TooMuch => "looking it up takes more bytes than any answer should",
            Self::Tables => "rpm's tables are not in it",
        })
    }
}

impl std::error::Error for NotSqlite {}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    /// The bytes are no database.
    NotSqlite(NotSqlite),
    /// The bytes could not be had.
    Bytes(E),
}

impl<E> From<NotSqlite> for Unread<E> {
    fn from(not: NotSqlite) -> Self {
        Self::NotSqlite(not)
    }
}

/// One page of a tree.
struct Page {
    bytes: Vec<u8>,
    kind: u8,
    /// Where its cells begin.
    cells: Vec<usize>,
    /// Where everything lies that is behind its last cell; only of inner pages.
    rightmost: u32,
}

const INNER_INDEX: u8 = 2;
const INNER_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

impl<F, E> Database<F>
where
    F: FnMut(u64, usize) -> Result<Vec<u8>, E>,
{
    /// Reads the header, and where each table and index begins.
    pub fn open(mut piece: F) -> Result<Self, Unread<E>> {
        let head = piece(0, 100).map_err(Unread::Bytes)?;
        let number =
            |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_be_bytes);
        let page_size = match number(16) {
            Some(1) => 65_536,
            Some(size) if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err(NotSqlite::Header.into()),
        };
        let reserved = head.get(20).copied().map_or(0, usize::from);
        let utf8 = head.get(56..60) == Some(&[0, 0, 0, 1]);
        if !head.starts_with(b"SQLite format 3\0") || head.len() < 100 || page_size - reserved < 480 || !utf8
        {
            return Err(NotSqlite::Header.into());
        }
        let usable = page_size - reserved;
        let mut database = Self { piece, page_size, usable, bytes_left: MAX_BYTES, roots: Vec::new() };
        database.read_schema(1, 0)?;
        Ok(database)
    }

    /// The first page of this table or index.
    pub(super) fn root(&self, name: &str) -> Result<u32, NotSqlite> {
        let found = self.roots.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, root)| *root).ok_or(NotSqlite::Tables)
    }

    /// The row with this number; without any value where there is none.
    pub(super) fn row(&mut self, root: u32, number: i64, longest: usize) -> Result<Vec<Value>, Unread<E>> {
        let mut at = root;
        for _ in 0..MAX_DEPTH {
            let page = self.page(at)?;
            match page.kind {
                INNER_TABLE => {
                    let next = page.cells.iter().find_map(|cell| {
                        let rest = page.bytes.get(*cell..)?;
                        let (child, rest) = rest.split_first_chunk()?;
                        (number <= varint(rest)?.0).then_some(u32::from_be_bytes(*child))
                    });
                    at = next.unwrap_or(page.rightmost);
                }
                LEAF_TABLE => {
                    for cell in &page.cells {
                        let rest = page.bytes.get(*cell..).ok_or(NotSqlite::Page)?;
                        let (length, rest) = varint(rest).ok_or(NotSqlite::Page)?;
                        let (found, rest) = varint(rest).ok_or(NotSqlite::Page)?;
                        if found == number {
                            let payload = self.payload(rest, length, self.usable - 35, longest)?;
                            return Ok(record(&payload).ok_or(NotSqlite::Page)?);
                        }
                    }
                    return Ok(Vec::new());
                }
                _ => return Err(NotSqlite::Page.into()),
            }
        }
        Err(NotSqlite::TooMuch.into())
    }

    /// The numbers of the rows whose key is this text or blob, by way of an index over it; at most so many.
    pub(super) fn rows_with_key(
        &mut self,
        root: u32,
        key: &[u8],
        most: usize,
    ) -> Result<Vec<i64>, Unread<E>> {
        let mut found = Vec::new();
        self.collect(root, key, most, MAX_DEPTH, &mut found)?;
        Ok(found)
    }

    fn collect(
        &mut self,
        at: u32,
        key: &[u8],
        most: usize,
        depth: u8,
        found: &mut Vec<i64>,
    ) -> Result<(), Unread<E>> {
        let depth = depth.checked_sub(1).ok_or(NotSqlite::TooMuch)?;
        let page = self.page(at)?;
        let inner = match page.kind {
            INNER_INDEX => true,
            LEAF_INDEX => false,
            _ => return Err(NotSqlite::Page.into()),
        };
        // Keys go up, so the first that is not smaller can be searched for.
        let (mut low, mut high) = (0, page.cells.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(&page, inner, middle)?.0.as_slice() < key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        for cell in low..page.cells.len() {
            let (known, row, child) = self.key(&page, inner, cell)?;
            if inner {
                self.collect(child, key, most, depth, found)?;
            }
            if known != key || found.len() >= most {
                return Ok(());
            }
            found.push(row);
        }
        if inner { self.collect(page.rightmost, key, most, depth, found) } else { Ok(()) }
    }

    /// Key, row number and child of a cell of an index. Where the key is a number it is taken for an empty text, which sorts
    /// before every other.
    fn key(&mut self, page: &Page, inner: bool, cell: usize) -> Result<(Vec<u8>, i64, u32), Unread<E>> {
        let mut rest = page.cells.get(cell).and_then(|at| page.bytes.get(*at..)).ok_or(NotSqlite::Page)?;
        let mut child = 0;
        if inner {
            let (number, behind) = rest.split_first_chunk().ok_or(NotSqlite::Page)?;
            (child, rest) = (u32::from_be_bytes(*number), behind);
        }
        let (length, rest) = varint(rest).ok_or(NotSqlite::Page)?;
        let local = (self.usable - 12) * 64 / 255 - 23;
        let payload = self.payload(rest, length, local, MAX_KEY)?;
        let mut columns = record(&payload).ok_or(NotSqlite::Page)?.into_iter();
        let key = match columns.next() {
            Some(Value::Bytes(key)) => key,
            _ => Vec::new(),
        };
        match columns.next() {
            Some(Value::Integer(row)) => Ok((key, row, child)),
            _ => Err(NotSqlite::Page.into()),
        }
    }

    /// All of a cell's payload: what is on the page, and what overflowed from it.
    fn payload(
        &mut self,
        rest: &[u8],
        length: i64,
        most_local: usize,
        longest: usize,
    ) -> Result<Vec<u8>, Unread<E>> {
        let length =
            usize::try_from(length).ok().filter(|length| *length <= longest).ok_or(NotSqlite::TooMuch)?;
        self.charge(length)?;
        if length <= most_local {
            return Ok(rest.get(..length).ok_or(NotSqlite::Page)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = least + (length - least) % (self.usable - 4);
        let local = if local <= most_local { local } else { least };
        let (start, behind) = rest.split_at_checked(local).ok_or(NotSqlite::Page)?;
        let mut payload = start.to_vec();
        let mut next = u32::from_be_bytes(*behind.first_chunk().ok_or(NotSqlite::Page)?);
        while payload.len() < length {
            let bytes = self.bytes(next)?;
            let (follows, content) = bytes.split_first_chunk().ok_or(NotSqlite::Page)?;
            let left = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(content.get(..left).ok_or(NotSqlite::Page)?);
            next = u32::from_be_bytes(*follows);
        }
        Ok(payload)
    }

    /// Whatever a file says, reading it costs no more than this.
    fn charge(&mut self, bytes: usize) -> Result<(), NotSqlite> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(NotSqlite::TooMuch)?;
        Ok(())
    }

    fn page(&mut self, number: u32) -> Result<Page, Unread<E>> {
        let bytes = self.bytes(number)?;
        // The first page begins with the header of the file.
        let start = if number == 1 { 100 } else { 0 };
        let head = bytes.get(start..).unwrap_or_default();
        let kind = head.first().copied().ok_or(NotSqlite::Page)?;
        let count = head.get(3..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u16::from_be_bytes);
        let rightmost =
            head.get(8..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_be_bytes);
        let pointers =
            head.get(if matches!(kind, INNER_INDEX | INNER_TABLE) { 12 } else { 8 }..).unwrap_or_default();
        let (pointers, _) = pointers.as_chunks();
        let cells =
            pointers.iter().take(usize::from(count)).map(|at| usize::from(u16::from_be_bytes(*at))).collect();
        Ok(Page { bytes, kind, cells, rightmost })
    }

    fn bytes(&mut self, number: u32) -> Result<Vec<u8>, Unread<E>> {
        self.charge(self.page_size)?;
        let at = u64::from(number.checked_sub(1).ok_or(NotSqlite::Page)?) * self.page_size as u64;
        let bytes = (self.piece)(at, self.page_size).map_err(Unread::Bytes)?;
        if bytes.len() == self.page_size { Ok(bytes) } else { Err(NotSqlite::Page.into()) }
    }

    /// `sqlite_schema`: type, name, table, first page, SQL.
    fn read_schema(&mut self, at: u32, depth: u8) -> Result<(), Unread<E>> {
        let page = self.page(at)?;
        if depth >= MAX_DEPTH || self.roots.len() > MAX_SCHEMA {
            return Err(NotSqlite::TooMuch.into());
        }
        for cell in &page.cells {
            let rest = page.bytes.get(*cell..).ok_or(NotSqlite::Page)?;
            if page.kind == INNER_TABLE {
                let child = rest.first_chunk().ok_or(NotSqlite::Page)?;
                self.read_schema(u32::from_be_bytes(*child), depth + 1)?;
                continue;
            }
            let (length, rest) = varint(rest).ok_or(NotSqlite::Page)?;
            let (_, rest) = varint(rest).ok_or(NotSqlite::Page)?;
            let payload = self.payload(rest, length, self.usable - 35, MAX_KEY)?;
            let columns = record(&payload).ok_or(NotSqlite::Page)?;
            if let [_, Value::Bytes(name), _, Value::Integer(root), ..] = columns.as_slice() {
                self.roots.push((name.clone(), u32::try_from(*root).map_err(|_| NotSqlite::Page)?));
            }
        }
        match page.kind {
            INNER_TABLE => self.read_schema(page.rightmost, depth + 1),
            LEAF_TABLE => Ok(()),
            _ => Err(NotSqlite::Page.into()),
        }
    }
}

/// Seven bits a byte, the first byte the highest; of a ninth byte all eight.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        let last = at == 8;
        value = if last { value << 8 | u64::from(*byte) } else { value << 7 | u64::from(byte & 0x7f) };
        if last || byte & 0x80 == 0 {
            return Some((value.cast_signed(), bytes.get(at + 1..)?));
        }
    }
    None
}

/// The values of a record: a header with their types, then their bytes.
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (size, _) = varint(payload)?;
    let (header, mut body) = payload.split_at_checked(usize::try_from(size).ok()?)?;
    let mut types = varint(header)?.1;
    let mut values = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let (bytes, rest) = body.split_at_checked(length)?;
        body = rest;
        values.push(match kind {
            1..=6 => Value::Integer(integer(bytes)),
            8 | 9 => Value::Integer(kind - 8),
            12.. => Value::Bytes(bytes.to_vec()),
            _ => Value::Other,
        });
    }
    Some(values)
}

/// Big-endian, with a sign, of one to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |value, byte| value << 8 | i64::from(*byte))
}
