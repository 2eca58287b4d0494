//! Copies, and putting one back: into either engine, with keys or without, and what computers make of it.

use std::path::Path;

use elevon_policy::application::Sha256;
use elevon_policy::event::{What, Witnessed};
use elevon_policy::id::Version;
use elevon_policy::lists::Covers;
use elevon_policy::request::Approval;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::audit::verify::{Depth, Verified, verify};
use elevon_server::backup::{Restored, backup, restore};
use elevon_server::config::Config;
use elevon_server::db::{Db, Engine};
use elevon_server::error::Error;
use elevon_server::requests;
use tempfile::TempDir;

use crate::endpoint::Endpoint;
use crate::site::{Database, Site};

crate::on_both_engines!(
    a_backup_put_back_goes_on_and_says_so,
    keys_come_back_only_with_the_passphrase,
    nothing_is_ever_overwritten,
);

const PASSPHRASE: &str = "a long enough passphrase";

fn config(site: &Site, folder: &TempDir) -> Config {
    let state_dir = folder.path().to_owned();
    let database_url = Db::sqlite_url(folder.path());
    Config { state_dir, database_url, ..site.app.config.clone() }
}

/// A backup of one engine is put back into the other.
#[tokio::test]
#[ignore = "needs PostgreSQL; cargo xtask test runs it"]
async fn a_backup_of_sqlite_is_put_back_into_postgres() {
    goes_on_and_says_so(Site::on_sqlite().await, Engine::Postgres).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL; cargo xtask test runs it"]
async fn a_backup_of_postgres_is_put_back_into_sqlite() {
    goes_on_and_says_so(Site::on_postgres().await, Engine::Sqlite).await;
}

async fn put_back(site: &Site, config: &Config, file: &Path, passphrase: &str) -> Result<Restored, Error> {
    let passphrase = passphrase.to_owned();
    restore(config.clone(), site.app.clock.clone(), &site.owner(), file, || Ok(passphrase)).await
}

async fn holds(site: &Site) -> Verified {
    verify(&site.app, Depth::Chains).await.unwrap().unwrap()
}

async fn a_backup_put_back_goes_on_and_says_so(site: Site) {
    let engine = site.app.db.engine();
    goes_on_and_says_so(site, engine).await;
}

async fn goes_on_and_says_so(site: Site, into: Engine) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = elsewhere.path().join("site.backup");
    backup(&site.app, &site.owner(), &file, Some(PASSPHRASE)).await.unwrap();
    let taken = site.now();

    // What the backup does not know of: an approval, and two events that the computer has let go of since.
    let approval =
        Approval { duration: Span::from_mins(5), covers: Covers::ExactArguments, comment: Text::default() };
    requests::approve(&site.app, &site.approver("carol"), id, Version::FIRST, approval).await.unwrap();
    let held = computer.sheet(&site).await;
    assert_eq!(held.grants.len(), 1);
    for _ in 0..2 {
        computer.report(&site, What::DocumentRefused { cause: Text::new("late") }).await;
    }
    site.later(Span::from_mins(10));

    let mut config = config(&site, &folder);
    let database = match into {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Database::new().await),
    };
    if let Some(database) = &database {
        config.database_url = database.url();
    }
    let restored = put_back(&site, &config, &file, PASSPHRASE).await.unwrap();
    assert_eq!(restored.taken, taken);
    let site = Site::new(folder, config.database_url, database).await;
    assert_eq!(site.app.db.engine(), into);
    let verified = holds(&site).await;
    assert_eq!(verified.restored, [taken]);
    assert!(verified.to_string().contains("restored from a backup of"), "{verified}");

    // The computer takes the new sheet for newer than the one it holds; the grant is gone from it.
    let sheet = computer.sheet(&site).await;
    assert!(sheet.version > held.version, "{} {}", sheet.version, held.version);
    assert!(sheet.grants.is_empty());
    assert_eq!(requests::count_pending(&site.app, &site.reader()).await.unwrap(), 1);

    // Its clock begins at the real time; so it is behind the restore, at which it was moved.
    site.later(Span::from_mins(20));
    // It says once that the server knows less than before.
    let known = ChainHead { number: 1_000, digest: Sha256([1; 32]) };
    let less = What::ServerContradicted { chain: Witnessed::Server, known, told: ChainHead::START };
    let mut other = Endpoint::enroll(&site, "web2").await;
    for computer in [&mut computer, &mut other] {
        computer.report(&site, less.clone()).await;
    }
    assert_eq!(holds(&site).await.alone, None);
    other.report(&site, less).await;
    assert_eq!(holds(&site).await.alone.map(|word| word.computer), Some(other.id));

    // It goes on where it is, once; the hole is told.
    computer.report(&site, What::DocumentRefused { cause: Text::new("after") }).await;
    let verified = holds(&site).await;
    assert_eq!((verified.lost, verified.chains), (2, 3));
    computer.record(&site, What::DocumentRefused { cause: Text::new("never sent") });
    let next = computer.record(&site, What::DocumentRefused { cause: Text::new("behind a gap") });
    computer.send(&site, &[next]).await.refused(409, "expected event");
    holds(&site).await;
}

async fn keys_come_back_only_with_the_passphrase(site: Site) {
    site.group("Web", &[]).await;
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (with, without) = (elsewhere.path().join("with"), elsewhere.path().join("without"));
    let short = backup(&site.app, &site.owner(), &with, Some("short")).await.unwrap_err();
    assert!(short.to_string().contains("at least 12"), "{short}");
    backup(&site.app, &site.owner(), &with, Some(PASSPHRASE)).await.unwrap();
    backup(&site.app, &site.owner(), &without, None).await.unwrap();
    let bytes = std::fs::read(&with).unwrap();
    let seed = site.app.keys.signing.to_bytes();
    assert!(!bytes.windows(32).any(|window| window == seed), "the key stands open in the backup");

    let config = config(&site, &folder);
    let refused = put_back(&site, &config, &without, PASSPHRASE).await.unwrap_err();
    assert!(refused.to_string().contains("holds no keys"), "{refused}");
    let refused = put_back(&site, &config, &with, "another passphrase").await.unwrap_err();
    assert!(refused.to_string().contains("does not open"), "{refused}");
    assert!(!config.state_dir.join("keys/server.key").exists());
    put_back(&site, &config, &with, PASSPHRASE).await.unwrap();
    let key = std::fs::read(config.state_dir.join("keys/server.key")).unwrap();
    assert_eq!(key, seed);

    // Keys of another site do not do.
    let other = TempDir::new().unwrap();
    let config =
        Config { state_dir: other.path().to_owned(), database_url: Db::sqlite_url(other.path()), ..config };
    elevon_server::keys::Keys::open(other.path(), &config.host_names(), site.now()).unwrap();
    let refused = put_back(&site, &config, &without, "").await.unwrap_err();
    assert!(refused.to_string().contains("not those of this backup"), "{refused}");
}

async fn nothing_is_ever_overwritten(site: Site) {
    site.group("Web", &[]).await;
    let elsewhere = TempDir::new().unwrap();
    let file = elsewhere.path().join("site.backup");
    std::fs::write(&file, "mine").unwrap();
    let refused = backup(&site.app, &site.owner(), &file, None).await.unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let refused = put_back(&site, &site.app.config, &file, "").await.unwrap_err();
    assert!(!refused.to_string().is_empty());
    std::fs::remove_file(&file).unwrap();
    backup(&site.app, &site.owner(), &file, None).await.unwrap();
    let before = holds(&site).await.events;
    let refused = put_back(&site, &site.app.config, &file, "").await.unwrap_err();
    assert!(refused.to_string().contains("there is a site here already"), "{refused}");
    assert_eq!(holds(&site).await.events, before);
    // Only the file itself is left of it.
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    if site.app.db.engine() == Engine::Sqlite {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
