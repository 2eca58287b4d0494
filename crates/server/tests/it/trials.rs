//! Trying what would happen: the same decision as ever, with its reasons, and nothing is changed.

use elevon_policy::lists::Covers;
use elevon_policy::request::Approval;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::auth::Role;
use elevon_server::requests;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::site::Site;

crate::on_both_engines!(
    a_trial_says_what_decides_and_why,
    what_nobody_measured_is_supposed,
    a_grant_is_seen_while_it_lasts,
    a_blocklist_says_that_it_beats_the_rest,
    a_question_that_makes_no_sense_is_refused_with_its_field,
    every_role_may_try_and_nothing_is_recorded,
);

fn question(computer: &Endpoint, user: &str, application: &Value) -> Value {
    json!({ "user": user, "computer": computer.id, "application": application, "arguments": ["--now"] })
}

fn by_path() -> Value {
    json!({ "path": "/usr/sbin/tool" })
}

async fn a_trial_says_what_decides_and_why(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let request = computer.asks(&site, "alice", &policy).await;
    let token = site.token(Role::Auditor).await;
    let tried = site.post(&token, "trials", question(&computer, "alice", &by_path())).await.ok();
    assert_eq!(tried["verdict"]["verdict"], "offered");
    assert_eq!(tried["verdict"]["offer"]["way"], "approval");
    assert_eq!(tried["to_do"], "run");
    assert_eq!(tried["user"], json!({ "uid": 1000, "name": "alice" }));
    assert_eq!(tried["source"]["request"], json!(request));
    assert_eq!(tried["application"]["sha256"], "07".repeat(32));
    let reason = &tried["reasons"][0];
    assert_eq!((&reason["standing"], &reason["specificity"]), (&json!("decides"), &json!("folder_path")));
    assert!(reason["about"].as_str().unwrap().contains("/usr/sbin"), "{reason}");
    assert!(reason["sentence"].as_str().unwrap().ends_with(": this decides"), "{reason}");
    // By its bytes it is the same application.
    let by_bytes = question(&computer, "alice", &json!({ "sha256": "07".repeat(32) }));
    assert_eq!(site.post(&token, "trials", by_bytes).await.ok()["application"]["path"], "/usr/sbin/tool");
}

async fn what_nobody_measured_is_supposed(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    site.policy(&[&computer]).await;
    let token = site.token(Role::Administrator).await;
    let tried = site.post(&token, "trials", question(&computer, "carol", &by_path())).await.ok();
    assert_eq!((&tried["user_known"], &tried["source"]["type"]), (&json!(false), &json!("supposed")));
    assert_eq!(tried["verdict"]["verdict"], "offered");
    assert_eq!(tried["computer_holds_it"], false);
    // The same file where others can change it: the folder rule says how close it was.
    let mut facts = tried["application"].clone();
    facts["lane"] = json!({ "lane": "untrusted", "component": "/usr/sbin/tool", "because": "writable" });
    let tried =
        site.post(&token, "trials", question(&computer, "carol", &json!({ "facts": facts }))).await.ok();
    assert_eq!(tried["verdict"]["refusal"]["type"], "not_listed");
    assert_eq!(tried["reasons"][0]["finding"]["missing"]["missing"], "trusted_path");
    assert_eq!(tried["reasons"][0]["standing"], "short");
    assert!(tried["sentence"].as_str().unwrap().contains("can be written to by others"), "{tried}");
}

async fn a_grant_is_seen_while_it_lasts(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let request = computer.asks(&site, "alice", &policy).await;
    let by = site.approver("erin");
    let seen = requests::find(&site.app, &site.reader(), request).await.unwrap().record.version;
    let approval =
        Approval { duration: Span::from_mins(10), covers: Covers::ExactArguments, comment: Text::default() };
    requests::approve(&site.app, &by, request, seen, approval).await.unwrap();
    let token = site.token(Role::Approver).await;
    let mut asked = question(&computer, "alice", &by_path());
    assert_eq!(site.post(&token, "trials", asked.clone()).await.ok()["verdict"]["verdict"], "launch");
    // Another user, other arguments, and the moment after: each would have to ask.
    let bob = question(&computer, "bob", &by_path());
    assert_eq!(site.post(&token, "trials", bob).await.ok()["verdict"]["verdict"], "offered");
    let mut later = asked.clone();
    later["at"] = json!(site.now().after(Span::from_mins(11)).millis());
    assert_eq!(site.post(&token, "trials", later).await.ok()["verdict"]["verdict"], "offered");
    asked["arguments"] = json!(["--later"]);
    assert_eq!(site.post(&token, "trials", asked).await.ok()["verdict"]["verdict"], "offered");
}

async fn a_blocklist_says_that_it_beats_the_rest(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    site.policy(&[&computer]).await;
    let token = site.token(Role::Administrator).await;
    let rule = json!({ "recognises": { "type": "folder_path", "path": "/usr", "with_subfolders": true } });
    let list = json!({ "name": "Never", "enabled": true, "rules": [rule] });
    let block = site.post(&token, "blocklists", list).await.ok()["id"].as_str().unwrap().to_owned();
    let group = site.get(&token, "groups").await.ok()["items"][0]["id"].clone();
    let deploy = json!({ "version": 1, "groups": [group] });
    site.post(&token, &format!("blocklists/{block}/deploy"), deploy).await.ok();
    let tried = site.post(&token, "trials", question(&computer, "alice", &by_path())).await.ok();
    assert_eq!(tried["verdict"]["refusal"]["type"], "blocked");
    let of = |list: &str| {
        let reasons = tried["reasons"].as_array().unwrap();
        reasons.iter().find(|reason| reason["list"] == list).unwrap().clone()
    };
    assert_eq!(of("blocklist")["standing"], "decides");
    let allowing = of("privileged_application_list");
    assert_eq!((&allowing["standing"], &allowing["by"]), (&json!("overruled"), &json!("blocklist")));
    assert!(tried["sentence"].as_str().unwrap().contains("Never"), "{tried}");
}

async fn a_question_that_makes_no_sense_is_refused_with_its_field(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    let token = site.token(Role::Administrator).await;
    let cases = [
        (question(&computer, "", &by_path()), "user"),
        (question(&computer, "alice", &json!({ "path": "tool" })), "application"),
        (question(&computer, "alice", &json!({ "component": "" })), "application"),
    ];
    for (asked, field) in cases {
        let answer = site.post(&token, "trials", asked.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.json()["field"].as_str()), (422, Some(field)), "{asked}");
    }
    let mut unknown = question(&computer, "alice", &by_path());
    unknown["computer"] = json!("0193b3e2-7c5a-7d10-9c1e-3f2a5b6c7d8e");
    site.post(&token, "trials", unknown).await.refused(404, "no such computer");
    site.post(&token, &format!("computers/{}/revoke", computer.id), json!({})).await.ok();
    site.post(&token, "trials", question(&computer, "alice", &by_path())).await.refused(422, "shut out");
}

async fn every_role_may_try_and_nothing_is_recorded(site: Site) {
    let computer = Endpoint::enroll(&site, "web1").await;
    site.policy(&[&computer]).await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push(site.token(role).await);
    }
    let last = async || site.get(&tokens[0], "events").await.ok()["items"][0]["number"].clone();
    let before = last().await;
    for token in &tokens {
        site.post(token, "trials", question(&computer, "alice", &by_path())).await.ok();
    }
    assert_eq!(last().await, before);
    assert_eq!(site.get(&tokens[0], "requests").await.ok()["items"], json!([]));
}
