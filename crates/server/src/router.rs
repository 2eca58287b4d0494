//! Every URL on one page, and what each needs. A route that is not in the table is shut.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::app::App;
use crate::auth::{Needs, forbidden, nobody, session, token};
use crate::error::{Error, Told, as_problems};
use crate::policies::api::{allow, block, privileged};
use crate::{
    accounts, audit, channel, computers, grants, groups, launches, openapi, pages, requests, trials, uploads,
};

/// What each route needs: method, path, right. The router asks here before any handler runs; tests and the API's
/// document read it.
pub const TABLE: &[(&str, &str, Needs)] = &[
    // ---- API ----
    ("GET", "/api/v1/openapi.json", Needs::Anyone),
    ("GET", "/api/v1/requests", Needs::Reader),
    ("GET", "/api/v1/requests/{id}", Needs::Reader),
    ("POST", "/api/v1/requests/{id}/approve", Needs::Approver),
    ("POST", "/api/v1/requests/{id}/decline", Needs::Approver),
    ("GET", "/api/v1/grants", Needs::Reader),
    ("GET", "/api/v1/grants/{id}", Needs::Reader),
    ("GET", "/api/v1/grants/{id}/launches", Needs::Reader),
    ("POST", "/api/v1/grants/{id}/revoke", Needs::Approver),
    ("GET", "/api/v1/launches", Needs::Reader),
    ("GET", "/api/v1/privileged-application-lists", Needs::Reader),
    ("POST", "/api/v1/privileged-application-lists", Needs::Administrator),
    ("GET", "/api/v1/privileged-application-lists/{id}", Needs::Reader),
    ("PUT", "/api/v1/privileged-application-lists/{id}", Needs::Administrator),
    ("POST", "/api/v1/privileged-application-lists/{id}/deploy", Needs::Administrator),
    ("POST", "/api/v1/privileged-application-lists/{id}/withdraw", Needs::Administrator),
    ("GET", "/api/v1/allowlists", Needs::Reader),
    ("POST", "/api/v1/allowlists", Needs::Administrator),
    ("GET", "/api/v1/allowlists/{id}", Needs::Reader),
    ("PUT", "/api/v1/allowlists/{id}", Needs::Administrator),
    ("POST", "/api/v1/allowlists/{id}/deploy", Needs::Administrator),
    ("POST", "/api/v1/allowlists/{id}/withdraw", Needs::Administrator),
    ("GET", "/api/v1/blocklists", Needs::Reader),
    ("POST", "/api/v1/blocklists", Needs::Administrator),
    ("GET", "/api/v1/blocklists/{id}", Needs::Reader),
    ("PUT", "/api/v1/blocklists/{id}", Needs::Administrator),
    ("POST", "/api/v1/blocklists/{id}/deploy", Needs::Administrator),
    ("POST", "/api/v1/blocklists/{id}/withdraw", Needs::Administrator),
    ("POST", "/api/v1/trials", Needs::Reader),
    ("POST", "/api/v1/uploads", Needs::Administrator),
    ("GET", "/api/v1/groups", Needs::Reader),
    ("POST", "/api/v1/groups", Needs::Administrator),
    ("GET", "/api/v1/groups/{id}", Needs::Reader),
    ("PUT", "/api/v1/groups/{id}", Needs::Administrator),
    ("GET", "/api/v1/computers", Needs::Reader),
    ("GET", "/api/v1/computers/{id}", Needs::Reader),
    ("POST", "/api/v1/computers/{id}/revoke", Needs::Administrator),
    ("GET", "/api/v1/enrollment-tokens", Needs::Administrator),
    ("POST", "/api/v1/enrollment-tokens", Needs::Administrator),
    ("POST", "/api/v1/enrollment-tokens/{id}/revoke", Needs::Administrator),
    ("GET", "/api/v1/events", Needs::Reader),
    ("GET", "/api/v1/events.csv", Needs::Reader),
    ("GET", "/api/v1/accounts", Needs::Reader),
    ("POST", "/api/v1/accounts", Needs::Owner),
    ("POST", "/api/v1/accounts/{id}/disable", Needs::Owner),
    ("POST", "/api/v1/accounts/{id}/enable", Needs::Owner),
    ("POST", "/api/v1/accounts/{id}/password", Needs::Owner),
    ("GET", "/api/v1/api-tokens", Needs::Owner),
    ("POST", "/api/v1/api-tokens", Needs::Owner),
    ("POST", "/api/v1/api-tokens/{id}/revoke", Needs::Owner),
    // ---- console: signing in ----
    ("GET", "/assets/{file}", Needs::Anyone),
    ("GET", "/setup/{secret}", Needs::Anyone),
    ("POST", "/setup/{secret}", Needs::Anyone),
    ("GET", "/sign-in", Needs::Anyone),
    ("POST", "/sign-in", Needs::Anyone),
    ("POST", "/sign-out", Needs::Reader),
    // ---- console: Just-In-Time Access ----
    ("GET", "/", Needs::Reader),
    ("GET", "/access", Needs::Reader),
    ("GET", "/access/pending", Needs::Reader),
    ("GET", "/access/active", Needs::Reader),
    ("GET", "/access/history", Needs::Reader),
    ("GET", "/requests/{id}", Needs::Reader),
    ("POST", "/requests/{id}/approve", Needs::Approver),
    ("POST", "/requests/{id}/decline", Needs::Approver),
    ("GET", "/grants/{id}", Needs::Reader),
    ("POST", "/grants/{id}/revoke", Needs::Approver),
    // ---- console: policies ----
    ("GET", "/privileged-application-lists", Needs::Reader),
    ("GET", "/privileged-application-lists/new", Needs::Administrator),
    ("POST", "/privileged-application-lists/new", Needs::Administrator),
    ("POST", "/privileged-application-lists/new/measure", Needs::Administrator),
    ("GET", "/privileged-application-lists/{id}", Needs::Reader),
    ("POST", "/privileged-application-lists/{id}/measure", Needs::Administrator),
    ("POST", "/privileged-application-lists/{id}", Needs::Administrator),
    ("GET", "/privileged-application-lists/{id}/deployment", Needs::Reader),
    ("POST", "/privileged-application-lists/{id}/deploy", Needs::Administrator),
    ("POST", "/privileged-application-lists/{id}/withdraw", Needs::Administrator),
    ("GET", "/privileged-application-lists/{id}/audit", Needs::Reader),
    ("GET", "/allowlists", Needs::Reader),
    ("GET", "/allowlists/new", Needs::Administrator),
    ("POST", "/allowlists/new", Needs::Administrator),
    ("POST", "/allowlists/new/measure", Needs::Administrator),
    ("GET", "/allowlists/{id}", Needs::Reader),
    ("POST", "/allowlists/{id}/measure", Needs::Administrator),
    ("POST", "/allowlists/{id}", Needs::Administrator),
    ("GET", "/allowlists/{id}/deployment", Needs::Reader),
    ("POST", "/allowlists/{id}/deploy", Needs::Administrator),
    ("POST", "/allowlists/{id}/withdraw", Needs::Administrator),
    ("GET", "/allowlists/{id}/audit", Needs::Reader),
    ("GET", "/blocklists", Needs::Reader),
    ("GET", "/blocklists/new", Needs::Administrator),
    ("POST", "/blocklists/new", Needs::Administrator),
    ("POST", "/blocklists/new/measure", Needs::Administrator),
    ("GET", "/blocklists/{id}", Needs::Reader),
    ("POST", "/blocklists/{id}/measure", Needs::Administrator),
    ("POST", "/blocklists/{id}", Needs::Administrator),
    ("GET", "/blocklists/{id}/deployment", Needs::Reader),
    ("POST", "/blocklists/{id}/deploy", Needs::Administrator),
    ("POST", "/blocklists/{id}/withdraw", Needs::Administrator),
    ("GET", "/blocklists/{id}/audit", Needs::Reader),
    ("GET", "/try", Needs::Reader),
    // ---- console: computers, groups, reports ----
    ("GET", "/groups", Needs::Reader),
    ("GET", "/groups/new", Needs::Administrator),
    ("POST", "/groups/new", Needs::Administrator),
    ("GET", "/groups/{id}", Needs::Reader),
    ("POST", "/groups/{id}", Needs::Administrator),
    ("GET", "/computers", Needs::Reader),
    ("POST", "/computers/enrollment-token", Needs::Administrator),
    ("GET", "/events", Needs::Reader),
    ("GET", "/events.csv", Needs::Reader),
    ("GET", "/accounts", Needs::Reader),
    ("POST", "/accounts", Needs::Owner),
    ("POST", "/accounts/{id}/disable", Needs::Owner),
    ("POST", "/accounts/{id}/enable", Needs::Owner),
    // ---- agents' port ----
    ("POST", "/channel/v1/enroll", Needs::Anyone),
    ("GET", "/channel/v1/state", Needs::Computer),
    ("POST", "/channel/v1/events", Needs::Computer),
    ("POST", "/channel/v1/certificate", Needs::Computer),
    ("POST", "/channel/v1/time", Needs::Computer),
];

static NEEDS: LazyLock<HashMap<(&str, &str), Needs>> =
    LazyLock::new(|| TABLE.iter().map(|(method, path, needs)| ((*method, *path), *needs)).collect());

/// The largest body that people send: a long list of rules.
const PEOPLE_BODY: usize = 2 << 20;
/// The largest body that is taken from somebody who is not known yet: enough to enroll, to sign in, or to set a site up.
const STRANGERS_BODY: usize = 64 << 10;
/// The largest body that agents send: a full batch of events with long arguments.
const AGENTS_BODY: usize = 16 << 20;
/// A handler that takes longer than this is given up. The long-poll ends by itself before.
const PATIENCE: Duration = Duration::from_secs(90);
/// The same where a file is sent along: it may arrive slowly, and wait for its turn.
const PATIENCE_WITH_FILES: Duration = Duration::from_secs(45 * 60);

/// What people reach: the console and the API.
pub fn people(app: App) -> Router {
    let console = Router::new()
        .merge(pages::routes())
        .route("/events.csv", get(audit::api::csv))
        .route_layer(from_fn_with_state(app.clone(), admit))
        .fallback(pages::failure::nowhere)
        .layer(from_fn(pages::failure::tell));
    let api = api()
        .route_layer(from_fn_with_state(app.clone(), admit))
        .route("/api/{*nowhere}", any(nowhere))
        .layer(from_fn(as_problems));
    Router::new()
        .merge(console)
        .merge(api)
        .layer(from_fn_with_state(app.clone(), same_site))
        .layer(from_fn(patience))
        .layer(from_fn_with_state(app.clone(), protect))
        .layer(DefaultBodyLimit::max(PEOPLE_BODY))
        .with_state(app)
}

/// What agents reach. A computer's certificate is looked up by each handler's own argument.
pub fn agents(app: App) -> Router {
    Router::new()
        .route("/channel/v1/enroll", post(channel::api::enroll))
        .route("/channel/v1/state", get(channel::api::state))
        .route("/channel/v1/events", post(channel::api::events))
        .route("/channel/v1/certificate", post(channel::api::certificate))
        .route("/channel/v1/time", post(channel::api::time))
        .route_layer(from_fn_with_state(app.clone(), admit))
        .fallback(nowhere)
        .layer(from_fn(as_problems))
        .layer(from_fn(patience))
        .layer(DefaultBodyLimit::max(AGENTS_BODY))
        .with_state(app)
}

fn api() -> Router<App> {
    Router::new()
        .route("/api/v1/openapi.json", get(openapi::serve))
        .route("/api/v1/requests", get(requests::api::list))
        .route("/api/v1/requests/{id}", get(requests::api::find))
        .route("/api/v1/requests/{id}/approve", post(requests::api::approve))
        .route("/api/v1/requests/{id}/decline", post(requests::api::decline))
        .route("/api/v1/grants", get(grants::api::list))
        .route("/api/v1/grants/{id}", get(grants::api::find))
        .route("/api/v1/grants/{id}/launches", get(launches::api::of_grant))
        .route("/api/v1/grants/{id}/revoke", post(grants::api::revoke))
        .route("/api/v1/launches", get(launches::api::list))
        .route("/api/v1/privileged-application-lists", get(privileged::list).post(privileged::create))
        .route("/api/v1/privileged-application-lists/{id}", get(privileged::find).put(privileged::update))
        .route("/api/v1/privileged-application-lists/{id}/deploy", post(privileged::deploy))
        .route("/api/v1/privileged-application-lists/{id}/withdraw", post(privileged::withdraw))
        .route("/api/v1/allowlists", get(allow::list).post(allow::create))
        .route("/api/v1/allowlists/{id}", get(allow::find).put(allow::update))
        .route("/api/v1/allowlists/{id}/deploy", post(allow::deploy))
        .route("/api/v1/allowlists/{id}/withdraw", post(allow::withdraw))
        .route("/api/v1/blocklists", get(block::list).post(block::create))
        .route("/api/v1/blocklists/{id}", get(block::find).put(block::update))
        .route("/api/v1/blocklists/{id}/deploy", post(block::deploy))
        .route("/api/v1/blocklists/{id}/withdraw", post(block::withdraw))
        .route("/api/v1/trials", post(trials::api::try_it))
        .route("/api/v1/uploads", post(uploads::api::measure))
        .route("/api/v1/groups", get(groups::api::list).post(groups::api::create))
        .route("/api/v1/groups/{id}", get(groups::api::find).put(groups::api::update))
        .route("/api/v1/computers", get(computers::api::list))
        .route("/api/v1/computers/{id}", get(computers::api::find))
        .route("/api/v1/computers/{id}/revoke", post(computers::api::revoke))
        .route("/api/v1/enrollment-tokens", get(computers::api::tokens).post(computers::api::create_token))
        .route("/api/v1/enrollment-tokens/{id}/revoke", post(computers::api::revoke_token))
        .route("/api/v1/events", get(audit::api::list))
        .route("/api/v1/events.csv", get(audit::api::csv))
        .route("/api/v1/accounts", get(accounts::api::list).post(accounts::api::create))
        .route("/api/v1/accounts/{id}/disable", post(accounts::api::disable))
        .route("/api/v1/accounts/{id}/enable", post(accounts::api::enable))
        .route("/api/v1/accounts/{id}/password", post(accounts::api::change_password))
        .route("/api/v1/api-tokens", get(accounts::api::tokens).post(accounts::api::create_token))
        .route("/api/v1/api-tokens/{id}/revoke", post(accounts::api::revoke_token))
}

/// Asks the table whether whoever asks may, before any handler runs. Routes of computers check the certificate
/// themselves: their argument is the computer.
async fn admit(
    State(app): State<App>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    // HEAD is answered by GET's handler.
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let Some(needs) = NEEDS.get(&(method.as_str(), path.as_str())).copied() else {
        return not_in_the_table(&method, path.as_str());
    };
    if needs == Needs::Anyone {
        DefaultBodyLimit::max(STRANGERS_BODY).apply(&mut request);
    }
    if matches!(needs, Needs::Anyone | Needs::Computer) {
        return Ok(next.run(request).await);
    }
    let is_api = path.as_str().starts_with("/api/");
    let by_token = if is_api { token::actor(&app, request.headers()).await? } else { None };
    let actor = match by_token {
        Some(actor) => actor,
        None => session::actor(&app, request.headers()).await?.ok_or_else(nobody)?,
    };
    if !actor.may(needs) {
        return Err(Error::Forbidden(forbidden(actor.role, needs).into()));
    }
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// A route that the table does not name is shut, whether a handler is there or not.
fn not_in_the_table(method: &Method, path: &str) -> Result<Response, Error> {
    let others: Vec<_> = TABLE.iter().filter(|(_, at, _)| *at == path).map(|(method, ..)| *method).collect();
    if others.is_empty() {
        let cause = format!("{method} {path} is not in the table of what routes need");
        return Err(Error::internal("admitting a request", cause));
    }
    let allow = others.join(", ");
    let detail = format!("this address takes {allow}");
    let told =
        Told { status: StatusCode::METHOD_NOT_ALLOWED, title: "method not allowed", detail, field: None };
    let mut response = told.into_response();
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Ok(response)
}

/// Changes come from this very site: browsers say where a request comes from, and a page of another site does not get
/// to send one with someone's cookie. Programs send neither header, and no cookie that a browser keeps.
async fn same_site(State(app): State<App>, request: Request, next: Next) -> Result<Response, Error> {
    if !request.method().is_safe() && !comes_from_here(&app, request.headers()) {
        return Err(Error::Forbidden(
            "this was sent by a page of another site; open the console and do it there".into(),
        ));
    }
    Ok(next.run(request).await)
}

fn comes_from_here(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match text(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let here = text(header::HOST).map(|host| format!("https://{host}"));
            origin == app.config.public_url || here.is_some_and(|here| origin == here)
        }
    }
}

async fn patience(path: Option<MatchedPath>, request: Request, next: Next) -> Result<Response, Error> {
    let sends_a_file = |path: &str| path == "/api/v1/uploads" || path.ends_with("/measure");
    let long = path.is_some_and(|path| sends_a_file(path.as_str()));
    let patience = if long { PATIENCE_WITH_FILES } else { PATIENCE };
    let answered = tokio::time::timeout(patience, next.run(request)).await;
    answered.map_err(|_| Error::internal("answering", "it took too long"))
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

async fn protect(State(app): State<App>, request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // For localhost a browser would take it to be about every other program there as well.
    if !app.config.public_url.starts_with("https://localhost") {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn nowhere() -> Response {
    Error::NotFound("address").into_response()
}
