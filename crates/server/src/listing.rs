//! Lists by the page: a key to go on from, never an offset, so that what is added meanwhile shifts nothing.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A part of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Listing<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where to go on; none at the end.
    pub next: Option<String>,
}

/// Where to go on: a time and a key behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// Among those of the same time.
    pub key: String,
}

/// The question for a part of a list, as a query string.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Part {
    /// Where to go on: the `next` of the part before.
    pub cursor: Option<String>,
}

/// How many items a part has.
pub const PART: usize = 50;

impl Cursor {
    /// Reads what [`Cursor::write`] wrote; nothing is the beginning of a list that runs from the latest.
    pub fn read(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self { at: i64::MAX, key: String::new() });
        };
        let parts = text.split_once('_').and_then(|(at, key)| Some((at.parse().ok()?, key)));
        let (at, key) = parts.ok_or_else(|| {
            Error::field("cursor", "expected the `next` of the part before; leave it out to begin anew")
        })?;
        Ok(Self { at, key: key.to_owned() })
    }

    /// Reads what [`Cursor::write`] wrote; nothing is the beginning of a list that runs towards the latest.
    pub fn read_forwards(text: Option<&str>) -> Result<Self, Error> {
        match text.filter(|text| !text.is_empty()) {
            None => Ok(Self::first()),
            text => Self::read(text),
        }
    }

    /// Before everything, in a list that runs towards the latest.
    pub fn first() -> Self {
        Self { at: i64::MIN, key: String::new() }
    }

    /// For a URL.
    pub fn write(at: i64, key: impl std::fmt::Display) -> String {
        format!("{at}_{key}")
    }
}

/// Makes a part of one item more than it shall have.
pub fn part<T>(mut items: Vec<T>, size: usize, cursor: impl Fn(&T) -> String) -> Listing<T> {
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(cursor);
    Listing { items, next }
}
