//! Enrolling.

use axum::http::Method;
use elevon_policy::id::GroupId;
use elevon_policy::time::Span;
use elevon_server::auth::Role;
use elevon_server::computers;
use serde_json::json;

use crate::endpoint::{Endpoint, enrollment, send};
use crate::site::Site;

crate::on_both_engines!(
    a_token_enrolls_as_often_as_it_says,
    of_many_at_once_only_as_many_as_uses_get_in,
    a_token_expires,
    what_is_wrong_with_an_enrollment_is_told,
    the_same_name_twice_is_two_computers,
    whoever_enrolls_joins_the_tokens_group,
    computers_are_listed_with_what_they_hold,
);

async fn enroll(site: &Site, secret: &str, host_name: &str) -> crate::site::Answer {
    let (body, ..) = enrollment(secret, host_name);
    send(site, None, Method::POST, "/channel/v1/enroll", Some(body)).await
}

async fn token(site: &Site, uses: u64) -> String {
    let by = site.administrator();
    computers::create_token(&site.app, &by, uses, Span::from_hours(1), None).await.unwrap().secret
}

async fn a_token_enrolls_as_often_as_it_says(site: Site) {
    let secret = token(&site, 2).await;
    enroll(&site, &secret, "a").await.ok();
    enroll(&site, &secret, "b").await.ok();
    enroll(&site, &secret, "c").await.refused(403, "used up or expired");
    enroll(&site, "no such secret", "c").await.refused(403, "unknown");
}

async fn of_many_at_once_only_as_many_as_uses_get_in(site: Site) {
    let secret = token(&site, 3).await;
    let tries = (0..12).map(|number| {
        let (body, ..) = enrollment(&secret, &format!("web{number}"));
        let agents = site.agents.clone();
        tokio::spawn(async move {
            let request = axum::http::Request::post("/channel/v1/enroll")
                .header("content-type", "application/json")
                .body(axum::body::Body::from(body.to_string()))
                .unwrap();
            crate::site::answer(agents, request).await.status
        })
    });
    let tries: Vec<_> = tries.collect();
    let mut in_ = 0;
    for one in tries {
        if one.await.unwrap() == 200 {
            in_ += 1;
        }
    }
    assert_eq!(in_, 3);
}

async fn a_token_expires(site: Site) {
    let secret = token(&site, 1).await;
    site.later(Span::from_hours(1));
    enroll(&site, &secret, "a").await.refused(403, "expired");
}

async fn what_is_wrong_with_an_enrollment_is_told(site: Site) {
    let secret = token(&site, 1).await;
    let (mut body, ..) = enrollment(&secret, "web1");
    body["certificate_request"] = json!("-----BEGIN NONSENSE-----");
    send(&site, None, Method::POST, "/channel/v1/enroll", Some(body))
        .await
        .refused(422, "certificate request");
    let (mut body, ..) = enrollment(&secret, "web1");
    body["event_key"] = json!("AAAA");
    send(&site, None, Method::POST, "/channel/v1/enroll", Some(body)).await.refused(422, "public key");
    enroll(&site, &secret, "").await.refused(422, "names of 1 to 255");
    // None of these used the token up.
    enroll(&site, &secret, "web1").await.ok();
}

async fn the_same_name_twice_is_two_computers(site: Site) {
    let (one, two) = (Endpoint::enroll(&site, "web1").await, Endpoint::enroll(&site, "web1").await);
    assert_ne!(one.id, two.id);
    let rows = computers::list(&site.app, &site.reader()).await.unwrap();
    assert_eq!(rows.len(), 2);
}

async fn whoever_enrolls_joins_the_tokens_group(site: Site) {
    let group: GroupId = site.group("Web", &[]).await.parse().unwrap();
    let named = computers::group_named(&site.app, &elevon_policy::text::Text::new("web")).await.unwrap();
    assert_eq!(named, group);
    let by = site.administrator();
    let token = computers::create_token(&site.app, &by, 1, Span::from_hours(1), Some(group)).await.unwrap();
    enroll(&site, &token.secret, "web1").await.ok();
    let api = site.token(Role::Auditor).await;
    let found = site.get(&api, &format!("groups/{group}")).await.ok();
    assert_eq!(found["members"]["computers"].as_array().unwrap().len(), 1);
}

async fn computers_are_listed_with_what_they_hold(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let sheet = computer.sheet(&site).await;
    let delivered = elevon_policy::event::What::SheetDelivered {
        version: sheet.version,
        bundle: sheet.bundle,
        grants: Vec::new(),
        checkpoint: None,
    };
    computer.report(&site, delivered).await;
    let row = computers::find(&site.app, &site.reader(), computer.id).await.unwrap();
    assert_eq!((row.sheet_version, row.held_version, row.bundle), (1, Some(1), Some(sheet.bundle)));
    assert!(row.online);
    site.later(Span::from_mins(5));
    assert!(!computers::find(&site.app, &site.reader(), computer.id).await.unwrap().online);
}
