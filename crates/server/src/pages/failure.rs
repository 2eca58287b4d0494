//! Errors as pages: the router puts this layer around every page, and none around the API.

use askama::Template;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::form::Form;
use crate::error::Told;

const NOTHING_HERE: &str =
    "Nothing is at this address. It may have been mistyped, or belong to another version.";

/// What did not go, and how to go on.
#[derive(Template)]
#[template(path = "pages/failure.html")]
struct FailurePage {
    title: &'static str,
    detail: String,
    back: Option<String>,
}

/// Makes a page of an error. Nobody signed in is not an error for a page: signing in comes first, and leads back.
pub async fn tell(request: Request, next: Next) -> Response {
    let asked = request.uri().path_and_query().map(|asked| asked.as_str().to_owned());
    let is_live = request.headers().contains_key("hx-request");
    let is_read = request.method().is_safe();
    let back = request.headers().get(header::REFERER).and_then(|referer| same_place(referer.to_str().ok()?));
    let response = next.run(request).await;
    let Some(told) = told(&response) else { return response };
    if told.status == StatusCode::UNAUTHORIZED {
        return if is_live {
            [("hx-redirect", "/sign-in")].into_response()
        } else {
            sign_in(asked.filter(|_| is_read))
        };
    }
    let page = FailurePage { title: title(told.status), detail: sentence(&told.detail), back };
    super::page(told.status, &page).unwrap_or_else(|_| told.status.into_response())
}

/// What there is to tell of a response that is no page: our own error, or one of the framework's, whose words are meant
/// for programs.
fn told(response: &Response) -> Option<Told> {
    if let Some(told) = response.extensions().get::<Told>() {
        return Some(told.clone());
    }
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !(status.is_client_error() || status.is_server_error())
        || kind.is_some_and(|kind| kind.starts_with("text/html"))
    {
        return None;
    }
    let (status, detail) = match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => (StatusCode::NOT_FOUND, NOTHING_HERE),
        StatusCode::METHOD_NOT_ALLOWED => {
            (status, "this address does not take that; use the forms of the console")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (status, "what was sent is too large"),
        _ => (status, "what was sent could not be read; go back and try again"),
    };
    Some(Told { status, title: "not accepted", detail: detail.to_owned(), field: None })
}

/// `GET` of an address that does not exist.
pub async fn nowhere() -> Response {
    let detail =
        "Nothing is at this address. It may have been mistyped, or belong to another version.".to_owned();
    let page = FailurePage { title: title(StatusCode::NOT_FOUND), detail, back: None };
    super::page(StatusCode::NOT_FOUND, &page).unwrap_or_else(|_| StatusCode::NOT_FOUND.into_response())
}

fn sign_in(next: Option<String>) -> Response {
    let address = match next.as_deref() {
        None | Some("/" | "/access") => "/sign-in".to_owned(),
        Some(next) => {
            let encoded: String = askama::filters::urlencode_strict(next)
                .map_or_else(|_| String::new(), |text| text.to_string());
            format!("/sign-in?next={encoded}")
        }
    };
    super::leave(&address).unwrap_or_else(|_| StatusCode::UNAUTHORIZED.into_response())
}

/// The path of an address on this very server, to go back to; the host was checked by whoever sent a form.
fn same_place(referer: &str) -> Option<String> {
    let after_scheme = referer.split_once("://")?.1;
    let path = after_scheme.get(after_scheme.find('/')?..)?;
    stays_here(path).map(str::to_owned)
}

/// An address that leads to a page of this server and nowhere else, or nothing.
pub fn stays_here(address: &str) -> Option<&str> {
    let stays = address.starts_with('/')
        && !address.starts_with("//")
        && !address.contains(['\\', '\r', '\n', '\t'])
        && !address.starts_with("/sign-");
    stays.then_some(address)
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::FORBIDDEN => "This is not yours to do",
        StatusCode::CONFLICT => "It changed meanwhile",
        StatusCode::TOO_MANY_REQUESTS => "Too many tries",
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => "This does not do",
        _ => "This did not work",
    }
}

/// As a sentence: a capital first, a full stop last.
pub fn sentence(told: &str) -> String {
    let mut letters = told.chars();
    let Some(first) = letters.next() else { return String::new() };
    let stop = if told.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

/// Puts what did not go beside the field that is to blame, or over the form.
pub fn beside(form: &mut Form, told: &Told) {
    form.refuse(told.field.unwrap_or("form"), sentence(&told.detail));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_back_stays_on_this_server() {
        assert_eq!(same_place("https://elevon.example:8443/requests/1?x=2"), Some("/requests/1?x=2".into()));
        for foreign in
            ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\r\nb", "/sign-in"]
        {
            assert_eq!(stays_here(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn errors_become_sentences() {
        assert_eq!(sentence("there is no such request"), "There is no such request.");
    }
}
