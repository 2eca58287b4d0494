//! Several servers on one database.

use std::time::{Duration, Instant};

use elevon_policy::event::What;
use elevon_policy::id::Version;
use elevon_policy::lists::Covers;
use elevon_policy::request::Approval;
use elevon_policy::sheet::Sheet;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::audit::verify::{Depth, verify};
use elevon_server::auth::Role;
use elevon_server::error::Error;
use elevon_server::{channel, grants, policies, requests, sweep};
use elevon_wire::channel::State;
use elevon_wire::signed::Purpose;
use serde_json::json;

use crate::endpoint::Endpoint;
use crate::site::Site;

fn approval() -> Approval {
    Approval { duration: Span::from_mins(5), covers: Covers::ExactArguments, comment: Text::default() }
}

async fn someone_waits(site: &Site) {
    while site.app.news.waiting() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL; cargo xtask test runs it"]
async fn news_of_one_server_ends_the_wait_at_another() {
    let site = Site::on_postgres().await;
    let other = site.replica().await;
    let watch = tokio::spawn(channel::news::watch(site.app.clone()));
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;

    let sheet = computer.sheet(&site).await;
    let started = Instant::now();
    let decide = async {
        someone_waits(&site).await;
        requests::approve(&other, &site.approver("carol"), id, Version::FIRST, approval()).await.unwrap()
    };
    let query = format!("after={}&wait=30", sheet.version);
    let (answer, grant) = tokio::join!(computer.ask(&site, &query), decide);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let state: State = serde_json::from_value(answer.ok()).unwrap();
    let sheet: Sheet = state.sheet.open(&computer.server, Purpose::Sheet).unwrap();
    assert_eq!(sheet.grants, [grant]);

    let withdraw = async {
        someone_waits(&site).await;
        policies::withdraw(&other, &site.administrator(), policy.parse().unwrap()).await.unwrap();
    };
    let query = format!("after={}&wait=30", sheet.version);
    let (answer, ()) = tokio::join!(computer.ask(&site, &query), withdraw);
    assert_eq!(answer.status, 200);
    watch.abort();
}

/// Two servers sweep, decide, deploy and take events at once: nothing happens twice, nobody waits for ever, and the
/// chains hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL; cargo xtask test runs it"]
async fn two_servers_at_once_do_each_thing_once() {
    at_once(Site::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_at_once_do_each_thing_once() {
    at_once(Site::on_sqlite().await).await;
}

async fn at_once(site: Site) {
    let other = if site.app.db.engine() == elevon_server::db::Engine::Postgres {
        site.replica().await
    } else {
        site.app.clone()
    };
    let site = std::sync::Arc::new(site);
    let mut computers = Vec::new();
    for number in 0..4 {
        computers.push(Endpoint::enroll(&site, &format!("web{number}")).await);
    }
    let policy =
        site.policy_with(&computers.iter().collect::<Vec<_>>(), json!({ "pending_lifetime": "1h" })).await;
    let mut tasks = Vec::new();
    for mut computer in computers {
        let (site, other, policy) = (site.clone(), other.clone(), policy.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..6 {
                let id = computer.asks(&site, "alice", &policy).await;
                let (one, two) = (site.approver("carol"), site.approver("dave"));
                let (first, second) = tokio::join!(
                    requests::approve(&site.app, &one, id, Version::FIRST, approval()),
                    requests::approve(&other, &two, id, Version::FIRST, approval()),
                );
                let won = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
                assert_eq!(won, 1, "{first:?} {second:?}");
                let grant = first.or(second).unwrap();
                if round % 2 == 0 {
                    let noise = computer.report(&site, What::DocumentRefused { cause: Text::new("noise") });
                    let (revoked, ()) = tokio::join!(
                        grants::revoke(&other, &two, grant.id, Version::FIRST, Text::default()),
                        noise
                    );
                    revoked.unwrap();
                    computer.report(&site, What::GrantRevocationEnforced { grant: grant.id }).await;
                }
            }
        }));
    }
    for app in [site.app.clone(), other.clone()] {
        let (site, policy) = (site.clone(), policy.clone());
        tasks.push(tokio::spawn(async move {
            let token = site.token(Role::Auditor).await;
            let group = site.get(&token, "groups").await.ok()["items"][0]["id"].clone();
            let groups = vec![serde_json::from_value(group).unwrap()];
            for _ in 0..10 {
                let by = site.administrator();
                let id = policy.parse().unwrap();
                match policies::deploy(&app, &by, id, Version::FIRST, groups.clone()).await {
                    Ok(()) | Err(Error::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                sweep::once(&app).await.unwrap();
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("nobody waits for ever").unwrap();
    }
    site.later(Span::from_mins(5));
    let (one, two) = tokio::join!(sweep::once(&site.app), sweep::once(&other));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let token = site.token(Role::Auditor).await;
    let count = async |kind: &str| {
        site.get(&token, &format!("events?kind={kind}")).await.ok()["items"].as_array().unwrap().len()
    };
    assert_eq!(count("request.approved").await, 24);
    assert_eq!(count("grant.revoked").await, 12);
    assert_eq!(count("grant.expired").await, 12);
    verify(&site.app, Depth::Chains).await.unwrap().unwrap();
}
