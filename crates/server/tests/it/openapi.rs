//! The API's description is true.

use elevon_server::auth::Role;
use elevon_server::openapi::document;
use elevon_server::router::TABLE;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::site::{PASSWORD, Site};

#[test]
fn it_names_every_route_and_no_other() {
    let document = document();
    let mut described: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let api = TABLE.iter().filter(|(_, path, _)| path.starts_with("/api/"));
    let mut routed: Vec<_> =
        api.map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    described.sort();
    routed.sort();
    assert_eq!(described, routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_one() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let mut names: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(reference) if name == "$ref" => references.push(reference.clone()),
                    value => collect(value, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

/// Whether an answer is as the document says, as far as it says.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return check(document, schema, value, at);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: {other}"),
    };
    match &schema["type"] {
        Value::String(kind) => assert!(is(kind), "{at}: expected {kind}: {value}"),
        Value::Array(kinds) => {
            assert!(kinds.iter().any(|kind| is(kind.as_str().unwrap())), "{at}: expected {kinds:?}: {value}");
        }
        _ => {}
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: expected one of {words:?}: {value}");
    }
    for name in schema["required"].as_array().into_iter().flatten().filter(|_| value.is_object()) {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: {name} is missing: {value}");
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(document, schema, value, &format!("{at}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        check(document, &schema["items"], item, &format!("{at}[]"));
    }
}

/// Calls an operation, and compares what it answers with what is said of it.
async fn call(site: &Site, token: &str, method: &str, template: &str, id: &str, body: Value) -> Value {
    let document = document();
    let path = template.replace("{id}", id);
    let answer = match method {
        "get" => site.get(token, &path).await,
        "put" => site.put(token, &path, body).await,
        _ => site.post(token, &path, body).await,
    };
    let (status, value) = (answer.status.as_str().to_owned(), answer.ok());
    let template = template.split('?').next().unwrap();
    let said = &document["paths"][format!("/api/v1/{template}")][method]["responses"][&status];
    assert!(said.is_object(), "{method} {template} answers {status}");
    let schema = &said["content"]["application/json"]["schema"];
    assert_eq!(schema.is_object(), !value.is_null(), "{method} {template}: {value}");
    check(&document, schema, &value, &format!("{method} {template}"));
    value
}

#[tokio::test]
async fn answers_are_as_it_says() {
    let site = Site::on_sqlite().await;
    let token = &site.token(Role::Owner).await;
    let none = || Value::Null;
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let (one, two) =
        (computer.asks(&site, "alice", &policy).await, computer.asks(&site, "bob", &policy).await);

    call(&site, token, "get", "requests", "", none()).await;
    call(&site, token, "get", "requests/{id}", &one.to_string(), none()).await;
    let approve = json!({ "seen": 1, "duration": "15m" });
    let grant = call(&site, token, "post", "requests/{id}/approve", &one.to_string(), approve).await;
    call(&site, token, "post", "requests/{id}/decline", &two.to_string(), json!({ "seen": 1 })).await;
    let grant: elevon_policy::grant::Grant = serde_json::from_value(grant).unwrap();
    computer.launches(&site, &grant).await;
    let grant = grant.id.to_string();
    call(&site, token, "get", "grants", "", none()).await;
    call(&site, token, "get", "grants/{id}", &grant, none()).await;
    call(&site, token, "get", "grants/{id}/launches", &grant, none()).await;
    call(&site, token, "get", &format!("launches?grant={grant}"), "", none()).await;
    call(&site, token, "post", "grants/{id}/revoke", &grant, json!({})).await;

    for kind in ["privileged-application-lists", "allowlists", "blocklists"] {
        let mut list = crate::site::sbin("Another", json!({}));
        if kind != "privileged-application-lists" {
            for name in ["elevate", "applies_to", "terms"] {
                list.as_object_mut().unwrap().remove(name);
            }
        }
        let saved = call(&site, token, "post", kind, "", list.clone()).await;
        let id = saved["id"].as_str().unwrap();
        list["version"] = saved["version"].clone();
        let one = format!("{kind}/{{id}}");
        call(&site, token, "put", &one, id, list).await;
        call(&site, token, "get", kind, "", none()).await;
        call(&site, token, "get", &one, id, none()).await;
    }
    call(&site, token, "get", "privileged-application-lists/{id}", &policy, none()).await;

    let mut group = json!({ "name": "Web", "members": { "kind": "computers", "computers": [] } });
    let saved = call(&site, token, "post", "groups", "", group.clone()).await;
    group["version"] = saved["version"].clone();
    let id = saved["id"].as_str().unwrap();
    call(&site, token, "put", "groups/{id}", id, group).await;
    call(&site, token, "get", "groups", "", none()).await;
    call(&site, token, "get", "groups/{id}", id, none()).await;

    let account = json!({ "name": "carol", "role": "approver", "password": PASSWORD });
    call(&site, token, "post", "accounts", "", account).await;
    for all in ["accounts", "computers", "events", "api-tokens", "enrollment-tokens"] {
        call(&site, token, "get", all, "", none()).await;
    }
    call(&site, token, "get", "computers/{id}", &computer.id.to_string(), none()).await;
    let made = json!({ "name": "export", "role": "auditor" });
    call(&site, token, "post", "api-tokens", "", made).await;
    call(&site, token, "post", "enrollment-tokens", "", json!({})).await;
}

#[tokio::test]
async fn what_must_be_said_in_a_question_is_said_to_be() {
    let site = Site::on_sqlite().await;
    let token = site.token(Role::Auditor).await;
    let document = document();
    for (method, path, _) in TABLE.iter().filter(|(_, path, _)| path.starts_with("/api/")) {
        let said = &document["paths"][*path][method.to_lowercase()]["parameters"];
        let asked = said.as_array().into_iter().flatten().filter(|said| said["in"] == "query");
        let needed = asked.clone().any(|said| said["required"] == true);
        if *method == "GET" && asked.count() > 0 {
            let answer = site.get(&token, path.trim_start_matches("/api/v1/")).await;
            assert_eq!(answer.status.is_success(), !needed, "{path}: {}", answer.text());
        }
    }
}
