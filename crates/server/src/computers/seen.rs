//! When each computer was heard from: noted in memory with each of its requests, written down in one go every few
//! seconds, so that ten thousand idle agents cost one transaction and not ten thousand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use elevon_policy::id::ComputerId;
use elevon_policy::time::Timestamp;

use super::sql;
use crate::app::App;
use crate::error::Error;

/// How often it is written down.
const WRITE: Duration = Duration::from_secs(5);

/// When each computer was heard from since that was last written down.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<ComputerId, Timestamp>>);

impl Seen {
    /// It was heard from now.
    pub fn note(&self, computer: ComputerId, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(computer, now);
    }

    fn take(&self) -> HashMap<ComputerId, Timestamp> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes down what was noted.
pub async fn write(app: &App) -> Result<(), Error> {
    let seen = app.seen.take();
    if seen.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    // In one order on every server, so that two of them do not wait for each other's rows.
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_unstable();
    for (computer, at) in seen {
        sql::seen(&mut tx, computer, at).await?;
    }
    tx.commit().await
}

/// Writes down what was noted, again and again.
pub async fn keep_writing(app: App) {
    loop {
        tokio::time::sleep(WRITE).await;
        if let Err(error) = write(&app).await {
            tracing::warn!(%error, "could not write down when computers were heard from");
        }
    }
}
