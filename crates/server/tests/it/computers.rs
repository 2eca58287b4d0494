//! Enrolling.

use axum::http::Method;
use elevon_policy::application::Sha256;
use elevon_policy::id::GroupId;
use elevon_policy::time::Span;
use elevon_server::auth::Role;
use elevon_server::computers;
use elevon_wire::channel::Renewed;
use elevon_wire::signed::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
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
    a_certificate_is_renewed_when_a_third_is_left,
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

async fn a_certificate_is_renewed_when_a_third_is_left(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let asks = async |certificate: Sha256| -> (Option<Sha256>, u64) {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let body = json!({ "certificate_request": request });
        let path = "/channel/v1/certificate";
        let answer = send(&site, Some(certificate), Method::POST, path, Some(body)).await.ok();
        let renewed: Renewed = serde_json::from_value(answer).unwrap();
        let fingerprint = |pem: String| digest(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        (renewed.certificate.map(fingerprint), renewed.again)
    };
    let day = 24 * 3600;
    let (early, again) = asks(computer.certificate).await;
    assert!(early.is_none() && (264 * day..267 * day).contains(&again), "{again}");
    site.later(Span::from_secs(again));
    let (new, again) = asks(computer.certificate).await;
    let new = new.expect("it is due");
    assert!((264 * day..267 * day).contains(&again), "{again}");

    // Both are good until the old one ends; another is made only where the answer may have gone lost.
    let old = computer.certificate;
    for certificate in [old, new] {
        assert!(asks(certificate).await.0.is_none());
        computer.certificate = certificate;
        computer.sheet(&site).await;
    }
    site.later(Span::from_days(4));
    assert!(asks(old).await.0.is_some_and(|third| third != new && third != old));
    assert!(asks(new).await.0.is_none());
    let token = site.token(Role::Auditor).await;
    let told = site.get(&token, "events?kind=computer.certificate_renewed").await.ok();
    assert_eq!(told["items"].as_array().unwrap().len(), 2);

    let body = json!({ "certificate_request": "nonsense" });
    site.later(Span::from_days(100));
    send(&site, Some(old), Method::POST, "/channel/v1/certificate", Some(body)).await.refused(422, "PKCS");
    computers::revoke(&site.app, &site.administrator(), computer.id).await.unwrap();
    for certificate in [old, new] {
        computer.certificate = certificate;
        computer.ask(&site, "after=0&wait=0").await.refused(403, "not enrolled");
    }
}
