//! The trail: chained, whole, and safe to take away.

use elevon_policy::event::What;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::audit::verify::verify;
use elevon_server::auth::Role;
use elevon_server::db::Engine;

use crate::endpoint::Endpoint;
use crate::site::Site;

crate::on_both_engines!(
    a_changed_event_is_found_and_named,
    a_cut_tail_is_found,
    a_foreign_signature_is_found,
    the_report_goes_on_where_it_stopped,
    filters_narrow_the_report,
    the_csv_is_harmless_to_a_spreadsheet,
);

/// Whoever owns the database can take the triggers away.
async fn behind_the_back(site: &Site, sql: &'static str) {
    let unguard = match site.app.db.engine() {
        Engine::Sqlite => "drop trigger events_kept; drop trigger events_stay",
        Engine::Postgres => "drop trigger events_kept on events",
    };
    let mut tx = site.app.db.begin().await.unwrap();
    sqlx::raw_sql(unguard).execute(&mut *tx).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn some_events(site: &Site) -> Endpoint {
    let mut computer = Endpoint::enroll(site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    for user in ["alice", "bob", "carol"] {
        computer.asks(site, user, &policy).await;
    }
    assert_eq!(verify(&site.app).await.unwrap().unwrap().chains, 2);
    computer
}

async fn a_changed_event_is_found_and_named(site: Site) {
    some_events(&site).await;
    behind_the_back(
        &site,
        "update events set body = replace(body, 'Fleet', 'Fleed') where kind = 'group.saved'",
    )
    .await;
    let tampered = verify(&site.app).await.unwrap().unwrap_err();
    assert_eq!(tampered.origin.to_string(), "server");
    let text = tampered.to_string();
    assert!(text.contains("does not follow") || text.contains("head"), "{text}");
}

async fn a_cut_tail_is_found(site: Site) {
    let computer = some_events(&site).await;
    behind_the_back(&site, "delete from events where chain <> 'server' and number = 3").await;
    let tampered = verify(&site.app).await.unwrap().unwrap_err();
    assert_eq!((tampered.origin.to_string(), tampered.number), (computer.id.to_string(), 3));
}

async fn a_foreign_signature_is_found(site: Site) {
    let computer = some_events(&site).await;
    let other = Endpoint::enroll(&site, "web2").await;
    let mut forger = Endpoint { id: computer.id, head: elevon_policy::sheet::ChainHead::START, ..other };
    let forged = forger.record(&site, What::DocumentRefused { cause: Text::new("nothing happened") });
    let body = serde_json::to_string(&forged).unwrap();
    let sql = format!("update events set body = '{body}' where chain <> 'server' and number = 1");
    behind_the_back(&site, Box::leak(sql.into_boxed_str())).await;
    let tampered = verify(&site.app).await.unwrap().unwrap_err();
    assert_eq!(tampered.number, 1);
    assert!(tampered.cause.contains("key"), "{tampered}");
}

async fn the_report_goes_on_where_it_stopped(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    for round in 0..12 {
        // Many events at the same millisecond, of two chains.
        let records: Vec<_> = (0..10)
            .map(|_| computer.record(&site, What::DocumentRefused { cause: Text::new("x") }))
            .collect();
        computer.send(&site, &records).await.ok();
        if round % 3 == 0 {
            site.later(Span::from_millis(1));
        }
    }
    let token = site.token(Role::Auditor).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    let mut parts = 0;
    loop {
        let part = site.get(&token, &format!("events?cursor={cursor}")).await.ok();
        for row in part["items"].as_array().unwrap() {
            let key = (row["origin"].to_string(), row["number"].as_u64().unwrap());
            assert!(seen.insert(key), "{row} twice");
        }
        parts += 1;
        match part["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert!(parts >= 3);
    assert_eq!(seen.iter().filter(|(origin, _)| !origin.contains("server")).count(), 120);
    site.get(&token, "events?cursor=nonsense").await.refused(422, "cursor");
}

async fn filters_narrow_the_report(site: Site) {
    let computer = some_events(&site).await;
    let token = site.token(Role::Auditor).await;
    let count = async |query: String| {
        site.get(&token, &format!("events?{query}")).await.ok()["items"].as_array().unwrap().len()
    };
    assert_eq!(count("kind=request.made".into()).await, 3);
    assert_eq!(count("kind=request.made&user=bob".into()).await, 1);
    assert_eq!(count(format!("kind=request.made&computer={}", computer.id)).await, 3);
    assert_eq!(count("application=SBIN/to".into()).await, 3);
    assert_eq!(count("application=%25".into()).await, 0, "a percent sign is itself");
    assert_eq!(count("user=x'%20or%20'1'='1".into()).await, 0);
    assert_eq!(count(format!("until={}", site.now().millis())).await, 0);
    assert!(count(format!("since={}", site.now().millis())).await > 3);
}

async fn the_csv_is_harmless_to_a_spreadsheet(site: Site) {
    let mut computer = Endpoint::enroll(&site, "=cmd|' /C calc'!A0").await;
    computer.report(&site, What::DocumentRefused { cause: Text::new("a,\"b\"\r\n=1+1") }).await;
    let token = site.token(Role::Auditor).await;
    let csv = site.get(&token, "events.csv?kind=document.refused").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let text = csv.text();
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].contains(",'=cmd|"), "{text}");
    assert!(!lines[1].contains(",=") && !lines[1].contains(",\"="), "{text}");
}
