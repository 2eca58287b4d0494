//! The console as a person without JavaScript uses it: pages, cookies, and the forms that are really there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::form::{Form, form_to, text_of};

/// An HTTPS client that trusts this CA and no other, and takes every status as an answer.
pub fn https(ca_pem: &str) -> Result<Agent> {
    let ca = Certificate::from_pem(ca_pem.as_bytes()).context("read the site's CA certificate")?;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .new_agent())
}

/// Someone's browser, reduced to what the console needs.
#[derive(Debug, Clone)]
pub struct Console {
    agent: Agent,
    address: String,
    cookies: BTreeMap<String, String>,
}

/// A page as it came.
#[derive(Debug, Clone)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Its path, after all redirections.
    pub path: String,
    /// Its HTML.
    pub html: String,
}

impl Page {
    /// What it says, without tags.
    pub fn text(&self) -> String {
        text_of(&self.html)
    }

    /// The form that goes to this place.
    pub fn form_to(&self, to: &str) -> Result<Form> {
        let form = form_to(&self.html, to);
        form.with_context(|| format!("looked at {} (status {})", self.path, self.status))
    }
}

impl Console {
    /// Nobody is signed in yet. `address` is like `https://localhost:8443`.
    pub fn at(address: &str, ca_pem: &str) -> Result<Self> {
        Ok(Self {
            agent: https(ca_pem)?,
            address: address.trim_end_matches('/').into(),
            cookies: BTreeMap::new(),
        })
    }

    /// Signs in through the form.
    pub fn sign_in(&mut self, name: &str, password: &str) -> Result<Page> {
        let form = self.open("/sign-in")?.form_to("/sign-in")?;
        self.submit(form.set("name", name)?.set("password", password)?)
    }

    /// Signs in, and makes sure that it worked.
    pub fn signed_in(mut self, name: &str, password: &str) -> Result<Self> {
        let page = self.sign_in(name, password)?;
        ensure!(
            page.status == 200 && !page.path.starts_with("/sign-in"),
            "{name} could not sign in: {}",
            page.text()
        );
        Ok(self)
    }

    /// Makes the first owner through the set-up link that the server printed.
    pub fn set_up(&mut self, link: &str, name: &str, password: &str) -> Result<Page> {
        let path =
            link.strip_prefix(&self.address).with_context(|| format!("{link} is not at {}", self.address))?;
        let mut form = self.open(path)?.form_to("")?.set("name", name)?;
        let fields: Vec<_> = form.fields.iter().map(|(field, _)| field.clone()).collect();
        for field in fields.iter().filter(|field| field.contains("password")) {
            form = form.set(field, password)?;
        }
        if form.action.is_empty() {
            form.action = path.into();
        }
        self.submit(form)
    }

    /// Opens a page.
    pub fn open(&mut self, path: &str) -> Result<Page> {
        let request =
            self.agent.get(format!("{}{path}", self.address)).header("Cookie", self.cookie_header());
        let answer = request.header("Sec-Fetch-Site", "none").call();
        self.follow(path, answer.with_context(|| format!("open {path}"))?)
    }

    /// Sends a form, and goes where the answer leads.
    pub fn submit(&mut self, form: Form) -> Result<Page> {
        ensure!(
            form.post && form.action.starts_with('/'),
            "expected a form that is posted to a path: {form:?}"
        );
        let request = self
            .agent
            .post(format!("{}{}", self.address, form.action))
            .header("Cookie", self.cookie_header())
            .header("Origin", &self.address)
            .header("Sec-Fetch-Site", "same-origin")
            .header("Sec-Fetch-Mode", "navigate");
        let answer =
            request.send_form(form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.follow(&form.action, answer.with_context(|| format!("send the form to {}", form.action))?)
    }

    /// Approves a pending request as its page offers it; `shorter` takes the place of the duration asked for.
    pub fn approve(&mut self, request: &str, shorter: Option<&str>, comment: &str) -> Result<Page> {
        let form =
            self.open(&format!("/requests/{request}"))?.form_to("/approve")?.set("comment", comment)?;
        let form = match shorter {
            Some(duration) => form.set("duration", duration)?,
            None => form,
        };
        self.must_submit(form)
    }

    /// Declines a pending request.
    pub fn decline(&mut self, request: &str, comment: &str) -> Result<Page> {
        let form = self.open(&format!("/requests/{request}"))?.form_to("/decline")?;
        self.must_submit(form.set("comment", comment)?)
    }

    /// Revokes a grant.
    pub fn revoke(&mut self, grant: &str, comment: &str) -> Result<Page> {
        let form = self.open(&format!("/grants/{grant}"))?.form_to("/revoke")?;
        self.must_submit(form.set("comment", comment)?)
    }

    /// Sends a form that must be taken.
    pub fn must_submit(&mut self, form: Form) -> Result<Page> {
        let action = form.action.clone();
        let page = self.submit(form)?;
        ensure!(page.status == 200, "the form to {action} was refused with {}: {}", page.status, page.text());
        Ok(page)
    }

    fn follow(&mut self, path: &str, mut answer: Response<ureq::Body>) -> Result<Page> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            self.keep_cookies(&answer);
            let status = answer.status().as_u16();
            if !(300..400).contains(&status) {
                return Ok(Page { status, path, html: answer.body_mut().read_to_string()? });
            }
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
            let to = to.with_context(|| format!("{path} redirects to nowhere"))?;
            path = to.strip_prefix(&self.address).unwrap_or(to).into();
            ensure!(path.starts_with('/'), "{path} leads out of the console");
            let request =
                self.agent.get(format!("{}{path}", self.address)).header("Cookie", self.cookie_header());
            answer = request.header("Sec-Fetch-Site", "same-origin").call()?;
        }
        bail!("{path} redirects without an end")
    }

    fn keep_cookies(&mut self, answer: &Response<ureq::Body>) {
        for cookie in answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok())
        {
            let pair = cookie.split(';').next().unwrap_or_default();
            let gone = cookie.to_ascii_lowercase().contains("max-age=0");
            match pair.split_once('=') {
                Some((name, value)) if !gone && !value.is_empty() => {
                    self.cookies.insert(name.trim().into(), value.into());
                }
                Some((name, _)) => drop(self.cookies.remove(name.trim())),
                None => {}
            }
        }
    }

    fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}
