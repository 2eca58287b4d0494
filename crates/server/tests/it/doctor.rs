//! What the doctor finds, and what it does not mistake for well.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::audit::checkpoints;
use elevon_server::audit::verify::{Depth, note, verify};
use elevon_server::auth::Role;
use elevon_server::clock::Clock;
use elevon_server::config::Config;
use elevon_server::doctor::{Finding, examine};
use elevon_server::{accounts, db};
use tempfile::TempDir;

use crate::site::{PASSWORD, Site};

crate::on_both_engines!(a_site_that_is_well, each_thing_that_is_wrong_is_told);

async fn findings(site: &Site) -> Vec<Finding> {
    examine(site.app.config.clone(), site.app.clock.clone()).await
}

/// What is said of it, and whether it is well.
fn about(findings: &[Finding], what: &str) -> (bool, String) {
    let found = findings.iter().find(|finding| finding.sentence.starts_with(what));
    let found = found.unwrap_or_else(|| panic!("nothing is said of {what}: {findings:?}"));
    (found.good, found.sentence.clone())
}

async fn owned(site: &Site) {
    let name = Text::new("owner");
    accounts::create(&site.app, &site.owner(), name, Role::Owner, Vec::new(), PASSWORD).await.unwrap();
    checkpoints::now(&site.app).await.unwrap();
}

async fn a_site_that_is_well(site: Site) {
    owned(&site).await;
    let found = findings(&site).await;
    assert!(found.iter().all(|finding| finding.good), "{found:?}");
    let engine = match site.app.db.engine() {
        db::Engine::Sqlite => "SQLite",
        db::Engine::Postgres => "PostgreSQL",
    };
    assert!(about(&found, "database").1.contains(engine), "{found:?}");
    assert!(about(&found, "checkpoint").1.contains("number 1 of"), "{found:?}");
    assert!(about(&found, "verified").1.contains("never"), "{found:?}");
    for what in
        ["private", "disk", "keys", "the server's certificate", "the authority's certificate", "audit"]
    {
        about(&found, what);
    }
    note(&site.app, &verify(&site.app, Depth::Chains).await.unwrap()).unwrap();
    let found = findings(&site).await;
    assert!(about(&found, "verified").1.contains("in 1 chains hold"), "{found:?}");
}

async fn each_thing_that_is_wrong_is_told(site: Site) {
    let found = findings(&site).await;
    assert!(!about(&found, "accounts").0, "{found:?}");
    owned(&site).await;

    let key = site.state_dir().join("keys/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (good, told) = about(&findings(&site).await, "private");
    assert!(!good && told.contains("ca.key") && !told.contains("server.key"), "{told}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    note(&site.app, &verify(&site.app, Depth::Chains).await.unwrap()).unwrap();
    site.later(Span::from_days(9));
    let (good, told) = about(&findings(&site).await, "verified");
    assert!(!good && told.contains("long ago"), "{told}");
    site.group("Late", &[]).await;
    let (good, told) = about(&findings(&site).await, "checkpoint");
    assert!(!good && told.contains("2 events behind"), "{told}");
    if site.app.db.engine() == db::Engine::Postgres {
        let (good, told) = about(&findings(&site).await, "clock");
        assert!(!good && told.contains("NTP"), "{told}");
    }
    let behind = Clock::moved(site.now().before(Span::from_days(30)));
    for what in ["the server's certificate", "the authority's certificate"] {
        let (good, told) = about(&examine(site.app.config.clone(), behind.clone()).await, what);
        assert!(!good && told.contains("not valid before"), "{told}");
    }
    site.later(Span::from_days(3640));
    let own = fs::read(site.state_dir().join("keys/tls.pem")).unwrap();
    for what in ["the server's certificate", "the authority's certificate"] {
        let (good, told) = about(&findings(&site).await, what);
        assert!(!good, "{told}");
    }
    assert_eq!(fs::read(site.state_dir().join("keys/tls.pem")).unwrap(), own, "the doctor makes nothing");

    let mut tx = site.app.db.begin().await.unwrap();
    sqlx::raw_sql("delete from migrations where number = 5").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for _ in 0..2 {
        let (good, told) = about(&findings(&site).await, "database");
        assert!(!good && told.contains("brings it up to date"), "the doctor migrates nothing: {told}");
    }

    let nowhere = "postgres://nobody@127.0.0.1:1/nothing".to_owned();
    let config = Config { database_url: nowhere, ..site.app.config.clone() };
    let (good, told) = about(&examine(config, site.app.clock.clone()).await, "database");
    assert!(!good && told.contains("cannot be opened"), "{told}");

    let empty = TempDir::new().unwrap();
    let config = Config { state_dir: empty.path().to_owned(), ..site.app.config.clone() };
    let found = examine(config, site.app.clock.clone()).await;
    assert!(!about(&found, "keys").0, "{found:?}");
    assert!(!empty.path().join("keys").exists(), "the doctor makes nothing");
}
