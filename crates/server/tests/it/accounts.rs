//! Setting up, signing in, tokens.

use axum::body::Body;
use axum::http::{Request, header};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::accounts;
use elevon_server::auth::Role;
use elevon_server::error::Error;
use serde_json::json;

use crate::site::{Answer, PASSWORD, Site};

crate::on_both_engines!(
    the_setup_link_makes_one_owner_once,
    a_session_ends_when_idle_when_old_and_when_signed_out,
    a_wrong_password_and_an_unknown_name_are_told_alike,
    too_many_failures_have_to_wait,
    a_password_is_stored_as_argon2id,
    other_sites_cannot_send_with_a_cookie,
    accounts_are_made_by_owners,
    a_disabled_account_is_out_at_once_with_its_tokens,
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
