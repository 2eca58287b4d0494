//! A stretch of a chain, checked by itself: whether it fits what comes before is for whoever puts the stretches together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elevon_policy::application::Sha256;
use elevon_policy::event::What;
use elevon_policy::sheet::ChainHead;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{Link, Record};
use elevon_wire::signed::{PublicKey, Purpose, Signed, digest};
use serde::Deserialize;

use super::Origin;
use super::verify::Depth;

/// A stretch that fits together.
#[derive(Debug)]
pub struct Followed {
    /// The digest that its first record names as that of the one before.
    pub before: Sha256,
    /// The digest of each record.
    pub digests: Vec<Sha256>,
    /// Heads of the server's own chain that a computer wrote down, and when.
    pub witnessed: Vec<(ChainHead, Timestamp)>,
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

/// What a column holds of a computer's event, as far as the chain needs it.
#[derive(Deserialize)]
struct Body<'a> {
    body: &'a str,
}

/// Checks the events behind `after` up to `last`, a line each. `key` is the computer's, and nothing for the server itself.
pub fn follow(
    lines: &str,
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
    for line in lines.lines() {
        expected += 1;
        let column = Columns::read(line).ok_or_else(|| Broken::itself(expected, "its row cannot be read"))?;
        if column.number != expected {
            return Err(Broken::itself(expected, "it is missing"));
        }
        let record = match key {
            None => column.body.as_bytes(),
            Some(_) => {
                let wrong = |error: String| Broken::itself(expected, error);
                let body: Body<'_> =
                    serde_json::from_str(column.body).map_err(|error| wrong(error.to_string()))?;
                bytes.clear();
                STANDARD.decode_vec(body.body, &mut bytes).map_err(|error| wrong(error.to_string()))?;
                bytes.as_slice()
            }
        };
        let link = Link::read(record).map_err(|broken| Broken::itself(expected, broken.to_string()))?;
        match followed.digests.last() {
            None => followed.before = link.after.digest,
            Some(digest) if *digest == link.after.digest => {}
            Some(_) => return Err(Broken::link(expected)),
        }
        if link.after.number != expected - 1 {
            return Err(Broken::itself(expected, format!("its record says event {}", link.after.number + 1)));
        }
        if link.event.at.millis() != column.at || link.event.kind != column.kind {
            return Err(Broken::itself(expected, "its columns do not say what its record says"));
        }
        if key.is_some() && link.event.kind == "sheet.delivered" {
            followed.witnessed.extend(witnessed(record).map(|head| (head, link.event.at)));
        }
        if depth == Depth::EachSignature
            && let Some(key) = key
        {
            let signed: Signed = serde_json::from_str(column.body)
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

fn witnessed(record: &[u8]) -> Option<ChainHead> {
    match serde_json::from_slice::<Record>(record).ok()?.event.what {
        What::SheetDelivered { checkpoint, .. } => checkpoint,
        _ => None,
    }
}

/// The digest that a stored event names as that of the one before it.
pub fn after(body: &str, origin: Origin) -> Option<Sha256> {
    let record = match origin {
        Origin::Server => body.as_bytes().to_vec(),
        Origin::Computer(_) => STANDARD.decode(serde_json::from_str::<Body<'_>>(body).ok()?.body).ok()?,
    };
    Some(Link::read(&record).ok()?.after.digest)
}

/// A stored event, as [`super::sql::lines`] gives it.
struct Columns<'a> {
    number: u64,
    at: i64,
    kind: &'a str,
    body: &'a str,
}

impl<'a> Columns<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (number, rest) = line.split_once(' ')?;
        let (at, rest) = rest.split_once(' ')?;
        let (kind, body) = rest.split_once(' ')?;
        Some(Self { number: number.parse().ok()?, at: at.parse().ok()?, kind, body })
    }
}
