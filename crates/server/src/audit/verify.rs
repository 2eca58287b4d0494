//! Checks every chain from its beginning: numbers, digests, signatures, and the columns that the report filters by.

use std::fmt;

use elevon_policy::sheet::ChainHead;
use elevon_wire::chain;
use elevon_wire::signed::{PublicKey, Purpose, Signed};

use super::{Origin, sql};
use crate::app::App;
use crate::error::Error;

/// How many events are read at once.
const BATCH: i64 = 1000;

/// All chains hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many chains.
    pub chains: u64,
    /// How many events in all of them.
    pub events: u64,
}

/// The first row that is not as it was written.
#[derive(Debug, Clone)]
pub struct Tampered {
    /// In which chain.
    pub origin: Origin,
    /// Which event.
    pub number: u64,
    /// What is wrong with it.
    pub cause: String,
}

impl fmt::Display for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}, event {}: {}", self.origin, self.number, self.cause)
    }
}

/// Walks all chains.
pub async fn verify(app: &App) -> Result<Result<Verified, Tampered>, Error> {
    let mut db = app.db.snapshot().await?;
    let mut verified = Verified { chains: 0, events: 0 };
    for (origin, key) in sql::chains(&mut db).await? {
        let key: Option<PublicKey> = key
            .map(|key| key.parse())
            .transpose()
            .map_err(|error| Error::internal("reading a computer's event key", error))?;
        let mut at = ChainHead::START;
        loop {
            let kept = sql::kept(&mut db, origin, at.number, BATCH).await?;
            if kept.is_empty() {
                break;
            }
            for row in kept {
                at = match check(at, &row, key.as_ref()) {
                    Ok(head) => head,
                    Err(cause) => return Ok(Err(Tampered { origin, number: at.number + 1, cause })),
                };
                verified.events += 1;
            }
        }
        let head = sql::head(&mut db, origin).await?;
        if head != at {
            let cause = format!("the chain's head says {} events, {} are there", head.number, at.number);
            return Ok(Err(Tampered { origin, number: at.number + 1, cause }));
        }
        verified.chains += 1;
    }
    Ok(Ok(verified))
}

fn check(at: ChainHead, row: &sql::Kept, key: Option<&PublicKey>) -> Result<ChainHead, String> {
    let signed: Signed;
    let record = match key {
        None => row.body.as_bytes(),
        Some(key) => {
            signed = serde_json::from_str(&row.body).map_err(|error| error.to_string())?;
            signed.bytes(key, Purpose::Event).map_err(|error| error.to_string())?
        }
    };
    let (head, event) = chain::follow(at, record).map_err(|broken| broken.to_string())?;
    if head.number != row.number || event.at.millis() != row.at || event.what.kind() != row.kind {
        return Err("its columns do not say what its record says".to_owned());
    }
    Ok(head)
}
