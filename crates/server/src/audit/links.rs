//! A stretch of a chain, checked by itself: whether it fits what comes before is for whoever puts the stretches together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elevon_policy::application::Sha256;
use elevon_policy::event::{What, Witnessed};
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{Link, Record};
use elevon_wire::signed::{PublicKey, Purpose, Signed, digest};
use serde::Deserialize;

use super::Origin;
use super::columns::NAMES;
use super::sql::Kept;
use super::verify::Depth;

/// A stretch that fits together.
#[derive(Debug)]
pub struct Followed {
    /// The digest that its first record names as that of the one before.
    pub before: Sha256,
    /// The digest of each record.
    pub digests: Vec<Sha256>,
    /// What a computer wrote down of the server's own chain.
    pub witnessed: Vec<Note>,
}

/// A head of the server's own chain that a computer was told of.
#[derive(Debug, Clone, Copy)]
pub struct Note {
    /// How far the chain was.
    pub head: ChainHead,
    /// When this was written down, by the computer's clock.
    pub at: Timestamp,
    /// It was written down because the computer was told less by then, or something else.
    pub contradicts: bool,
}

/// An event that is not as it was written.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub number: u64,
    /// What is wrong, in a sentence.
    pub cause: String,
    /// It does not follow the one before it, and either may be the one that was changed.
    pub is_link: bool,
}

impl Broken {
    /// An event that does not follow the one before it.
    pub fn link(number: u64) -> Self {
        Self { number, cause: "it does not follow the event before it".to_owned(), is_link: true }
    }

    fn itself(number: u64, cause: impl Into<String>) -> Self {
        Self { number, cause: cause.into(), is_link: false }
    }
}

/// A stored event as it is checked.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    number: u64,
    at: i64,
    kind: &'a str,
    body: &'a str,
    beside: [&'a str; NAMES.len()],
}

impl<'a> Stored<'a> {
    /// Those in the texts of a [`super::sql::Run`]; none, once, where they cannot be read on.
    pub fn of_run((mut headings, mut bodies): (&'a str, &'a str)) -> impl Iterator<Item = Option<Self>> {
        std::iter::from_fn(move || {
            if headings.is_empty() {
                return None;
            }
            let first = Self::take(&mut headings, &mut bodies);
            if first.is_none() {
                headings = "";
            }
            Some(first)
        })
    }

    fn take(headings: &mut &'a str, bodies: &mut &'a str) -> Option<Self> {
        let mut next = || {
            let (column, rest) = headings.split_once(super::sql::BEHIND)?;
            *headings = rest;
            Some(column)
        };
        let (number, at, kind) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?);
        let mut beside = [""; NAMES.len()];
        for column in &mut beside {
            *column = next()?;
        }
        let length: usize = next()?.parse().ok()?;
        let (body, rest) = bodies.split_at_checked(length)?;
        *bodies = rest;
        Some(Self { number, at, kind, body, beside })
    }

    /// From a row.
    pub fn of_row(kept: &'a Kept) -> Self {
        let mut beside = [""; NAMES.len()];
        for (column, kept) in beside.iter_mut().zip(&kept.beside) {
            *column = kept.as_deref().unwrap_or_default();
        }
        Self { number: kept.number, at: kept.at, kind: &kept.kind, body: &kept.body, beside }
    }
}

/// Checks the events behind `after` up to `last`. `key` is the computer's, and nothing for the server itself. None of the
/// rows where it could not be read.
pub fn follow<'a>(
    rows: impl Iterator<Item = Option<Stored<'a>>>,
    origin: Origin,
    after: u64,
    last: u64,
    key: Option<&PublicKey>,
    depth: Depth,
) -> Result<Followed, Broken> {
    let size = usize::try_from(last - after).unwrap_or(0);
    let mut followed =
        Followed { before: Sha256([0; 32]), digests: Vec::with_capacity(size), witnessed: Vec::new() };
    let mut bytes = Vec::new();
    let mut expected = after;
    let this = origin.to_string();
    for stored in rows {
        expected += 1;
        let stored = stored.ok_or_else(|| Broken::itself(expected, "its row cannot be read"))?;
        if stored.number != expected {
            return Err(Broken::itself(expected, "it is missing"));
        }
        let record = match key {
            None => stored.body.as_bytes(),
            Some(_) => {
                let wrong = |error: String| Broken::itself(expected, error);
                bytes.clear();
                STANDARD
                    .decode_vec(signed_body(stored.body).map_err(wrong)?, &mut bytes)
                    .map_err(|error| wrong(error.to_string()))?;
                bytes.as_slice()
            }
        };
        let read = Read::of(record).map_err(|broken| Broken::itself(expected, broken.to_string()))?;
        match followed.digests.last() {
            None => followed.before = read.after.digest,
            Some(digest) if *digest == read.after.digest => {}
            Some(_) => return Err(Broken::link(expected)),
        }
        if read.after.number != expected - 1 {
            return Err(Broken::itself(expected, format!("its record says event {}", read.after.number + 1)));
        }
        if read.at != stored.at || read.kind != stored.kind {
            return Err(Broken::itself(expected, "its columns at and kind do not say what its record says"));
        }
        if !read.says(&this, &stored.beside) {
            beside(origin, record, &stored.beside).map_err(|cause| Broken::itself(expected, cause))?;
        }
        if key.is_some() && matches!(read.kind, "sheet.delivered" | "server.contradicted") {
            followed.witnessed.extend(witnessed(record));
        }
        if depth == Depth::EachSignature
            && let Some(key) = key
        {
            let signed: Signed = serde_json::from_str(stored.body)
                .map_err(|error| Broken::itself(expected, error.to_string()))?;
            signed.bytes(key, Purpose::Event).map_err(|error| Broken::itself(expected, error.to_string()))?;
        }
        followed.digests.push(digest(record));
    }
    if expected != last {
        return Err(Broken::itself(expected + 1, "it is missing"));
    }
    Ok(followed)
}

/// The base64 of what was signed, in a column that holds a signed event as it is written here. Anything else is read as
/// JSON: that takes longer.
fn signed_body(column: &str) -> Result<&str, String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        body: &'a str,
    }
    let written = || {
        let rest = column.strip_prefix("{\"key\":\"")?.get(16..)?.strip_prefix("\",\"body\":\"")?;
        let (rest, signature) = rest.strip_suffix("\"}")?.split_at_checked(rest.len().checked_sub(90)?)?;
        let body = rest.strip_suffix("\",\"signature\":\"")?;
        (!signature.contains(['"', '\\'])).then_some(body)
    };
    if let Some(body) = written() {
        return Ok(body);
    }
    serde_json::from_str::<Body<'_>>(column).map(|body| body.body).map_err(|error| error.to_string())
}

/// What is read of a record: its link, and of the most frequent kinds whom and what it is about.
struct Read<'a> {
    after: ChainHead,
    at: i64,
    kind: &'a str,
    about: Option<About<'a>>,
}

/// Of launches, which are most of all events. Text with an escape in it cannot be borrowed, and makes the reading fail.
#[derive(Deserialize)]
struct About<'a> {
    launch: Option<&'a str>,
    grant: Option<&'a str>,
    #[serde(borrow)]
    user: Option<User<'a>>,
    path: Option<&'a str>,
    #[serde(borrow)]
    policy: Option<Policy<'a>>,
}

#[derive(Deserialize)]
struct User<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct Policy<'a> {
    policy: &'a str,
}

impl<'a> Read<'a> {
    fn of(record: &'a [u8]) -> Result<Self, elevon_wire::chain::Broken> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            after: After<'a>,
            #[serde(borrow)]
            event: Inside<'a>,
        }
        #[derive(Deserialize)]
        struct After<'a> {
            number: u64,
            digest: &'a str,
        }
        #[derive(Deserialize)]
        struct Inside<'a> {
            at: i64,
            kind: &'a str,
            #[serde(borrow)]
            data: About<'a>,
        }
        if let Ok(text) = std::str::from_utf8(record)
            && let Ok(Whole { after, event: Inside { at, kind, data } }) = serde_json::from_str(text)
            && matches!(kind, "launch.started" | "launch.ended" | "launch.refused")
            && let Ok(digest) = after.digest.parse()
        {
            let after = ChainHead { number: after.number, digest };
            return Ok(Self { after, at, kind, about: Some(data) });
        }
        let Link { after, event } = Link::read(record)?;
        Ok(Self { after, at: event.at.millis(), kind: event.kind, about: None })
    }

    /// Whether the columns say what was read; no where too little was read to tell.
    fn says(&self, origin: &str, beside: &[&str; NAMES.len()]) -> bool {
        self.about.as_ref().is_some_and(|about| {
            let user = about.user.as_ref().map_or("", |user| user.name);
            let policy = about.policy.as_ref().map_or("", |policy| policy.policy);
            let path = about.path.unwrap_or_default();
            let (grant, launch) = (about.grant.unwrap_or_default(), about.launch.unwrap_or_default());
            *beside == ["", origin, user, path, policy, "", grant, launch]
        })
    }
}

/// Compares columns with the whole event. The error says which differs.
fn beside(origin: Origin, record: &[u8], beside: &[&str; NAMES.len()]) -> Result<(), String> {
    let record: Record = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    let expected = super::columns::of(origin, &record.event);
    for ((name, found), expected) in NAMES.iter().zip(beside).zip(expected) {
        let expected = expected.unwrap_or_default();
        if *found != expected {
            let (found, expected) = (Text::new(*found), Text::new(expected));
            return Err(format!(
                "its column {name} says “{}”, its record “{}”",
                found.visible(),
                expected.visible()
            ));
        }
    }
    Ok(())
}

fn witnessed(record: &[u8]) -> Option<Note> {
    let event = serde_json::from_slice::<Record>(record).ok()?.event;
    let (head, contradicts) = match event.what {
        What::SheetDelivered { checkpoint, .. } => (checkpoint?, false),
        What::ServerContradicted { chain: Witnessed::Server, known, .. } => (known, true),
        _ => return None,
    };
    Some(Note { head, at: event.at, contradicts })
}

/// The digest that a stored event names as that of the one before it.
pub fn after(body: &str, origin: Origin) -> Option<Sha256> {
    let record = match origin {
        Origin::Server => body.as_bytes().to_vec(),
        Origin::Computer(_) => STANDARD.decode(signed_body(body).ok()?).ok()?,
    };
    Some(Link::read(&record).ok()?.after.digest)
}
