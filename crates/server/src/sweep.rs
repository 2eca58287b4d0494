//! What time does by itself: one task that sleeps until the next deadline. The stored time is the authority and the
//! timer only an alarm; two servers that sweep at once do the same thing once.

use std::time::Duration;

use elevon_policy::time::{Span, Timestamp};

use crate::app::App;
use crate::auth::session;
use crate::error::Error;
use crate::{accounts, auth, grants, requests};

/// It looks at least this often: another server may have stored a deadline.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// After a failure it tries again this soon.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Sweeps for as long as the process lives.
pub async fn keep_sweeping(app: App) {
    loop {
        let rung = app.deadlines.notified();
        let sleep = match once(&app).await {
            Ok(next) => {
                let left = next.map_or(LONGEST_SLEEP, |next| next.since(app.now()).std());
                left.min(LONGEST_SLEEP)
            }
            Err(error) => {
                tracing::warn!(%error, "could not do what is due");
                AFTER_FAILURE
            }
        };
        // Whatever rings meanwhile is only a reason to look again.
        let _ = tokio::time::timeout(sleep, rung).await;
    }
}

/// Does everything that is due, and gives the next deadline.
pub async fn once(app: &App) -> Result<Option<Timestamp>, Error> {
    let requests = requests::lapse_due(app).await?;
    let grants = grants::expire_due(app).await?;
    Ok(requests.into_iter().chain(grants).min())
}

/// Removes what is over and nobody misses: sessions, counts of failed sign-ins. Renews the server's own certificate in time.
pub async fn keep_tidying(app: App) {
    loop {
        if let Err(error) = tidy(&app).await {
            tracing::warn!(%error, "could not remove old sessions");
        }
        match app.keys.renew(app.now()) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the server's certificate was made anew; the next connections are shown it")
            }
            Err(error) => tracing::error!(%error, "could not make the server's certificate anew"),
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

async fn tidy(app: &App) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    auth::sql::delete_old_sessions(&mut tx, now.before(session::LIFE), now.before(session::IDLE)).await?;
    accounts::sql::delete_old_failures(&mut tx, now.before(Span::from_hours(1))).await?;
    tx.commit().await
}
