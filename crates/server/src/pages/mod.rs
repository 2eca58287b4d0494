//! What every page of the console shares: the frame around it, forms, moments, words, assets, and errors as pages.

pub mod asset;
pub mod command;
pub mod failure;
pub mod flash;
pub mod form;
pub mod frame;
pub mod moment;
pub mod risk;
#[cfg(test)]
pub(crate) mod sample;
pub mod words;

use askama::Template;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use crate::accounts::pages as accounts;
use crate::app::App;
use crate::audit::pages as audit;
use crate::computers::pages as computers;
use crate::error::Error;
use crate::grants::pages as grants;
use crate::groups::pages as groups;
use crate::policies::pages as policies;
use crate::requests::pages::{self as requests, request};
use crate::trials::pages as trials;
use flash::Flash;

/// Every page, and every form it sends. The router puts its layers around them.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(async || leave("/access")))
        .route("/assets/{file}", get(asset::serve))
        .route("/setup/{secret}", get(accounts::setup_form).post(accounts::setup))
        .route("/sign-in", get(accounts::sign_in_form).post(accounts::sign_in))
        .route("/sign-out", post(accounts::sign_out))
        .route("/access", get(requests::pending))
        .route("/access/pending", get(requests::live))
        .route("/access/active", get(grants::active))
        .route("/access/history", get(requests::history))
        .route("/requests/{id}", get(request::request))
        .route("/requests/{id}/approve", post(request::approve))
        .route("/requests/{id}/decline", post(request::decline))
        .route("/grants/{id}", get(grants::grant))
        .route("/grants/{id}/revoke", post(grants::revoke))
        .merge(policies::routes())
        .route("/try", get(trials::try_it))
        .route("/groups", get(groups::groups))
        .route("/groups/new", get(groups::new).post(groups::create))
        .route("/groups/{id}", get(groups::group).post(groups::modify))
        .route("/computers", get(computers::computers))
        .route("/computers/enrollment-token", post(computers::enrollment_token))
        .route("/events", get(audit::events))
        .route("/accounts", get(accounts::accounts).post(accounts::create))
        .route("/accounts/{id}/disable", post(accounts::disable))
        .route("/accounts/{id}/enable", post(accounts::enable))
}

/// A page without the frame.
pub fn page(status: StatusCode, template: &impl Template) -> Result<Response, Error> {
    let html = template.render().map_err(|error| Error::internal("rendering a page", error))?;
    Ok((status, [(header::CACHE_CONTROL, "no-store")], Html(html)).into_response())
}

/// Goes on to another page, which says what was just done.
pub fn go(address: &str, flash: &Flash) -> Result<Response, Error> {
    let mut response = leave(address)?;
    response.headers_mut().append(header::SET_COOKIE, flash.cookie());
    Ok(response)
}

/// Goes on to another page.
pub fn leave(address: &str) -> Result<Response, Error> {
    let address =
        HeaderValue::from_str(address).map_err(|error| Error::internal("going on to a page", error))?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, address)]).into_response())
}

/// For the query of an address.
pub fn encoded(text: &str) -> String {
    askama::filters::urlencode_strict(text).map_or_else(|_| String::new(), |text| text.to_string())
}
