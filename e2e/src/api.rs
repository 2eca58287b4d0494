//! The HTTP API, as a script of an administrator uses it.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::Agent;

use crate::clock::{SOON, until};
use crate::console::https;

/// The API with a token.
#[derive(Debug, Clone)]
pub struct Api {
    agent: Agent,
    address: String,
    token: String,
}

/// One event of the audit trail as the API gives it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The whole row.
    pub row: Value,
    /// Such as `launch.started`.
    pub kind: String,
    /// What the kind carries.
    pub data: Value,
    /// Milliseconds since the Unix epoch, by the clock of whoever recorded it.
    pub at: i64,
}

impl Seen {
    /// A text inside the data, by its path such as `/request/id`; empty where there is none.
    pub fn text(&self, pointer: &str) -> String {
        self.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Api {
    /// `address` is like `https://localhost:8443`.
    pub fn at(address: &str, ca_pem: &str, token: &str) -> Result<Self> {
        Ok(Self { agent: https(ca_pem)?, address: address.trim_end_matches('/').into(), token: token.into() })
    }

    /// The same token at another server.
    pub fn at_address(&self, address: &str) -> Self {
        Self { address: address.into(), ..self.clone() }
    }

    /// Status and body of whatever comes back.
    pub fn answer(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{path}", self.address))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json");
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let answer = self.agent.run(request.body(bytes)?);
        told(answer.with_context(|| format!("{method} {path}"))?)
    }

    /// Sends a file to be measured, once the server has said that it will take it.
    pub fn upload(&self, name: &str, file: File) -> Result<(u16, Value)> {
        let request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("{}/api/v1/uploads?name={name}", self.address))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Length", file.metadata()?.len())
            .header("Expect", "100-continue");
        told(self.agent.run(request.body(file)?).with_context(|| format!("send {name}"))?)
    }

    /// Reads something that must be there.
    pub fn read(&self, path: &str) -> Result<Value> {
        self.must("GET", path, None)
    }

    /// Makes or does something that must succeed.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.must("POST", path, Some(body))
    }

    fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.answer(method, path, body)?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path} was answered with {status}: {value}\nsent: {body:?}"
        );
        Ok(value)
    }

    /// The items of a list, all pages of it.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page =
                if cursor.is_empty() { path.to_owned() } else { format!("{path}{separator}cursor={cursor}") };
            let page = self.read(&page)?;
            all.extend(items(&page)?);
            match page.get("next") {
                Some(Value::String(next)) => cursor.clone_from(next),
                Some(Value::Number(next)) => cursor = next.to_string(),
                _ => return Ok(all),
            }
        }
    }

    /// Every event so far, the oldest first.
    pub fn events(&self) -> Result<Vec<Seen>> {
        // The newest come first, from two chains whose clocks may differ a little: the server's own and the computer's.
        let mut events: Vec<Seen> =
            self.list("events")?.into_iter().rev().map(seen).collect::<Result<_>>()?;
        events.sort_by_key(|event| event.row.get("stored").and_then(Value::as_i64));
        Ok(events)
    }

    /// Waits for an event of this kind for which `pick` says yes.
    pub fn event(&self, kind: &str, mut pick: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let found = until(&format!("an event {kind}"), SOON, || {
            Ok(self.events()?.into_iter().find(|event| event.kind == kind && pick(event)))
        });
        found.with_context(|| format!("the events are {:?}", self.kinds().unwrap_or_default()))
    }

    /// The kinds of all events, in order.
    pub fn kinds(&self) -> Result<Vec<String>> {
        Ok(self.events()?.into_iter().map(|event| event.kind).collect())
    }

    /// Waits for a pending request whose application's path or component has `name` in it; gives its id.
    pub fn pending(&self, name: &str) -> Result<String> {
        let is_it = |event: &Seen| {
            let has = |place: &str| event.text(&format!("/request/application/{place}")).contains(name);
            event.kind == "request.made" && (has("path") || has("component/action"))
        };
        let found = until(&format!("a pending request for {name}"), SOON, || {
            // There may have been others for the same, which were answered.
            for event in self.events()?.into_iter().rev().filter(is_it) {
                let id = event.text("/request/id");
                if word(&self.read(&format!("requests/{id}"))?, "state") == Some("pending") {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        });
        found.with_context(|| format!("the events are {:?}", self.kinds().unwrap_or_default()))
    }

    /// Waits until a request is in this state.
    pub fn request_is(&self, id: &str, state: &str) -> Result<Value> {
        self.record_is(&format!("requests/{id}"), state, SOON)
    }

    /// Waits until a grant is in this state.
    pub fn grant_is(&self, id: &str, state: &str) -> Result<Value> {
        self.record_is(&format!("grants/{id}"), state, SOON)
    }

    fn record_is(&self, path: &str, state: &str, span: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let found = until(&format!("{path} to be {state}"), span, || {
            last = self.read(path)?;
            Ok((word(&last, "state") == Some(state)).then(|| last.clone()))
        });
        found.with_context(|| format!("it is {last}"))
    }
}

/// A text of a record, whether the row wraps the record or is it.
pub fn word<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    row.get(name).or_else(|| row.get("record")?.get(name)).and_then(Value::as_str)
}

fn items(page: &Value) -> Result<Vec<Value>> {
    let list = page.as_array().or_else(|| page.as_object()?.values().find_map(Value::as_array));
    Ok(list.with_context(|| format!("expected a page of a list, not {page}"))?.clone())
}

fn seen(row: Value) -> Result<Seen> {
    let event = row.get("event").unwrap_or(&row).clone();
    let kind =
        event.get("kind").and_then(Value::as_str).with_context(|| format!("expected an event, not {row}"))?;
    let at = event.get("at").and_then(Value::as_i64).unwrap_or_default();
    Ok(Seen { kind: kind.into(), data: event.get("data").cloned().unwrap_or_default(), at, row })
}

/// Status and body of an answer.
fn told(mut answer: ureq::http::Response<ureq::Body>) -> Result<(u16, Value)> {
    let text = answer.body_mut().read_to_string()?;
    let value = match text.as_str() {
        "" => Value::Null,
        json => serde_json::from_str(json).unwrap_or(Value::String(text)),
    };
    Ok((answer.status().as_u16(), value))
}
