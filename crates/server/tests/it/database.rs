//! The database itself refuses what must not happen, and gives its writers their turn.

use std::collections::HashSet;

use elevon_policy::grant::GrantState;
use elevon_policy::request::RequestState;
use elevon_server::audit::verify::{Depth, verify};
use elevon_server::serve::Lock;
use sqlx::Row;

use crate::endpoint::Endpoint;
use crate::site::Site;

crate::on_both_engines!(
    its_steps_are_those_of_the_core,
    it_refuses_an_illegal_step,
    events_are_never_changed_or_removed,
    many_writers_at_once_all_get_their_turn,
    one_server_at_a_time_has_the_state,
);

async fn its_steps_are_those_of_the_core(site: Site) {
    let mut db = site.app.db.read().await.unwrap();
    let mut steps = async |table: &'static str| {
        let sql = sqlx::AssertSqlSafe(format!("select from_state, to_state from {table}"));
        let rows = sqlx::query(sql).fetch_all(&mut *db).await.unwrap();
        rows.iter().map(|row| (row.get::<String, _>(0), row.get::<String, _>(1))).collect::<HashSet<_>>()
    };
    let requests: HashSet<_> = RequestState::ALL
        .into_iter()
        .flat_map(|from| {
            RequestState::ALL.into_iter().filter(move |to| from.may_become(*to)).map(move |to| (from, to))
        })
        .map(|(from, to)| (from.word().to_owned(), to.word().to_owned()))
        .collect();
    assert_eq!(steps("request_steps").await, requests);
    let grants: HashSet<_> = GrantState::ALL
        .into_iter()
        .flat_map(|from| {
            GrantState::ALL.into_iter().filter(move |to| from.may_become(*to)).map(move |to| (from, to))
        })
        .map(|(from, to)| (from.word().to_owned(), to.word().to_owned()))
        .collect();
    assert_eq!(steps("grant_steps").await, grants);
}

async fn refuses(site: &Site, sql: &'static str) -> String {
    let mut tx = site.app.db.begin().await.unwrap();
    sqlx::query(sql).execute(&mut *tx).await.expect_err(sql).to_string()
}

async fn it_refuses_an_illegal_step(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let by = site.approver("carol");
    let declined = elevon_server::requests::decline(
        &site.app,
        &by,
        id,
        elevon_policy::id::Version::FIRST,
        elevon_policy::text::Text::default(),
    );
    declined.await.unwrap();
    let refused = refuses(&site, "update requests set state = 'pending', decision = null").await;
    assert!(refused.contains("cannot take this step"), "{refused}");
    refuses(&site, "update requests set state = 'nonsense'").await;
}

async fn events_are_never_changed_or_removed(site: Site) {
    site.group("Web", &[]).await;
    assert!(refuses(&site, "update events set kind = 'nothing'").await.contains("never"));
    assert!(refuses(&site, "delete from events").await.contains("never"));
}

async fn many_writers_at_once_all_get_their_turn(site: Site) {
    let tasks: Vec<_> = (0..8)
        .map(|writer| {
            let (app, by) = (site.app.clone(), site.administrator());
            tokio::spawn(async move {
                for round in 0..10 {
                    let name = elevon_policy::text::Text::new(format!("group {writer} {round}"));
                    let members = elevon_policy::group::Members::Computers { computers: Vec::new() };
                    let id = elevon_policy::id::GroupId::new(app.now(), elevon_server::app::chance());
                    let group = elevon_policy::group::CustomGroup { id, name, members };
                    elevon_server::groups::save(&app, &by, None, None, group).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(elevon_server::groups::list(&site.app, &site.reader()).await.unwrap().len(), 80);
    let verified = verify(&site.app, Depth::Chains).await.unwrap().unwrap();
    assert_eq!(verified.events, 80);
}

async fn one_server_at_a_time_has_the_state(site: Site) {
    let lock = Lock::take(&site.state_dir()).unwrap();
    let refused = Lock::take(&site.state_dir()).unwrap_err();
    assert!(refused.contains("another elevon-server"), "{refused}");
    assert!(!refused.contains('\n'));
    drop(lock);
    Lock::take(&site.state_dir()).unwrap();
}
