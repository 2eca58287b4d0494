//! `elevon-server doctor`: looks at what the server stands on, one line for each. It changes nothing that is there, and takes
//! no longer on a large site than on a small one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use elevon_policy::time::{Span, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::app::App;
use crate::audit::{checkpoints, verify};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::error::Error;
use crate::keys::Keys;

/// Less room than this on the disk of the state is too little, in MiB.
const ROOM: u64 = 1024;
/// A certificate that ends within this should have been made anew.
const NEAR: Span = Span::from_days(14);
/// Servers' clocks may differ by this much: news of each other are looked for no further back.
const APART: Span = Span::from_secs(5);
/// A checkpoint is due a minute after an event; this long is too long.
const BEHIND: Span = Span::from_mins(10);
/// The audit trail should be verified at least this often.
const VERIFIED: Span = Span::from_days(8);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it should be.
    pub good: bool,
    /// In a sentence.
    pub sentence: String,
}

impl Finding {
    fn of(good: bool, sentence: impl Into<String>) -> Self {
        Self { good, sentence: sentence.into() }
    }
}

/// Looks at everything; where one thing is missing that others stand on, those are not looked at.
pub async fn examine(config: Config, clock: Clock) -> Vec<Finding> {
    let now = clock.now();
    let mut findings = vec![modes(&config.state_dir), room(&config.state_dir)];
    if !config.state_dir.join("keys/server.key").exists() {
        findings.push(Finding::of(false, "keys: none yet; start `elevon-server serve`, which makes them"));
        return findings;
    }
    let keys = match Keys::look(&config.state_dir, &config.host_names()) {
        Ok(keys) => keys,
        Err(error) => {
            findings.push(Finding::of(false, format!("keys: {error}")));
            return findings;
        }
    };
    let ids = (keys.public().id(), keys.ca_fingerprint().short());
    findings.push(Finding::of(true, format!("keys: server key {}, authority {}", ids.0, ids.1)));
    findings.push(certificate(
        "the server's certificate",
        &keys.own.certificate(),
        now,
        "a server that runs makes another by itself; look into its log for why it did not",
    ));
    findings.push(certificate(
        "the authority's certificate",
        &keys.ca,
        now,
        "set up a new site and enroll the computers there",
    ));
    findings.push(Finding::of(true, format!("agents: reach this server at {}", config.agents_address)));
    let db = match Db::look(&config.database_url).await {
        Ok(db) => db,
        Err(error) => {
            let cause = match &error {
                Error::Internal(cause) => cause.to_string(),
                other => other.to_string(),
            };
            let told =
                format!("database: cannot be opened ({cause}); is it running, and database_url right?");
            findings.push(Finding::of(false, told));
            return findings;
        }
    };
    let app = App::new(db, clock, keys, config);
    match of_database(&app).await {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(Finding::of(false, format!("database: could not be read: {error}"))),
    }
    findings
}

/// Whether anyone but the server's user can read what is private.
fn modes(state_dir: &Path) -> Finding {
    let keys = state_dir.join("keys");
    let files = fs::read_dir(&keys).into_iter().flatten().flatten().map(|file| file.path());
    let open = |path: &std::path::PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    };
    let open: Vec<_> = [state_dir.to_owned(), keys.clone()].into_iter().chain(files).filter(open).collect();
    if open.is_empty() {
        return Finding::of(true, format!("private: nobody else can read {}", state_dir.display()));
    }
    let open: Vec<_> = open.iter().map(|path| path.display().to_string()).collect();
    Finding::of(false, format!("private: others can read {}; `chmod go= ` them", open.join(", ")))
}

fn room(state_dir: &Path) -> Finding {
    match rustix::fs::statvfs(state_dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize) / (1 << 20);
            let told = format!("disk: {free} MiB are free for {}", state_dir.display());
            if free < ROOM {
                return Finding::of(
                    false,
                    format!("{told}; without room nothing can be recorded, and so nothing decided"),
                );
            }
            Finding::of(true, told)
        }
        Err(error) => Finding::of(false, format!("disk: could not look at {}: {error}", state_dir.display())),
    }
}

fn certificate(what: &str, certificate: &CertificateDer<'_>, now: Timestamp, advice: &str) -> Finding {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Finding::of(false, format!("{what}: cannot be read"));
    };
    let ends = Timestamp::from_millis(parsed.validity().not_after.timestamp().saturating_mul(1000));
    let begins = Timestamp::from_millis(parsed.validity().not_before.timestamp().saturating_mul(1000));
    let told = format!("{what}: ends on {}", written(ends));
    if begins > now {
        let told = format!(
            "{what}: not valid before {}; set the clock if it is behind; else it was ahead when this was made: {advice}",
            written(begins)
        );
        return Finding::of(false, told);
    }
    if ends <= now.after(NEAR) {
        Finding::of(false, format!("{told}; {advice}"))
    } else {
        Finding::of(true, told)
    }
}

async fn of_database(app: &App) -> Result<Vec<Finding>, Error> {
    let engine = app.db.engine();
    let migrations = app.db.migrations().await?;
    let mut findings =
        vec![Finding::of(true, format!("database: {engine}, can be read; {migrations} migrations applied"))];
    if let Some(there) = app.db.clock().await? {
        findings.push(clocks(app.now(), there));
    }
    let mut db = app.db.read().await?;
    let accounts = crate::accounts::sql::count(&mut db).await?;
    let last = checkpoints::sql::last(&mut db).await?;
    let grown = checkpoints::sql::grown(&mut db).await?;
    drop(db);
    findings.push(match accounts {
        0 => Finding::of(
            false,
            "accounts: none yet; start `elevon-server serve` and open the set-up link it prints",
        ),
        _ => Finding::of(true, format!("accounts: {accounts}")),
    });
    let told = last.as_ref().map_or_else(
        || "none yet".to_owned(),
        |last| format!("number {} of {}", last.number, written(last.at)),
    );
    let late = grown > 0 && last.is_some_and(|last| app.now().since(last.at) > BEHIND);
    findings.push(Finding::of(!late, format!("checkpoint: {told}, {grown} events behind it")));
    findings.push(match checkpoints::contradiction(app).await? {
        Some(told) => Finding::of(false, format!("audit: {told}")),
        None => Finding::of(true, "audit: agrees with the last checkpoint outside the database"),
    });
    findings.push(verified(app));
    Ok(findings)
}

fn clocks(here: Timestamp, there: Timestamp) -> Finding {
    let apart = here.since(there).max(there.since(here));
    let told = format!("clock: {} ms from the database's", apart.millis());
    if apart > APART {
        let advice = "servers learn late of each other's news; set the clocks by NTP";
        return Finding::of(false, format!("{told}; {advice}"));
    }
    Finding::of(true, told)
}

/// What the last `audit verify` on this server said.
fn verified(app: &App) -> Finding {
    let Some(last) = verify::last(&app.config.state_dir) else {
        return Finding::of(
            true,
            "verified: never on this server; run `elevon-server audit verify` from a timer",
        );
    };
    let told = format!("verified: on {}: {}", written(last.at), last.told);
    if last.good && app.now().since(last.at) > VERIFIED {
        return Finding::of(false, format!("{told}; that is long ago, run `elevon-server audit verify`"));
    }
    Finding::of(last.good, told)
}

fn written(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| at.millis().to_string(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}
