//! Custom groups.

use elevon_policy::request::LapseReason;
use elevon_server::auth::Role;
use elevon_server::requests;
use serde_json::json;

use crate::endpoint::Endpoint;
use crate::site::{Site, sbin};

crate::on_both_engines!(
    joining_and_leaving_moves_only_those_computers,
    a_group_of_users_says_for_whom,
    names_are_taken_once_and_kinds_stay,
);

async fn joining_and_leaving_moves_only_those_computers(site: Site) {
    let (one, two) = (Endpoint::enroll(&site, "web1").await, Endpoint::enroll(&site, "web2").await);
    site.policy(&[&one]).await;
    let (before_one, before_two) = (one.sheet(&site).await, two.sheet(&site).await);
    assert_ne!(before_one.bundle, before_two.bundle);
    let token = site.token(Role::Administrator).await;
    let group = site.get(&token, "groups").await.ok()["items"][0].clone();
    let computers = json!([one.id.to_string(), two.id.to_string()]);
    let body =
        json!({ "name": "Fleet", "version": 1, "members": { "kind": "computers", "computers": computers } });
    let path = format!("groups/{}", group["id"].as_str().unwrap());
    assert_eq!(site.put(&token, &path, body.clone()).await.ok()["version"], 2);
    assert_eq!(one.sheet(&site).await.version, before_one.version);
    let after = two.sheet(&site).await;
    assert!(after.version > before_two.version);
    assert_eq!(after.bundle, before_one.bundle);
    site.put(&token, &path, body).await.refused(409, "look at it again");
}

async fn a_group_of_users_says_for_whom(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let token = site.token(Role::Administrator).await;
    let users = json!({ "kind": "users", "users": [{ "name": "alice" }] });
    let group = site.post(&token, "groups", json!({ "name": "Admins", "members": users })).await.ok();
    let list = site.post(&token, "privileged-application-lists", sbin("Tools", json!({}))).await.ok();
    let policy = list["id"].as_str().unwrap();
    let deploy = json!({ "version": 1, "groups": [group["id"]] });
    site.post(&token, &format!("privileged-application-lists/{policy}/deploy"), deploy).await.ok();
    let alice = computer.asks(&site, "alice", policy).await;
    let bob = computer.asks(&site, "bob", policy).await;
    let reader = site.reader();
    assert_eq!(requests::find(&site.app, &reader, alice).await.unwrap().record.lapse_reason, None);
    let refused = requests::find(&site.app, &reader, bob).await.unwrap().record.lapse_reason;
    assert_eq!(refused, Some(LapseReason::PolicyWithdrawn));
    // Once alice is out of the group, nobody may decide for her any more.
    let before = computer.sheet(&site).await;
    let users = json!({ "kind": "users", "users": [{ "name": "bob" }] });
    let body = json!({ "name": "Admins", "version": 1, "members": users });
    site.put(&token, &format!("groups/{}", group["id"].as_str().unwrap()), body).await.ok();
    let after = computer.sheet(&site).await;
    assert_ne!(after.bundle, before.bundle);
    let lapsed = requests::find(&site.app, &reader, alice).await.unwrap().record.lapse_reason;
    assert_eq!(lapsed, Some(LapseReason::PolicyWithdrawn));
}

async fn names_are_taken_once_and_kinds_stay(site: Site) {
    let group = site.group("Web", &[]).await;
    let token = site.token(Role::Administrator).await;
    let computers = json!({ "kind": "computers", "computers": [] });
    site.post(&token, "groups", json!({ "name": "WEB", "members": computers }))
        .await
        .refused(422, "of this name");
    let users = json!({ "name": "Web", "version": 1, "members": { "kind": "users", "users": [] } });
    site.put(&token, &format!("groups/{group}"), users).await.refused(422, "stays one of");
    let nobody = json!({ "kind": "computers", "computers": ["0193b3e2-7c5a-7d10-9c1e-3f2a5b6c7d8e"] });
    site.post(&token, "groups", json!({ "name": "Other", "members": nobody }))
        .await
        .refused(404, "no such computer");
}
