//! Lists: saved, deployed, withdrawn.

use std::time::{Duration, Instant};

use elevon_policy::event::What;
use elevon_server::auth::Role;
use elevon_server::policies::draft::rules;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::site::{Site, sbin};

crate::on_both_engines!(
    saving_makes_a_version_and_changes_no_computer,
    what_does_not_do_is_told_with_its_field,
    deployment_needs_a_group_and_shows_its_progress,
    a_list_of_another_kind_is_not_found,
    a_blocklist_takes_what_a_list_gives,
    a_list_as_long_as_the_console_takes_is_edited_quickly,
    a_longer_list_loses_nothing_to_the_console,
);

async fn save(site: &Site, token: &str, document: Value) -> Value {
    site.post(token, "privileged-application-lists", document).await.ok()
}

/// A list whose programs are contained.
fn contained(writable: Value, capabilities: Value) -> Value {
    let containment = json!({ "type": "contained", "writable": writable });
    sbin("x", json!({ "bounds": { "containment": containment, "capabilities": capabilities } }))
}

async fn saving_makes_a_version_and_changes_no_computer(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let before = computer.sheet(&site).await.version;
    let token = site.token(Role::Administrator).await;
    let id = save(&site, &token, sbin("Tools", json!({}))).await["id"].as_str().unwrap().to_owned();
    let path = format!("privileged-application-lists/{id}");
    let mut next = sbin("Better tools", json!({}));
    site.put(&token, &path, next.clone()).await.refused(422, "version that was changed");
    next["version"] = json!(1);
    assert_eq!(site.put(&token, &path, next.clone()).await.ok()["version"], 2);
    site.put(&token, &path, next).await.refused(409, "look at it again");
    let found = site.get(&token, &path).await.ok();
    assert_eq!(found["document"]["name"], "Better tools");
    assert_eq!(found["document"]["version"], 2);
    assert_eq!(found["deployed_version"], Value::Null);
    assert_eq!(computer.sheet(&site).await.version, before);
}

async fn what_does_not_do_is_told_with_its_field(site: Site) {
    let token = site.token(Role::Administrator).await;
    let mut cases = vec![
        (sbin("", json!({})), "name"),
        (sbin(" spaces ", json!({})), "name"),
        (sbin("x", json!({ "durations": { "choices": [], "default": "2h", "maximum": "1h" } })), "default"),
        (
            sbin("x", json!({ "durations": { "choices": ["2h"], "default": "1h", "maximum": "1h" } })),
            "choices",
        ),
        (sbin("x", json!({ "durations": { "choices": [], "default": "1h", "maximum": "900d" } })), "maximum"),
        (sbin("x", json!({ "pending_lifetime": "0s" })), "pending_lifetime"),
        (sbin("x", json!({ "runs_as": "same_user" })), "bounds"),
        (sbin("x", json!({ "bounds": { "capabilities": ["net_raw"] } })), "bounds"),
        (contained(json!(["/run/x"]), json!([])), "bounds"),
        (contained(json!(["/srv/../etc"]), json!([])), "bounds"),
        (contained(json!([]), json!(["sys_admin"])), "bounds"),
    ];
    let mut component = contained(json!([]), json!([]));
    component["rules"][0]["recognises"] = json!({ "type": "clsid", "component": "org.example.act" });
    cases.push((component, "rules"));
    for folder in ["", "usr/sbin", "/usr/../etc"] {
        let mut document = sbin("x", json!({}));
        document["rules"][0]["recognises"]["path"] = json!(folder);
        cases.push((document, "rules"));
    }
    let mut newer = sbin("x", json!({}));
    newer["rules"][0]["recognises"]["type"] = json!("by_magic");
    cases.push((newer, "rules"));
    for (document, field) in cases {
        let answer = site.post(&token, "privileged-application-lists", document.clone()).await;
        assert_eq!(answer.status, 422, "{document}");
        assert_eq!(answer.json()["field"], field, "{} for {document}", answer.text());
    }
    let mut unknown = sbin("x", json!({}));
    unknown["magic"] = json!(true);
    site.post(&token, "privileged-application-lists", unknown).await.refused(422, "magic");
}

async fn deployment_needs_a_group_and_shows_its_progress(site: Site) {
    let mut one = Endpoint::enroll(&site, "web1").await;
    let two = Endpoint::enroll(&site, "web2").await;
    Endpoint::enroll(&site, "db1").await;
    let token = site.token(Role::Administrator).await;
    let id = save(&site, &token, sbin("Tools", json!({}))).await["id"].as_str().unwrap().to_owned();
    let deploy = format!("privileged-application-lists/{id}/deploy");
    site.post(&token, &deploy, json!({ "version": 1, "groups": [] })).await.refused(422, "at least one");
    let group = site.group("Web", &[&one, &two]).await;
    site.post(&token, &deploy, json!({ "version": 2, "groups": [group] })).await.refused(404, "version");
    site.post(&token, &deploy, json!({ "version": 1, "groups": [group] })).await.ok();
    let progress = async |site: &Site| {
        let list = site.get(&token, "privileged-application-lists").await.ok()["items"][0].clone();
        (list["computers_current"].as_u64().unwrap(), list["computers_total"].as_u64().unwrap())
    };
    assert_eq!(progress(&site).await, (0, 2));
    let sheet = one.sheet(&site).await;
    let delivered = What::SheetDelivered {
        version: sheet.version,
        bundle: sheet.bundle,
        grants: Vec::new(),
        checkpoint: None,
    };
    one.report(&site, delivered).await;
    assert_eq!(progress(&site).await, (1, 2));
}

async fn a_list_of_another_kind_is_not_found(site: Site) {
    let token = site.token(Role::Administrator).await;
    let id = save(&site, &token, sbin("Tools", json!({}))).await["id"].as_str().unwrap().to_owned();
    site.get(&token, &format!("allowlists/{id}")).await.refused(404, "no such list");
    let list = json!({ "name": "Tools", "enabled": true, "rules": [], "version": 1 });
    site.put(&token, &format!("allowlists/{id}"), list).await.refused(404, "no such list");
}

async fn a_blocklist_takes_what_a_list_gives(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let token = site.token(Role::Administrator).await;
    let rule = json!({ "recognises": { "type": "file_hash", "sha256": "07".repeat(32) } });
    let list = json!({ "name": "Never", "enabled": true, "rules": [rule] });
    let block = site.post(&token, "blocklists", list).await.ok()["id"].as_str().unwrap().to_owned();
    let group = site.get(&token, "groups").await.ok()["items"][0]["id"].clone();
    site.post(&token, &format!("blocklists/{block}/deploy"), json!({ "version": 1, "groups": [group] }))
        .await
        .ok();
    let found = site.get(&token, &format!("requests/{id}")).await.ok();
    assert_eq!((&found["state"], &found["lapse_reason"]), (&json!("lapsed"), &json!("policy_withdrawn")));
}

/// A list of so many rules of a folder each.
fn long(rules: usize) -> Value {
    let rule = |at| json!({ "recognises": { "type": "folder_path", "path": format!("/opt/{at}") } });
    let mut list = sbin("Long", json!({}));
    list["rules"] = (0..rules).map(rule).collect();
    list
}

/// The fields of the editor as a browser sends them, but for those in text areas and choices.
fn fields(page: &str) -> String {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0;
        Some(value.replace('/', "%2F").replace(' ', "+"))
    };
    let inputs = page.split("<input").skip(1).map(|tag| tag.split_once('>').unwrap().0);
    let sent = inputs.filter(|tag| {
        let chosen = tag.contains("type=\"checkbox\"") || tag.contains("type=\"radio\"");
        !chosen || tag.contains(" checked")
    });
    let fields =
        sent.filter_map(|tag| Some(format!("{}={}", attribute(tag, "name")?, attribute(tag, "value")?)));
    fields.collect::<Vec<_>>().join("&")
}

async fn a_list_as_long_as_the_console_takes_is_edited_quickly(site: Site) {
    let cookie = crate::accounts::set_up(&site).await;
    let token = site.token(Role::Administrator).await;
    let id = save(&site, &token, long(rules::MOST)).await["id"].as_str().unwrap().to_owned();
    let path = format!("/privileged-application-lists/{id}");
    let started = Instant::now();
    let page = crate::accounts::with_cookie(&site, &cookie, &path).await;
    let opened = started.elapsed();
    assert_eq!(page.status, 200);
    let fields = fields(&page.text());
    let added = site.form(Some(&cookie), &path, &format!("{fields}&act=add.folder_path")).await;
    added.refused(422, "changed over the API");
    let saved = site.form(Some(&cookie), &path, &format!("{fields}&act=save")).await;
    assert_eq!(saved.status, 303, "{}", saved.text());
    let kept = site.get(&token, &path[1..]).await.ok();
    assert_eq!(kept["version"], 2);
    assert_eq!(kept["document"]["rules"].as_array().unwrap().len(), rules::MOST);
    assert!(opened < Duration::from_secs(3), "{opened:?}");
}

async fn a_longer_list_loses_nothing_to_the_console(site: Site) {
    let cookie = crate::accounts::set_up(&site).await;
    let token = site.token(Role::Administrator).await;
    let id = save(&site, &token, long(1_500)).await["id"].as_str().unwrap().to_owned();
    let path = format!("/privileged-application-lists/{id}");
    let page = crate::accounts::with_cookie(&site, &cookie, &path).await.text();
    assert!(page.contains("1500 rules") && page.contains("over the API"), "{page}");
    assert!(page.contains("Long") && page.contains("Enabled"), "{page}");
    assert!(
        page.contains(&format!("{path}/deployment"))
            && !page.contains("<form method=\"post\" action=\"/priv")
    );
    let fields =
        "seen=1&name=Long&enabled=yes&elevate=approval&rules.0.type=folder_path&rules.0.path=%2Fopt&act=save";
    site.form(Some(&cookie), &path, fields)
        .await
        .refused(422, "A list of 1500 rules is changed over the API");
    let many: String = (0..=rules::MOST).map(|at| format!("&rules.{at}.type=vendor")).collect();
    let new = format!("name=x{many}&act=save");
    let new = site.form(Some(&cookie), "/privileged-application-lists/new", &new).await;
    new.refused(422, "changed over the API");
    let kept = site.get(&token, &path[1..]).await.ok();
    assert_eq!(kept["version"], 1);
    assert_eq!(kept["document"]["rules"].as_array().unwrap().len(), 1_500);
}
