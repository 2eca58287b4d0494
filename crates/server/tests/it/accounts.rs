//! Setting up, signing in, tokens.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use elevon_policy::event::By;
use elevon_policy::id::AccountId;
use elevon_policy::request::Decider;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::accounts;
use elevon_server::auth::{Actor, Owner, Role};
use elevon_server::error::Error;
use serde_json::json;

use crate::site::{Answer, PASSWORD, Site};

crate::on_both_engines!(
    the_setup_link_makes_one_owner_once,
    a_session_ends_when_idle_when_old_and_when_signed_out,
    a_wrong_password_and_an_unknown_name_are_told_alike,
    too_many_failures_have_to_wait,
    failures_at_once_get_no_further,
    one_address_cannot_try_many_names,
    addresses_are_told_apart_whatever_names_are_tried,
    another_password_while_the_old_one_is_looked_at_lets_nobody_in,
    what_strangers_send_is_short,
    a_token_that_a_token_made_is_no_freer,
    a_password_is_stored_as_argon2id,
    other_sites_cannot_send_with_a_cookie,
    accounts_are_made_by_owners,
    a_disabled_account_is_out_at_once_with_its_tokens,
    what_arrives_after_its_sender_was_disabled_is_not_done,
    another_password_ends_the_sessions,
    a_revoked_token_opens_nothing,
);

pub(crate) async fn with_cookie(site: &Site, cookie: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::COOKIE, format!("other=1; __Host-elevon={cookie}"));
    site.send(request.body(Body::empty()).unwrap()).await
}

pub(crate) async fn set_up(site: &Site) -> String {
    let secret = accounts::prepare_setup(&site.app).await.unwrap().expect("no account yet");
    accounts::create_first_owner(&site.app, &secret, Text::new("olga"), PASSWORD).await.unwrap().secret
}

async fn the_setup_link_makes_one_owner_once(site: Site) {
    let old = accounts::prepare_setup(&site.app).await.unwrap().unwrap();
    let secret = accounts::prepare_setup(&site.app).await.unwrap().unwrap();
    let make = async |secret: &str, password: &str| {
        accounts::create_first_owner(&site.app, secret, Text::new("olga"), password).await
    };
    assert!(matches!(make(&old, PASSWORD).await, Err(Error::Forbidden(_))), "a newer link replaced it");
    assert!(matches!(make(&secret, "too short").await, Err(Error::Invalid { field: Some("password"), .. })));
    let session = make(&secret, PASSWORD).await.unwrap();
    assert_eq!(
        with_cookie(&site, &session.secret, "/api/v1/accounts").await.ok()["items"][0]["role"],
        "owner"
    );
    assert!(matches!(make(&secret, PASSWORD).await, Err(Error::Forbidden(_))));
    assert_eq!(accounts::prepare_setup(&site.app).await.unwrap(), None);
}

async fn a_session_ends_when_idle_when_old_and_when_signed_out(site: Site) {
    set_up(&site).await;
    let sign_in =
        async || accounts::sign_in(&site.app, &Text::new("OLGA"), PASSWORD, None).await.unwrap().secret;
    let (one, two) = (sign_in().await, sign_in().await);
    assert_ne!(one, two);
    let works = async |cookie: &str| with_cookie(&site, cookie, "/api/v1/groups").await.status == 200;
    assert!(works(&one).await && works(&two).await);
    site.form(Some(&one), "/sign-out", "").await;
    assert!(!works(&one).await && works(&two).await);
    site.later(Span::from_hours(11));
    assert!(works(&two).await, "each use counts");
    site.later(Span::from_hours(11));
    assert!(works(&two).await);
    site.later(Span::from_hours(12));
    assert!(!works(&two).await, "idle for twelve hours");
    let three = sign_in().await;
    for _ in 0..16 {
        assert!(works(&three).await);
        site.later(Span::from_hours(10));
    }
    site.later(Span::from_hours(8));
    assert!(!works(&three).await, "seven days old");
    assert!(!works("").await && !works("x").await);
}

async fn a_wrong_password_and_an_unknown_name_are_told_alike(site: Site) {
    set_up(&site).await;
    let fails = async |name: &str, password: &str| {
        accounts::sign_in(&site.app, &Text::new(name), password, None).await.unwrap_err().told().detail
    };
    let wrong = fails("olga", "wrong horse battery").await;
    assert_eq!(wrong, fails("nobody", PASSWORD).await);
    assert_eq!(wrong, fails("", "").await);
    let token = site.token(Role::Auditor).await;
    let events = site.get(&token, "events?kind=account.sign_in_failed").await.ok();
    assert_eq!(events["items"].as_array().unwrap().len(), 3);
}

async fn too_many_failures_have_to_wait(site: Site) {
    set_up(&site).await;
    let address = |last| Some(std::net::IpAddr::from([192, 0, 2, last]));
    let sign_in = async |password: &str, last| {
        accounts::sign_in(&site.app, &Text::new("olga"), password, address(last)).await
    };
    for _ in 0..10 {
        assert!(matches!(sign_in("wrong", 1).await, Err(Error::Unauthenticated(_))));
    }
    assert!(matches!(sign_in(PASSWORD, 1).await, Err(Error::TooMany(_))));
    sign_in(PASSWORD, 2).await.expect("from elsewhere the owner still gets in");
    site.later(Span::from_mins(15));
    sign_in(PASSWORD, 1).await.unwrap();
}

/// Tries to sign in with a wrong password, all at once; gives how many were looked at.
async fn fail(site: &Site, tries: impl Iterator<Item = (String, IpAddr)>) -> usize {
    let tries = tries.map(|(name, address)| {
        let app = site.app.clone();
        tokio::spawn(async move {
            accounts::sign_in(&app, &Text::new(name), "wrong", Some(address)).await.unwrap_err()
        })
    });
    let mut looked_at = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Error::Unauthenticated(_) => looked_at += 1,
            Error::TooMany(sentence) => assert!(sentence.contains("quarter of an hour"), "{sentence}"),
            other => panic!("{other}"),
        }
    }
    looked_at
}

async fn recorded_failures(site: &Site) -> i64 {
    let mut db = site.app.db.read().await.unwrap();
    let sql = "select count(*) from events where kind = 'account.sign_in_failed'";
    sqlx::query_scalar(sql).fetch_one(&mut *db).await.unwrap()
}

async fn failures_at_once_get_no_further(site: Site) {
    set_up(&site).await;
    let here = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(fail(&site, std::iter::repeat_n(("olga".to_owned(), here), 50)).await, 10);
    assert_eq!(recorded_failures(&site).await, 10);
    let right = accounts::sign_in(&site.app, &Text::new("olga"), PASSWORD, Some(here)).await;
    assert!(matches!(right, Err(Error::TooMany(_))), "{right:?}");
}

async fn one_address_cannot_try_many_names(site: Site) {
    set_up(&site).await;
    let here = IpAddr::from([192, 0, 2, 1]);
    let mut looked_at = 0;
    for round in 0..3 {
        looked_at += fail(&site, (0..50).map(|at| (format!("name{round}x{at}"), here))).await;
    }
    assert_eq!(looked_at, 100);
    assert_eq!(recorded_failures(&site).await, 100);
    let sign_in = async |last| {
        let address = IpAddr::from([192, 0, 2, last]);
        accounts::sign_in(&site.app, &Text::new("olga"), PASSWORD, Some(address)).await
    };
    assert!(matches!(sign_in(1).await, Err(Error::TooMany(_))));
    sign_in(2).await.unwrap();
    site.later(Span::from_mins(15));
    sign_in(1).await.unwrap();
}

async fn addresses_are_told_apart_whatever_names_are_tried(site: Site) {
    set_up(&site).await;
    // One socket for both versions gives addresses of version 4 so.
    let mapped = |last| IpAddr::from(std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped());
    fail(&site, std::iter::repeat_n(("olga".to_owned(), mapped(1)), 10)).await;
    let sign_in =
        async |address| accounts::sign_in(&site.app, &Text::new("olga"), PASSWORD, Some(address)).await;
    assert!(matches!(sign_in(mapped(1)).await, Err(Error::TooMany(_))));
    assert!(matches!(sign_in(IpAddr::from([192, 0, 2, 1])).await, Err(Error::TooMany(_))));
    sign_in(mapped(2)).await.unwrap();
    // Whoever has one address of version 6 has its neighbours.
    let six = |last| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
    fail(&site, (0..10).map(|at| ("olga".to_owned(), six(at)))).await;
    assert!(matches!(sign_in(six(99)).await, Err(Error::TooMany(_))));
    // Nobody shuts others out by a name that reads like them.
    for name in ["olga@192.0.2.3", "@@192.0.2.3", "both 192.0.2.3 olga", "address 192.0.2.3"] {
        fail(&site, std::iter::repeat_n((name.to_owned(), IpAddr::from([192, 0, 2, 4])), 12)).await;
    }
    sign_in(IpAddr::from([192, 0, 2, 3])).await.unwrap();
}

/// Turns to hash are taken in order: another password, the test, and signing in with the old one.
async fn another_password_while_the_old_one_is_looked_at_lets_nobody_in(site: Site) {
    set_up(&site).await;
    let owner = site.token(Role::Owner).await;
    let id = site.get(&owner, "accounts").await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    let hashing = Arc::clone(&site.app.hashing);
    let wait = async |left| {
        while site.app.to_be_hashed.available_permits() != left {
            tokio::task::yield_now().await;
        }
    };
    let all = site.app.to_be_hashed.available_permits();
    let held = Arc::clone(&hashing).acquire_many_owned(2).await.unwrap();
    let (app, by) = (site.app.clone(), site.owner());
    let change = tokio::spawn(async move {
        accounts::change_password(&app, &by, id.parse().unwrap(), "another long password").await
    });
    wait(all - 1).await;
    let mut next = Box::pin(hashing.acquire_many_owned(2));
    std::future::poll_fn(|context| {
        assert!(next.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    let app = site.app.clone();
    let sign_in =
        tokio::spawn(async move { accounts::sign_in(&app, &Text::new("olga"), PASSWORD, None).await });
    wait(all - 2).await;
    drop(held);
    let held = next.await.unwrap();
    change.await.unwrap().unwrap();
    drop(held);
    let old = sign_in.await.unwrap();
    assert!(matches!(old, Err(Error::Unauthenticated(_))), "{old:?}");
    let mut db = site.app.db.read().await.unwrap();
    let sessions: i64 =
        sqlx::query_scalar("select count(*) from sessions").fetch_one(&mut *db).await.unwrap();
    assert_eq!(sessions, 0);
}

async fn what_strangers_send_is_short(site: Site) {
    set_up(&site).await;
    let long = "x".repeat(1 << 20);
    let fields = |password: &str| format!("name=olga&password={password}");
    assert_eq!(site.form(None, "/sign-in", &fields(&long)).await.status, 413);
    assert_eq!(site.form(None, "/sign-in", &fields(&long[..60_000])).await.status, 422);
    let enroll = async |host_name: &str| {
        let (body, ..) = crate::endpoint::enrollment("no token", host_name);
        let method = axum::http::Method::POST;
        crate::endpoint::send(&site, None, method, "/channel/v1/enroll", Some(body)).await.status
    };
    assert_eq!(enroll(&long).await, 413);
    assert_eq!(enroll("web1").await, 403);
}

async fn a_token_that_a_token_made_is_no_freer(site: Site) {
    let session = set_up(&site).await;
    let request = Request::post("/api/v1/api-tokens")
        .header(header::COOKIE, format!("__Host-elevon={session}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({ "name": "hers", "role": "owner" }).to_string()));
    let hers = site.send(request.unwrap()).await.ok()["secret"].as_str().unwrap().to_owned();
    let made = json!({ "name": "its", "role": "owner" });
    let its = site.post(&hers, "api-tokens", made).await.ok()["secret"].as_str().unwrap().to_owned();

    let mut computer = crate::endpoint::Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "olga", &policy).await;
    let approve = json!({ "seen": 1, "duration": "15m" });
    for token in [&hers, &its] {
        let answer = site.post(token, &format!("requests/{id}/approve"), approve.clone()).await;
        answer.refused(403, "their own account");
    }
    let other = json!({ "name": "peter", "role": "owner", "password": PASSWORD });
    let peter = site.post(&its, "accounts", other).await.ok()["id"].clone();
    let accounts = site.get(&its, "accounts").await.ok();
    let olga = accounts["items"].as_array().unwrap().iter().find(|row| row["id"] != peter).unwrap();
    let olga = olga["id"].as_str().unwrap().parse().unwrap();
    accounts::disable(&site.app, &site.owner(), olga).await.unwrap();
    for token in [&hers, &its] {
        assert_eq!(site.get(token, "groups").await.status, 401);
    }
}

async fn a_password_is_stored_as_argon2id(site: Site) {
    set_up(&site).await;
    let mut db = site.app.db.read().await.unwrap();
    let (_, hash) = accounts::sql::with_password(&mut db, "olga").await.unwrap().unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
}

async fn other_sites_cannot_send_with_a_cookie(site: Site) {
    let cookie = set_up(&site).await;
    let body = json!({ "name": "Web", "members": { "kind": "computers", "computers": [] } }).to_string();
    let from = async |name: &str, value: &str| {
        let request = Request::post("/api/v1/groups")
            .header(header::COOKIE, format!("__Host-elevon={cookie}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::HOST, "localhost:8443")
            .header(name, value);
        site.send(request.body(Body::from(body.clone())).unwrap()).await
    };
    from("sec-fetch-site", "cross-site").await.refused(403, "another site");
    from("sec-fetch-site", "same-site").await.refused(403, "another site");
    from("origin", "https://evil.example").await.refused(403, "another site");
    from("origin", "null").await.refused(403, "another site");
    from("origin", "https://localhost:8443").await.ok();
    let answer = with_cookie(&site, &cookie, "/api/v1/groups").await;
    assert_eq!(answer.headers["x-frame-options"], "DENY");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
}

async fn accounts_are_made_by_owners(site: Site) {
    let (owner, administrator) = (site.token(Role::Owner).await, site.token(Role::Administrator).await);
    let body = json!({ "name": "carol", "role": "approver", "password": PASSWORD });
    site.post(&administrator, "accounts", body.clone()).await.refused(403, "owner");
    let made = site.post(&owner, "accounts", body.clone()).await.ok();
    assert_eq!(made["role"], "approver");
    site.post(&owner, "accounts", body).await.refused(422, "of this name");
    let strange = json!({ "name": "a\u{202e}b", "role": "approver", "password": PASSWORD });
    site.post(&owner, "accounts", strange).await.refused(422, "letters, digits");
    let carol = accounts::sign_in(&site.app, &Text::new("carol"), PASSWORD, None).await.unwrap();
    assert_eq!(carol.actor.role, Role::Approver);
}

async fn a_disabled_account_is_out_at_once_with_its_tokens(site: Site) {
    set_up(&site).await;
    let owner = site.token(Role::Owner).await;
    let accounts = site.get(&owner, "accounts").await.ok();
    let only = accounts["items"][0]["id"].as_str().unwrap().to_owned();
    site.post(&owner, &format!("accounts/{only}/disable"), json!({})).await.refused(409, "last owner");

    let made = json!({ "name": "Peter", "role": "owner", "password": PASSWORD });
    let peter = site.post(&owner, "accounts", made).await.ok()["id"].as_str().unwrap().to_owned();
    let sign_in = async || accounts::sign_in(&site.app, &Text::new("peter"), PASSWORD, None).await;
    let session = sign_in().await.unwrap().secret;
    let request = Request::post("/api/v1/api-tokens")
        .header(header::COOKIE, format!("__Host-elevon={session}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({ "name": "his", "role": "owner" }).to_string()));
    let his = site.send(request.unwrap()).await.ok()["secret"].as_str().unwrap().to_owned();
    site.get(&his, "groups").await.ok();

    // Two owners who disable each other at once: one stays.
    let by = site.owner();
    let (one, two) = tokio::join!(
        accounts::disable(&site.app, &by, peter.parse().unwrap()),
        accounts::disable(&site.app, &by, only.parse().unwrap()),
    );
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|done| **done).count(), 1, "{one:?} {two:?}");
    accounts::enable(&site.app, &by, only.parse().unwrap()).await.unwrap();
    accounts::disable(&site.app, &by, peter.parse().unwrap()).await.unwrap();

    assert_eq!(with_cookie(&site, &session, "/api/v1/groups").await.status, 401);
    assert_eq!(site.get(&his, "groups").await.status, 401);
    assert!(matches!(sign_in().await, Err(Error::Unauthenticated(_))));
    site.post(&owner, &format!("accounts/{peter}/enable"), json!({})).await.ok();
    sign_in().await.unwrap();
    assert_eq!(
        with_cookie(&site, &session, "/api/v1/groups").await.status,
        401,
        "the old session stays over"
    );
    let told = site.get(&owner, "events?kind=account.disabled").await.ok();
    assert!(!told["items"].as_array().unwrap().is_empty());
}

/// It is let in by its first line, and sends the rest when it is disabled.
async fn what_arrives_after_its_sender_was_disabled_is_not_done(site: Site) {
    set_up(&site).await;
    let made = json!({ "name": "peter", "role": "owner", "password": PASSWORD });
    let owner = site.token(Role::Owner).await;
    let peter: AccountId =
        site.post(&owner, "accounts", made).await.ok()["id"].as_str().unwrap().parse().unwrap();
    let session = accounts::sign_in(&site.app, &Text::new("peter"), PASSWORD, None).await.unwrap().secret;
    let by_session = (header::COOKIE, format!("__Host-elevon={session}"));
    let request = Request::post("/api/v1/api-tokens").header(by_session.0.clone(), by_session.1.clone());
    let his = json!({ "name": "his", "role": "owner" }).to_string();
    let his = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(his)).unwrap();
    let token = site.send(his).await.ok()["secret"].as_str().unwrap().to_owned();
    for (name, value) in [by_session, (header::AUTHORIZATION, format!("Bearer {token}"))] {
        let (is_read, read) = tokio::sync::oneshot::channel();
        let (go_on, goes_on) = tokio::sync::oneshot::channel();
        let body = futures_util::stream::once(async move {
            is_read.send(()).unwrap();
            goes_on.await.unwrap();
            let another = json!({ "name": "another", "role": "owner", "password": PASSWORD });
            Ok::<_, std::convert::Infallible>(another.to_string())
        });
        let request = Request::post("/api/v1/accounts").header(name, value);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from_stream(body)).unwrap();
        let disabled = async {
            read.await.unwrap();
            accounts::disable(&site.app, &site.owner(), peter).await.unwrap();
            go_on.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(site.send(request), disabled);
        answer.refused(403, "nothing was done");
        accounts::enable(&site.app, &site.owner(), peter).await.unwrap();
    }
    let accounts = site.get(&owner, "accounts").await.ok();
    assert_eq!(accounts["items"].as_array().unwrap().len(), 2, "{accounts}");
    // Let in before, and come to it after.
    accounts::disable(&site.app, &site.owner(), peter).await.unwrap();
    let name = Text::new("peter");
    let decider = Decider { account: peter, name: name.clone(), os_users: Vec::new() };
    let himself = Actor { by: By::Account { account: peter, name }, role: Role::Owner, decider };
    let enabled = accounts::enable(&site.app, &Owner::of(himself).unwrap(), peter).await;
    assert!(matches!(enabled, Err(Error::Forbidden(_))), "{enabled:?}");
    assert_eq!(site.get(&token, "groups").await.status, 401);
    accounts::enable(&site.app, &site.owner(), peter).await.unwrap();
    // What somebody does to themselves is done.
    let himself = site.post(&token, &format!("accounts/{peter}/disable"), json!({})).await;
    himself.ok();
    assert_eq!(site.get(&token, "groups").await.status, 401);
}

async fn another_password_ends_the_sessions(site: Site) {
    let session = set_up(&site).await;
    let owner = site.token(Role::Owner).await;
    let id = site.get(&owner, "accounts").await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("accounts/{id}/password");
    site.post(&owner, &path, json!({ "password": "short" })).await.refused(422, "at least 12");
    assert_eq!(with_cookie(&site, &session, "/api/v1/groups").await.status, 200);
    site.post(&owner, &path, json!({ "password": "another long password" })).await.ok();
    assert_eq!(with_cookie(&site, &session, "/api/v1/groups").await.status, 401);
    let sign_in =
        async |password| accounts::sign_in(&site.app, &Text::new("olga"), password, None).await.is_ok();
    assert!(!sign_in(PASSWORD).await);
    assert!(sign_in("another long password").await);
}

async fn a_revoked_token_opens_nothing(site: Site) {
    let owner = site.token(Role::Owner).await;
    let made = json!({ "name": "export", "role": "auditor" });
    let made = site.post(&owner, "api-tokens", made).await.ok();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    site.get(secret, "groups").await.ok();
    site.post(&owner, &format!("api-tokens/{id}/revoke"), json!({})).await.ok();
    assert_eq!(site.get(secret, "groups").await.status, 401);
    site.post(&owner, &format!("api-tokens/{id}/revoke"), json!({})).await.refused(404, "in force");
    let listed = site.get(&owner, "api-tokens").await.ok();
    assert!(listed["items"].as_array().unwrap().iter().any(|row| row["id"] == id && row["revoked"].is_i64()));
    assert!(!listed.to_string().contains("secret"));

    let token = site.post(&owner, "enrollment-tokens", json!({})).await.ok()["token"].clone();
    let token: elevon_wire::token::EnrollmentToken = token.as_str().unwrap().parse().unwrap();
    let id = site.get(&owner, "enrollment-tokens").await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    site.post(&owner, &format!("enrollment-tokens/{id}/revoke"), json!({})).await.ok();
    let (body, ..) = crate::endpoint::enrollment(&token.secret, "web1");
    let method = axum::http::Method::POST;
    let answer = crate::endpoint::send(&site, None, method, "/channel/v1/enroll", Some(body)).await;
    answer.refused(403, "enrollment token");
}
