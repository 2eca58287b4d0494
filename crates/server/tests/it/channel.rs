//! What a computer should hold, and what it has to say.

use std::time::{Duration, Instant};

use axum::http::Method;
use ed25519_dalek::SigningKey;
use elevon_policy::event::{By, EndReason, Event, What};
use elevon_policy::id::{GrantId, Version};
use elevon_policy::lists::Covers;
use elevon_policy::request::Approval;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_server::auth::Role;
use elevon_server::{audit, requests};
use elevon_wire::chain::Record;
use elevon_wire::channel::{EVENTS_AT_ONCE, State, TimeStatement};
use elevon_wire::signed::{Purpose, Signed};
use serde_json::json;

use crate::endpoint::{Endpoint, alias, launch_started, send};
use crate::site::Site;

crate::on_both_engines!(
    news_ends_the_wait,
    without_news_the_wait_ends_empty,
    a_state_that_differs_is_answered_at_once,
    one_bundle_serves_all_with_the_same_deployments,
    what_is_deployed_to_no_group_is_on_no_computer,
    deploying_writes_no_row_per_computer,
    retried_events_are_stored_once,
    a_gap_is_told_and_nothing_is_stored,
    a_batch_is_stored_whole_or_not_at_all,
    what_others_signed_is_refused_and_recorded,
    a_copied_computer_is_found_out,
    a_computer_speaks_of_its_own_only,
    a_computer_acts_for_no_account,
    without_a_certificate_nothing_is_said,
    the_time_is_signed_with_the_nonce,
);

async fn news_ends_the_wait(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let sheet = computer.sheet(&site).await;
    let query = format!("after={}&bundle={}&wait=30", sheet.version, sheet.bundle);
    let (app, by) = (site.app.clone(), site.approver("carol"));
    let started = Instant::now();
    let decide = async {
        while site.app.news.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let approval = Approval {
            duration: Span::from_mins(5),
            covers: Covers::ExactArguments,
            comment: Text::default(),
        };
        requests::approve(&app, &by, id, Version::FIRST, approval).await.unwrap()
    };
    let (answer, grant) = tokio::join!(computer.ask(&site, &query), decide);
    assert!(started.elapsed() < Duration::from_secs(5));
    let state: State = serde_json::from_value(answer.ok()).unwrap();
    assert!(state.bundle.is_none(), "the computer has this bundle");
    let news: elevon_policy::sheet::Sheet = state.sheet.open(&computer.server, Purpose::Sheet).unwrap();
    assert!(news.version > sheet.version);
    assert_eq!(news.grants, [grant]);
    assert_eq!(site.app.news.waiting(), 0);
}

async fn without_news_the_wait_ends_empty(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let version = computer.sheet(&site).await.version;
    let answer = computer.ask(&site, &format!("after={version}&wait=1")).await;
    assert_eq!(answer.status, 204);
    assert!(answer.body.is_empty());
}

async fn a_state_that_differs_is_answered_at_once(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let sheet = computer.sheet(&site).await;
    assert_eq!(sheet.computer, computer.id);
    assert_eq!(sheet.lease_ends, site.now().after(Span::from_days(7)));
    assert_eq!(sheet.stored, ChainHead::START);
    // Also a version from before the server was set back.
    for after in [0, 1_000_000] {
        let answer = computer.ask(&site, &format!("after={after}&wait=50")).await;
        assert_eq!(answer.status, 200);
    }
    site.later(Span::from_days(3));
    let renewed = computer.sheet(&site).await;
    assert_eq!(renewed.version, sheet.version);
    assert!(renewed.lease_ends > sheet.lease_ends);
}

async fn one_bundle_serves_all_with_the_same_deployments(site: Site) {
    let (one, two) = (Endpoint::enroll(&site, "web1").await, Endpoint::enroll(&site, "web2").await);
    let other = Endpoint::enroll(&site, "db1").await;
    site.policy(&[&one, &two]).await;
    let (first, second) = (one.state(&site).await, two.state(&site).await);
    assert_eq!(first.bundle, second.bundle);
    assert_ne!(first.bundle, other.state(&site).await.bundle);
    let bundle: elevon_policy::bundle::Bundle =
        first.bundle.as_ref().unwrap().open(&one.server, Purpose::Bundle).unwrap();
    assert_eq!(bundle.privileged_application_lists.len(), 1);
    assert_eq!(one.sheet(&site).await.bundle, first.bundle.unwrap().digest());
}

/// As it would be read where its groups were not there yet, and it was.
async fn what_is_deployed_to_no_group_is_on_no_computer(site: Site) {
    let (computer, other) = (Endpoint::enroll(&site, "web1").await, Endpoint::enroll(&site, "web2").await);
    site.policy(&[&computer]).await;
    let lists = async |computer: &Endpoint| {
        let bundle = computer.state(&site).await.bundle.unwrap();
        let bundle: elevon_policy::bundle::Bundle = bundle.open(&computer.server, Purpose::Bundle).unwrap();
        bundle.privileged_application_lists.len()
    };
    assert_eq!((lists(&computer).await, lists(&other).await), (1, 0));
    let mut tx = site.app.db.begin().await.unwrap();
    sqlx::raw_sql("delete from deployment_groups").execute(&mut *tx).await.unwrap();
    elevon_server::channel::sql::next_epoch(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((lists(&computer).await, lists(&other).await), (0, 0));
}

async fn deploying_writes_no_row_per_computer(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let sheet = computer.sheet(&site).await;
    let mut db = site.app.db.read().await.unwrap();
    let before = elevon_server::channel::sql::version(&mut db, computer.id).await.unwrap();
    drop(db);
    let withdraw = async {
        while site.app.news.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let token = site.token(Role::Administrator).await;
        site.post(&token, &format!("privileged-application-lists/{policy}/withdraw"), json!({})).await.ok();
    };
    let query = format!("after={}&bundle={}&wait=30", sheet.version, sheet.bundle);
    let (answer, ()) = tokio::join!(computer.ask(&site, &query), withdraw);
    let state: State = serde_json::from_value(answer.ok()).unwrap();
    let bundle: elevon_policy::bundle::Bundle =
        state.bundle.expect("another bundle").open(&computer.server, Purpose::Bundle).unwrap();
    assert!(bundle.privileged_application_lists.is_empty());
    let mut db = site.app.db.read().await.unwrap();
    let after = elevon_server::channel::sql::version(&mut db, computer.id).await.unwrap();
    assert_eq!(after.counter, before.counter);
    assert_eq!(after.epoch, before.epoch + 1);
}

fn refused(site: &Site) -> What {
    What::DocumentRefused { cause: Text::new(format!("for the test, at {}", site.now().millis())) }
}

async fn stored(site: &Site, computer: &Endpoint) -> u64 {
    computer.send(site, &[]).await.ok()["head"]["number"].as_u64().unwrap()
}

async fn retried_events_are_stored_once(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let records: Vec<_> = (0..3).map(|_| computer.record(&site, refused(&site))).collect();
    computer.send(&site, &records[..2]).await.ok();
    let answer = computer.send(&site, &records).await.ok();
    assert_eq!(answer["head"]["number"], 3);
    assert_eq!(answer["head"]["digest"], computer.head.digest.to_string());
    assert_eq!(computer.send(&site, &records).await.ok()["head"]["number"], 3);
    let token = site.token(Role::Auditor).await;
    let events = site.get(&token, "events?kind=document.refused").await.ok();
    assert_eq!(events["items"].as_array().unwrap().len(), 3);
    assert_eq!(computer.sheet(&site).await.stored, computer.head);
}

async fn a_gap_is_told_and_nothing_is_stored(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let records: Vec<_> = (0..3).map(|_| computer.record(&site, refused(&site))).collect();
    computer.send(&site, &records[..1]).await.ok();
    computer.send(&site, &records[2..]).await.refused(409, "has stored 1 events");
    let swapped = [records[2].clone(), records[1].clone()];
    computer.send(&site, &swapped).await.refused(409, "expected event 2");
    assert_eq!(stored(&site, &computer).await, 1);
    let many = vec![records[0].clone(); EVENTS_AT_ONCE + 1];
    computer.send(&site, &many).await.refused(422, "at most");
}

async fn a_batch_is_stored_whole_or_not_at_all(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let other = Endpoint::enroll(&site, "web2").await;
    let policy = site.policy(&[&computer, &other]).await;
    let good = computer.request(&site, "alice", &policy);
    let (id, mut bad) = (good.id, other.request(&site, "alice", &policy));
    bad.id = elevon_policy::id::RequestId::new(site.now(), [9; 10]);
    let records = [
        computer.record(&site, What::RequestMade { request: Box::new(good) }),
        computer.record(&site, What::RequestMade { request: Box::new(bad) }),
    ];
    computer.send(&site, &records).await.refused(403, "asks for itself only");
    assert_eq!(stored(&site, &computer).await, 0);
    let found = requests::find(&site.app, &site.reader(), id).await;
    assert!(matches!(found, Err(elevon_server::error::Error::NotFound(_))), "{found:?}");
}

async fn refusals(site: &Site) -> usize {
    let token = site.token(Role::Auditor).await;
    site.get(&token, "events?kind=computer.refused").await.ok()["items"].as_array().unwrap().len()
}

async fn what_others_signed_is_refused_and_recorded(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let mut other = Endpoint::enroll(&site, "web2").await;
    let foreign = other.record(&site, refused(&site));
    computer.send(&site, &[foreign]).await.refused(403, "signed by key");
    let record = computer.record(&site, refused(&site));
    let for_something_else =
        Signed::seal_bytes(&computer.key, Purpose::Sheet, record.unverified_bytes().to_vec());
    computer.send(&site, &[for_something_else]).await.refused(403, "signature does not fit");
    let forged = SigningKey::from_bytes(&[3; 32]);
    let forged = Signed::seal_bytes(&forged, Purpose::Event, record.unverified_bytes().to_vec());
    computer.send(&site, &[forged]).await.refused(403, "signed by key");
    // Three refusals within a minute are recorded as one, lest a broken computer fill the trail.
    assert_eq!(refusals(&site).await, 1);
    site.later(Span::from_mins(1));
    computer.send(&site, &[other.record(&site, refused(&site))]).await.refused(403, "signed by key");
    assert_eq!(refusals(&site).await, 2);
    assert_eq!(stored(&site, &computer).await, 0);
}

async fn a_copied_computer_is_found_out(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let mut copy = Endpoint { key: computer.key.clone(), ..computer };
    computer.report(&site, refused(&site)).await;
    site.later(Span::from_secs(1));
    let other_history = copy.record(&site, refused(&site));
    copy.send(&site, std::slice::from_ref(&other_history)).await.refused(403, "copied or set back");
    let next = copy.record(&site, refused(&site));
    copy.send(&site, &[next]).await.refused(403, "does not follow");
    assert_eq!(stored(&site, &computer).await, 1);
}

async fn a_computer_speaks_of_its_own_only(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let mut other = Endpoint::enroll(&site, "web2").await;
    let policy = site.policy(&[&computer, &other]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let approval =
        Approval { duration: Span::from_mins(5), covers: Covers::ExactArguments, comment: Text::default() };
    let grant =
        requests::approve(&site.app, &site.approver("carol"), id, Version::FIRST, approval).await.unwrap();
    let mut same_id = other.request(&site, "bob", &policy);
    same_id.id = id;
    let mut local = grant.clone();
    local.id = GrantId::new(site.now(), [1; 10]);
    let launch = elevon_policy::id::LaunchId::new(site.now(), [1; 10]);
    let foreign = computer.launches(&site, &grant).await;
    let ended = |launch, grant| What::LaunchEnded {
        launch,
        grant,
        user: alias("alice"),
        reason: EndReason::Exited,
        exit: None,
    };
    for claim in [
        ended(launch, grant.id),
        ended(foreign, GrantId::new(site.now(), [2; 10])),
        What::ComponentAuthorized {
            grant: grant.id,
            user: alias("alice"),
            component: Text::new("org.example.act"),
            process: None,
            policy: grant.policy,
            end: site.now(),
        },
        What::RequestMade { request: Box::new(same_id) },
        What::RequestCancelled { request: id, user: alias("alice") },
        What::GrantMade { grant: Box::new(local), justification: Text::default() },
        What::GrantEnded { grant: grant.id, user: alias("alice") },
        What::GrantStarted { grant: grant.id, end: site.now() },
        What::GrantRevocationEnforced { grant: grant.id },
        launch_started(&site, launch, grant.id, &grant),
        What::AccountSignedIn {
            account: elevon_policy::id::AccountId::new(site.now(), [0; 10]),
            name: Text::new("x"),
        },
    ] {
        let kind = claim.kind();
        let head = other.head;
        let record = other.record(&site, claim);
        let answer = other.send(&site, &[record]).await;
        assert_eq!(answer.status, 403, "{kind}: {}", answer.text());
        other.head = head;
    }
    assert_eq!(stored(&site, &other).await, 0);
}

async fn a_computer_acts_for_no_account(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let account = elevon_policy::id::AccountId::new(site.now(), [0; 10]);
    for by in [By::CommandLine, By::Account { account, name: Text::new("olga") }] {
        let head = computer.head;
        let event = Event { by: Some(by), ..Event::new(site.now(), refused(&site)) };
        let record = Record::encode(head, &event);
        let record = Signed::seal_bytes(&computer.key, Purpose::Event, record);
        computer.send(&site, &[record]).await.refused(403, "names one");
    }
    assert_eq!(stored(&site, &computer).await, 0);
    computer.report(&site, refused(&site)).await;
}

async fn without_a_certificate_nothing_is_said(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    for (method, path, body) in [
        (Method::GET, "/channel/v1/state?after=0&wait=0", None),
        (Method::POST, "/channel/v1/events", Some(json!({ "records": [] }))),
        (Method::POST, "/channel/v1/time", Some(json!({ "nonce": 1 }))),
    ] {
        send(&site, None, method.clone(), path, body.clone()).await.refused(401, "certificate");
        let unknown = elevon_policy::application::Sha256([9; 32]);
        send(&site, Some(unknown), method, path, body).await.refused(403, "not enrolled");
    }
    elevon_server::computers::revoke(&site.app, &site.administrator(), computer.id).await.unwrap();
    computer.ask(&site, "after=0&wait=0").await.refused(403, "not enrolled");
    let verified = audit::verify::verify(&site.app, audit::verify::Depth::Chains).await.unwrap().unwrap();
    assert_eq!(verified.chains, 2);
}

async fn the_time_is_signed_with_the_nonce(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let body = Some(json!({ "nonce": 77 }));
    let answer = send(&site, Some(computer.certificate), Method::POST, "/channel/v1/time", body).await.ok();
    let signed: Signed = serde_json::from_value(answer).unwrap();
    let statement: TimeStatement = signed.open(&computer.server, Purpose::Time).unwrap();
    assert_eq!((statement.nonce, statement.at), (77, site.now()));
    assert!(statement.at > Timestamp::from_millis(0));
}
