//! `elevon-server doctor`: looks at what the server stands on, one line for each.

use crate::app::App;
use crate::audit::verify::{Depth, verify};
use crate::error::Error;

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whether it is as it should be.
    pub good: bool,
    /// In a sentence.
    pub sentence: String,
}

/// Looks at everything.
pub async fn examine(app: &App) -> Result<Vec<Finding>, Error> {
    let good = |sentence: String| Finding { good: true, sentence };
    let bad = |sentence: String| Finding { good: false, sentence };
    let mut findings = vec![
        good(format!("database: {:?}, can be read and is up to date", app.db.engine())),
        good(format!(
            "keys: server key {}, authority {}",
            app.keys.public().id(),
            app.keys.ca_fingerprint().short()
        )),
        good(format!("agents reach this server at {}", app.config.agents_address)),
    ];
    let mut db = app.db.read().await?;
    let accounts = crate::accounts::sql::count(&mut db).await?;
    drop(db);
    findings.push(match accounts {
        0 => {
            bad("accounts: none yet; start `elevon-server serve` and open the set-up link it prints"
                .to_owned())
        }
        _ => good(format!("accounts: {accounts}")),
    });
    findings.push(match verify(app, Depth::Chains).await? {
        Ok(verified) => good(format!("audit: {verified}")),
        Err(tampered) => bad(format!("audit: {tampered}")),
    });
    Ok(findings)
}
