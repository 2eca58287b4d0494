//! Signing in and out, making the first owner, and who else may sign in.

use std::net::SocketAddr;

use askama::Template;
use axum::Extension;
use axum::Form as Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use elevon_policy::group::Member;
use elevon_policy::id::AccountId;
use elevon_policy::text::Text;

use super::Row;
use crate::app::App;
use crate::auth::{Needs, Owner, Reader, Role, session};
use crate::error::Error;
use crate::pages;
use crate::pages::failure::{beside, stays_here};
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};

#[derive(Template)]
#[template(path = "accounts/sign_in.html")]
struct SignInPage {
    form: Form,
}

/// `GET /sign-in`
pub async fn sign_in_form(
    State(app): State<App>,
    headers: HeaderMap,
    Query(form): Query<Form>,
) -> Result<Response, Error> {
    if session::actor(&app, &headers).await?.is_some() {
        return pages::leave(onwards(&form));
    }
    pages::page(StatusCode::OK, &SignInPage { form })
}

/// `POST /sign-in`
pub async fn sign_in(
    State(app): State<App>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let address = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    match super::sign_in(&app, &Text::new(form.text("name").trim()), form.text("password"), address).await {
        Ok(session) => signed_in(onwards(&form), &session.secret, None),
        Err(error @ (Error::Unauthenticated(_) | Error::Invalid { .. } | Error::TooMany(_))) => {
            let told = error.told();
            beside(&mut form, &told);
            form.forget("password");
            let status = if told.status == StatusCode::UNAUTHORIZED {
                StatusCode::UNPROCESSABLE_ENTITY
            } else {
                told.status
            };
            pages::page(status, &SignInPage { form })
        }
        Err(error) => Err(error),
    }
}

/// Where someone wanted to go who had to sign in first.
fn onwards(form: &Form) -> &str {
    stays_here(form.text("next")).unwrap_or("/access")
}

fn signed_in(address: &str, secret: &str, flash: Option<&Flash>) -> Result<Response, Error> {
    let mut response = match flash {
        Some(flash) => pages::go(address, flash)?,
        None => pages::leave(address)?,
    };
    response.headers_mut().append(header::SET_COOKIE, session::set_cookie(secret));
    Ok(response)
}

/// `POST /sign-out`
pub async fn sign_out(State(app): State<App>, by: Reader, headers: HeaderMap) -> Result<Response, Error> {
    if let Some(secret) = session::secret(&headers) {
        super::sign_out(&app, &by, secret).await?;
    }
    let mut response = pages::leave("/sign-in")?;
    response.headers_mut().append(header::SET_COOKIE, session::clear_cookie());
    Ok(response)
}

#[derive(Template)]
#[template(path = "accounts/setup.html")]
struct SetupPage {
    form: Form,
}

#[derive(Template)]
#[template(path = "accounts/setup_over.html")]
struct SetupOverPage;

/// `GET /setup/{secret}`
pub async fn setup_form(State(app): State<App>, Path(secret): Path<String>) -> Result<Response, Error> {
    if !super::setup_is_open(&app, &secret).await? {
        return pages::page(StatusCode::NOT_FOUND, &SetupOverPage);
    }
    pages::page(StatusCode::OK, &SetupPage { form: Form::default() })
}

/// `POST /setup/{secret}`
pub async fn setup(
    State(app): State<App>,
    Path(secret): Path<String>,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    if !super::setup_is_open(&app, &secret).await? {
        return pages::page(StatusCode::NOT_FOUND, &SetupOverPage);
    }
    match super::create_first_owner(&app, &secret, Text::new(form.text("name").trim()), form.text("password"))
        .await
    {
        Ok(session) => {
            let told =
                "You are the first owner. Enroll a computer, then make a list of what its users may elevate.";
            signed_in("/computers", &session.secret, Some(&Flash::done(told)))
        }
        Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => {
            beside(&mut form, &error.told());
            form.forget("password");
            pages::page(StatusCode::UNPROCESSABLE_ENTITY, &SetupPage { form })
        }
        Err(error) => Err(error),
    }
}

#[derive(Template)]
#[template(path = "accounts/list.html")]
struct AccountsPage {
    frame: Frame,
    accounts: Vec<Row>,
    form: Form,
    may_change: bool,
}

impl AccountsPage {
    async fn of(app: &App, frame: Frame, form: Form) -> Result<Self, Error> {
        let accounts = super::list(app, &frame.reader).await?;
        Ok(Self { may_change: frame.may(Needs::Owner), frame, accounts, form })
    }

    fn roles(&self) -> [(Role, &'static str); 4] {
        [
            (Role::Approver, "decides requests and revokes grants"),
            (Role::Administrator, "also changes policies, groups and computers"),
            (Role::Owner, "also makes accounts"),
            (Role::Auditor, "reads"),
        ]
    }

    /// The users for whom this account cannot decide.
    fn tied(&self, account: &Row) -> String {
        if account.os_users.is_empty() {
            return format!("{} on every computer", account.name.visible());
        }
        let names: Vec<_> = account.os_users.iter().map(|user| user.name.visible().to_string()).collect();
        names.join(", ")
    }
}

/// `GET /accounts`
pub async fn accounts(State(app): State<App>, frame: Frame) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Accounts);
    let mut form = Form::default();
    form.set("role", Role::Approver);
    let page = AccountsPage::of(&app, frame.clone(), form).await?;
    frame.show(&page)
}

/// `POST /accounts`
pub async fn create(
    State(app): State<App>,
    frame: Frame,
    by: Owner,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Accounts);
    let role: Option<Role> = form.read("role");
    let names = form.text("os_users").split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
    let os_users = names.map(|name| Member { name: Text::new(name), computer: None }).collect();
    let name = Text::new(form.text("name").trim());
    if let Some(role) = role {
        match super::create(&app, &by, name, role, os_users, form.text("password")).await {
            Ok(row) => {
                let told = format!("{} may sign in now, as {}.", row.name.visible(), row.role);
                return pages::go("/accounts", &Flash::done(told));
            }
            Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => beside(&mut form, &error.told()),
            Err(error) => return Err(error),
        }
    }
    form.forget("password");
    let page = AccountsPage::of(&app, frame.clone(), form).await?;
    frame.refuse(&page)
}

/// `POST /accounts/{id}/disable`
pub async fn disable(
    State(app): State<App>,
    by: Owner,
    Path(id): Path<AccountId>,
) -> Result<Response, Error> {
    match super::disable(&app, &by, id).await {
        Ok(()) => {
            pages::go("/accounts", &Flash::done("The account may not sign in any more; its sessions ended."))
        }
        Err(error @ Error::Conflict(_)) => {
            pages::go("/accounts", &Flash::refused(pages::failure::sentence(&error.told().detail)))
        }
        Err(error) => Err(error),
    }
}

/// `POST /accounts/{id}/enable`
pub async fn enable(State(app): State<App>, by: Owner, Path(id): Path<AccountId>) -> Result<Response, Error> {
    super::enable(&app, &by, id).await?;
    pages::go("/accounts", &Flash::done("The account may sign in again."))
}
