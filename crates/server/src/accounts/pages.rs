//! Signing in and out, and making the first owner.

use askama::Template;
use axum::Form as Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use elevon_policy::text::Text;

use crate::app::App;
use crate::auth::{Reader, session};
use crate::error::Error;
use crate::pages;
use crate::pages::failure::{beside, stays_here};
use crate::pages::flash::Flash;
use crate::pages::form::Form;

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
pub async fn sign_in(State(app): State<App>, Body(mut form): Body<Form>) -> Result<Response, Error> {
    match super::sign_in(&app, &Text::new(form.text("name").trim()), form.text("password"), None).await {
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
