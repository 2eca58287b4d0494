//! The API's own description, OpenAPI 3.1: made from the table of routes, so that it names neither more nor less.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::auth::Needs;
use crate::router::TABLE;

/// `GET /api/v1/openapi.json`
pub async fn serve() -> Json<Value> {
    Json(document())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for (method, path, needs) in TABLE.iter().filter(|(_, path, _)| path.starts_with("/api/")) {
        let at = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        at[method.to_lowercase()] = operation(method, path, *needs);
    }
    let mut schemas = schemas();
    trial_schemas(&mut schemas);
    stored_schemas(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Elevon",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the console can do, the API can do. Times are milliseconds since the Unix epoch; durations read like 30m or 8h.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "an API token; it has a role" },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::auth::session::COOKIE },
            },
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "why it was not done, RFC 9457",
                    "content": { "application/problem+json": { "schema": reference("Problem") } },
                },
            },
        },
    })
}

fn operation(method: &str, path: &str, needs: Needs) -> Value {
    let said = say(method, path);
    let mut operation = json!({
        "operationId": name(method, path),
        "summary": said.summary,
        "description": format!("Needs: {}.", needed(needs)),
        "tags": [path.split('/').nth(3).unwrap_or_default().trim_end_matches(".csv").trim_end_matches(".json")],
        "responses": { "default": { "$ref": "#/components/responses/Problem" } },
    });
    let answer = match said.answer {
        Some(kind) => json!({ "description": said.summary, "content": { kind.0: { "schema": kind.1 } } }),
        None => json!({ "description": said.summary }),
    };
    operation["responses"][said.status] = answer;
    let mut parameters: Vec<Value> = said.query.iter().map(|(name, kind)| query(name, kind, path)).collect();
    if path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": reference("Id") }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = said.body {
        let content = match body {
            FILE => json!({ "application/octet-stream": {} }),
            _ => json!({ "application/json": { "schema": reference(body) } }),
        };
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    if needs == Needs::Anyone {
        operation["security"] = json!([]);
    }
    operation
}

struct Said {
    summary: String,
    status: &'static str,
    answer: Option<(&'static str, Value)>,
    body: Option<&'static str>,
    query: &'static [(&'static str, &'static str)],
}

/// What an operation is about, told by its path: the API is regular enough for that.
fn say(method: &str, path: &str) -> Said {
    let parts: Vec<_> = path.trim_start_matches("/api/v1/").split('/').collect();
    let thing = parts.first().copied().unwrap_or_default();
    let schema = match thing {
        "requests" => "Request",
        "grants" => "Grant",
        "launches" => "Launch",
        "privileged-application-lists" => "PrivilegedApplicationList",
        "allowlists" | "blocklists" => "ApplicationList",
        "groups" => "CustomGroup",
        "computers" => "Computer",
        "accounts" => "Account",
        "events" => "Event",
        _ => "Document",
    };
    let json = |schema: Value| Some(("application/json", schema));
    let said = |summary: String, status, answer, body, query| Said { summary, status, answer, body, query };
    // A list's answers say more than the document that is sent, or less.
    let (listed, stored, saved) = match schema {
        "PrivilegedApplicationList" => ("ListSummary", "StoredPrivilegedApplicationList", "Saved"),
        "ApplicationList" => ("ListSummary", "StoredApplicationList", "Saved"),
        "CustomGroup" => ("StoredGroup", "StoredGroup", "SavedGroup"),
        other => (other, other, "Saved"),
    };
    let (singular, plural) = (thing.trim_end_matches('s').replace('-', " "), thing.replace('-', " "));
    match (method, parts.as_slice()) {
        (_, ["openapi.json"]) => said("this document".into(), "200", json(reference("Document")), None, &[]),
        (_, ["events.csv"]) => said(
            "all events as CSV".into(),
            "200",
            Some(("text/csv", json!({ "type": "string" }))),
            None,
            FILTER,
        ),
        (_, ["events"]) => {
            said("a part of the events, from the latest".into(), "200", json(listing(schema)), None, FILTER)
        }
        ("GET", ["enrollment-tokens" | "api-tokens"]) => {
            said(format!("all {plural}; no secrets"), "200", json(listing("Document")), None, &[])
        }
        (_, ["enrollment-tokens" | "api-tokens", _, "revoke"]) => {
            said("let it open nothing any more".into(), "204", None, None, &[])
        }
        (_, ["accounts", _, "disable"]) => {
            said("let it sign in no more; its sessions end".into(), "204", None, None, &[])
        }
        (_, ["accounts", _, "enable"]) => said("let it sign in again".into(), "204", None, None, &[]),
        (_, ["accounts", _, "password"]) => {
            said("give it another password; its sessions end".into(), "204", None, Some("NewPassword"), &[])
        }
        (_, ["enrollment-tokens"]) => said(
            "a new enrollment token, shown once".into(),
            "201",
            json(reference("Token")),
            Some("NewEnrollmentToken"),
            &[],
        ),
        (_, ["api-tokens"]) => said(
            "a new API token, shown once".into(),
            "201",
            json(reference("Token")),
            Some("NewApiToken"),
            &[],
        ),
        ("POST", ["accounts"]) => {
            said("a new account".into(), "201", json(reference(schema)), Some("NewAccount"), &[])
        }
        (_, ["uploads"]) => said(
            "measure a file, and say which rules can be made of it; nothing of it is kept".into(),
            "200",
            json(reference("Measured")),
            Some(FILE),
            &[("name", "Word")],
        ),
        (_, ["launches"]) => {
            said("the launches under a grant".into(), "200", json(listing(schema)), None, &[("grant", "Id")])
        }
        (_, [_, _, "launches"]) => {
            said("the launches under it".into(), "200", json(listing("Launch")), None, &[])
        }
        (_, [_, _, "approve"]) => said(
            "approve it: a grant results".into(),
            "200",
            json(reference("SignedGrant")),
            Some("Approve"),
            &[],
        ),
        (_, [_, _, "decline"]) => {
            said("decline it".into(), "200", json(reference("Request")), Some("Comment"), &[])
        }
        (_, ["grants", _, "revoke"]) => {
            said("take it back".into(), "200", json(reference("Grant")), Some("Revoke"), &[])
        }
        (_, ["computers", _, "revoke"]) => said("shut it out".into(), "204", None, None, &[]),
        (_, [_, _, "deploy"]) => {
            said("deploy a version to custom groups".into(), "204", None, Some("Deploy"), &[])
        }
        (_, [_, _, "withdraw"]) => said("end its deployment".into(), "204", None, None, &[]),
        (_, ["trials"]) => said(
            "what would happen if a user ran an application elevated, and why; nothing is changed".into(),
            "200",
            json(reference("Trial")),
            Some("Question"),
            &[],
        ),
        ("GET", ["requests" | "grants"]) => {
            said(format!("a part of the {plural}"), "200", json(listing(schema)), None, WHICH)
        }
        ("GET", [_]) => said(format!("all {plural}"), "200", json(listing(listed)), None, &[]),
        ("POST", [_]) => said(format!("a new {singular}"), "201", json(reference(saved)), Some(schema), &[]),
        ("PUT", [_, _]) => said(
            format!("the next version of a {singular}"),
            "200",
            json(reference(saved)),
            Some(schema),
            &[],
        ),
        _ => said(format!("one {singular}"), "200", json(reference(stored)), None, &[]),
    }
}

/// The body is a file, of whatever kind it is said to be.
const FILE: &str = "File";
const WHICH: &[(&str, &str)] = &[("which", "Word"), ("cursor", "Word")];
const FILTER: &[(&str, &str)] = &[
    ("cursor", "Word"),
    ("since", "Time"),
    ("until", "Time"),
    ("user", "Word"),
    ("computer", "Id"),
    ("application", "Word"),
    ("policy", "Id"),
    ("kind", "Word"),
    ("request", "Id"),
    ("grant", "Id"),
];

fn query(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "in": "query", "required": path == "/api/v1/launches", "schema": reference(kind) })
}

fn needed(needs: Needs) -> &'static str {
    match needs {
        Needs::Anyone => "nothing",
        Needs::Reader => "any role",
        Needs::Approver => "approver, administrator or owner",
        Needs::Administrator => "administrator or owner",
        Needs::Owner => "owner",
        Needs::Computer => "a computer's certificate",
    }
}

fn name(method: &str, path: &str) -> String {
    let words = path.trim_start_matches("/api/v1/").replace(['/', '-', '.'], "_").replace(['{', '}'], "");
    format!("{}_{words}", method.to_lowercase())
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn listing(of: &str) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": { "type": "array", "items": reference(of) },
            "next": { "type": ["string", "null"], "description": "the cursor of the next part" },
        },
    })
}

fn schemas() -> Value {
    let object = |required: Value, properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let (id, time, text, span, version) =
        (reference("Id"), reference("Time"), reference("Word"), reference("Span"), reference("Version"));
    let open = |description: &str| json!({ "type": "object", "description": description });
    let list = |elevate: bool| {
        let mut properties = json!({
            "id": id, "version": version, "name": text, "description": text,
            "enabled": { "type": "boolean" },
            "rules": { "type": "array", "items": open("a rule: recognises, arguments, outcome, elevate, terms") },
        });
        if elevate {
            properties["elevate"] = json!({ "enum": ["automatic", "justification", "approval", "off"] });
            properties["applies_to"] =
                json!({ "enum": ["all_allowed_applications", "specific_applications"] });
            properties["terms"] = open(
                "what a grant is worth: durations, starts, arguments, at_expiry, launches, runs_as (root, same_user), bounds, confirm (none, once_per_grant, each_launch), nesting (refused, allowed)",
            );
        }
        properties
    };
    json!({
        "Id": { "type": "string", "format": "uuid" },
        "Time": { "type": "integer", "description": "milliseconds since the Unix epoch" },
        "Span": { "type": "string", "examples": ["30m", "8h", "1h30m"] },
        "Version": { "type": "integer", "minimum": 1 },
        "Word": { "type": "string" },
        "Bounds": object(json!([]), json!({
            "capabilities": {
                "type": "array", "items": text, "examples": [["net_raw", "net_admin"]],
                "description": "as the same user exactly these, of contained root at most these; full root has all",
            },
            "containment": open("type: full, or contained with writable: absolute paths of folders"),
            "children": { "enum": ["allowed", "denied"], "default": "allowed" },
            "limits": object(json!([]), json!({
                "processes": { "type": "integer", "minimum": 2 },
                "memory": { "type": "integer", "minimum": 1_048_576, "description": "in bytes" },
            })),
            "display": {
                "enum": ["none", "of_the_user"], "default": "none",
                "description": "whether it gets to the display of the user who asked, into whose windows whatever else is on the same X display can type; not when contained",
            },
        })),
        "Document": open("a JSON document"),
        "Problem": object(json!(["title", "status", "detail"]), json!({
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
            "field": { "type": "string", "description": "the field that is to blame" },
        })),
        "Saved": object(
            json!(["id", "version", "warnings"]),
            json!({ "id": id, "version": version, "warnings": {
                "type": "array",
                "items": object(
                    json!(["rule", "code", "sentence"]),
                    json!({
                        "rule": { "type": "integer", "description": "the rule's place in the list, from 0" },
                        "code": { "type": "string" },
                        "sentence": { "type": "string" },
                    }),
                ),
            } }),
        ),
        "Measured": object(json!(["name", "sha256", "size", "format", "offers"]), json!({
            "name": text, "sha256": text, "size": { "type": "integer", "description": "in bytes" },
            "format": { "enum": ["elf", "script", "deb", "rpm", "windows_program", "windows_installer"] },
            "interpreter": text,
            "package": open("what a package, or a file of Windows, says of itself"),
            "signature": open("who signed a file of Windows, or why nobody can be believed to have"),
            "programs": { "type": "array", "items": open("a program in a package: path, sha256, size") },
            "programs_left_out": { "type": "integer" },
            "components": { "type": "array", "items": text },
            "offers": {
                "type": "array",
                "description": "all six kinds of rules, the strongest one that lasts first",
                "items": object(json!(["type", "sentence", "rules"]), json!({
                    "type": text,
                    "sentence": { "type": "string", "description": "why one would choose it, or why it cannot be made" },
                    "rules": { "type": "array", "items": open("about, and recognises as a list's rule has it") },
                })),
            },
        })),
        "Request": object(json!(["asked", "state", "version", "since"]), json!({
            "asked": open("what was asked, as the computer measured it"), "version": version, "since": time,
            "state": { "enum": ["pending", "approved", "declined", "cancelled", "lapsed"] },
            "host_name": text, "policy_name": text,
        })),
        "Grant": object(json!(["grant", "version", "since", "state"]), json!({
            "grant": reference("SignedGrant"), "version": version, "since": time,
            "state": { "enum": ["scheduled", "active", "expired", "ended", "revoking", "revoked", "failed"] },
        })),
        "Launch": open("one execution under a grant"),
        "Computer": open("an enrolled computer"),
        "Account": object(json!(["id", "name", "role"]), json!({ "id": id, "name": text, "role": reference("Role") })),
        "Role": { "enum": ["owner", "administrator", "approver", "auditor"] },
        "Event": object(json!(["number", "at", "origin", "event"]), json!({
            "number": { "type": "integer" }, "at": time, "origin": text, "event": open("what happened"),
        })),
        "PrivilegedApplicationList": object(json!(["name", "enabled", "elevate", "applies_to", "terms"]), list(true)),
        "ApplicationList": object(json!(["name", "enabled", "rules"]), list(false)),
        "CustomGroup": object(json!(["name", "members"]), json!({
            "id": id, "version": version, "name": text,
            "members": open("kind: computers with computers, or users with users"),
        })),
        "Approve": object(json!(["seen", "duration"]), json!({
            "seen": version, "duration": span, "covers": { "enum": ["exact_arguments", "any_arguments"] }, "comment": text,
        })),
        "Comment": object(json!(["seen"]), json!({ "seen": version, "comment": text })),
        "Revoke": object(json!([]), json!({ "seen": version, "comment": text })),
        "Deploy": object(json!(["version", "groups"]), json!({
            "version": version, "groups": { "type": "array", "minItems": 1, "items": id },
        })),
        "NewEnrollmentToken": object(json!([]), json!({ "uses": { "type": "integer" }, "expires": span, "group": id })),
        "NewApiToken": object(json!(["name", "role"]), json!({ "name": text, "role": reference("Role") })),
        "NewAccount": object(json!(["name", "role", "password"]), json!({
            "name": text, "role": reference("Role"), "password": { "type": "string", "minLength": 12 },
            "os_users": { "type": "array", "items": open("name, and computer where only there") },
        })),
        "NewPassword": object(json!(["password"]), json!({ "password": { "type": "string", "minLength": 12 } })),
        "Token": object(json!([]), json!({ "id": id, "token": text, "secret": text })),
    })
}

/// What is stored, as it is answered; apart from the others for the same reason as those below.
fn stored_schemas(schemas: &mut Value) {
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let open = |description: &str| json!({ "type": "object", "description": description });
    let (id, time, text, version) =
        (reference("Id"), reference("Time"), reference("Word"), reference("Version"));
    schemas["SignedGrant"] = object(
        &["id", "version", "computer", "user", "application", "arguments", "ends", "policy"],
        json!({
            "id": id, "version": version, "computer": id, "user": open("uid and name"),
            "application": open("which bytes, where"), "arguments": open("exactly these, or any"),
            "ends": open("when, or how long after the first launch"), "policy": open("the list it was given under"),
        }),
    );
    schemas["SavedGroup"] = object(&["id", "version"], json!({ "id": id, "version": version }));
    schemas["StoredGroup"] = schemas["CustomGroup"].clone();
    schemas["StoredGroup"]["required"] = json!(["id", "version", "name", "members"]);
    let summary = [
        "id",
        "kind",
        "name",
        "version",
        "enabled",
        "deployed_version",
        "computers_total",
        "computers_current",
    ];
    let properties = json!({
        "id": id, "name": text, "version": version, "enabled": { "type": "boolean" },
        "kind": { "enum": ["privileged_application_list", "allowlist", "blocklist"] },
        "deployed_version": { "type": ["integer", "null"] },
        "computers_total": { "type": "integer" },
        "computers_current": { "type": "integer", "description": "how many of them hold the version that is deployed" },
    });
    schemas["ListSummary"] = object(&summary, properties.clone());
    for (stored, document) in [
        ("StoredPrivilegedApplicationList", "PrivilegedApplicationList"),
        ("StoredApplicationList", "ApplicationList"),
    ] {
        let mut properties = properties.clone();
        properties["document"] = reference(document);
        properties["deployment"] = json!({
            "type": ["object", "null"], "required": ["version", "deployed", "groups"],
            "properties": { "version": version, "deployed": time, "groups": { "type": "array", "items": id } },
        });
        let required = [&summary[..], &["document", "deployment"]].concat();
        schemas[stored] = object(&required, properties);
    }
}

/// Apart from the others: so much in one document of the macro is more than it takes.
fn trial_schemas(schemas: &mut Value) {
    let object = |required: Value, properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let open = |description: &str| json!({ "type": "object", "description": description });
    let (id, time, text) = (reference("Id"), reference("Time"), reference("Word"));
    schemas["Question"] = object(
        json!(["user", "computer", "application"]),
        json!({
            "user": text, "computer": id, "at": time,
            "application": { "type": "object", "minProperties": 1, "maxProperties": 1, "properties": {
                "path": text, "sha256": text, "component": text,
                "facts": open("all that a computer would measure: path, sha256, lane, package"),
            } },
            "arguments": { "type": "array", "items": text, "description": "without the program's own name" },
        }),
    );
    schemas["Trial"] = object(
        json!(["verdict", "reasons", "to_do"]),
        json!({
            "user": open("uid and name"), "computer": reference("Computer"), "computer_holds_it": { "type": "boolean" },
            "application": open("what is known of it"), "argv": { "type": "array", "items": text },
            "source": open("where that comes from"), "at": time,
            "verdict": open("launch, offered or refused, with the grant, offer or refusal"),
            "reasons": { "type": "array", "items": open("a list, its rule, what it found, and what became of it") },
            "to_do": { "enum": ["run", "told"] }, "sentence": text, "pass_on": { "type": ["string", "null"] },
        }),
    );
}
