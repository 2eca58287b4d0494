//! The agents' channel: what a computer should hold, and what it has to say.

pub mod api;
pub mod bundles;
pub mod events;
pub mod news;
pub mod sheet;
pub mod sql;

use elevon_policy::id::ComputerId;
use elevon_policy::time::Span;
use elevon_wire::channel::{State, StateQuestion};
use sqlx::AnyConnection;

use crate::app::App;
use crate::clock;
use crate::error::Error;

/// A long-poll is answered after this long, news or not, so that no proxy in between loses patience.
pub const LONGEST_WAIT: Span = Span::from_secs(55);

/// The state of a computer moved on: its sheet's version goes up. Call it first in a transaction, it locks the
/// computer's row; wake its long-poll after the commit.
pub async fn touch(tx: &mut AnyConnection, app: &App, computer: ComputerId) -> Result<(), Error> {
    sql::touch(tx, computer, app.now()).await
}

/// What a computer should hold, as soon as it differs from what it has; nothing when that did not happen in time.
///
/// Version 0 is answered at once: it also lengthens the lease.
pub async fn state(app: &App, computer: ComputerId, question: StateQuestion) -> Result<Option<State>, Error> {
    let wait = Span::from_secs(question.wait).min(LONGEST_WAIT);
    let deadline = clock::alarm(wait);
    let waiting = app.news.wait_for(computer);
    loop {
        let notified = waiting.notified();
        tokio::pin!(notified);
        // From here on no news is missed, also none that comes while the database is being asked.
        notified.as_mut().enable();
        let version = {
            let mut db = app.db.read().await?;
            sql::version(&mut db, computer).await?
        };
        waiting.knows(version);
        if version.sheet() != question.after {
            let (sheet, bundle) = sheet::signed(app, computer).await?;
            let bundle = (question.bundle != Some(bundle.digest)).then(|| bundle.signed.clone());
            return Ok(Some(State { sheet, bundle }));
        }
        if app.news.is_over() || tokio::time::timeout_at(deadline, notified).await.is_err() {
            return Ok(None);
        }
    }
}
