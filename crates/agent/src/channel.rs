//! To and from the server.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elevon_wire::channel::{
    Enroll, Enrolled, Events, Renew, Renewed, State, StateQuestion, Stored, TimeQuestion,
};
use elevon_wire::frame::UPLINK_LIMIT;
use elevon_wire::signed::Signed;
use rustls::{AlertDescription, ClientConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::log::Subject;
use crate::patience::Patience;
use crate::transport::{Dialer, Later};

/// Longest answer of the server but for a state, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;

/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(15);

/// For an answer to begin, and for each piece of it or of a question to come through: on a slow line all of it may take longer. A
/// long-poll has its wait on top.
const EXCHANGE: Duration = Duration::from_secs(30);

/// How long an idle connection is kept, so that news leaves without shaking hands first.
const KEEP: Duration = Duration::from_secs(600);

/// The way to the server.
#[derive(Debug)]
pub(crate) struct Channel {
    address: String,
    line: Mutex<Line>,
}

/// As whom this computer speaks, and over what.
#[derive(Debug)]
struct Line {
    tls: Arc<ClientConfig>,
    /// For whatever has to leave at once.
    at_once: Agent,
    /// For the long-poll; cut off and made anew when its question is out of date.
    polling: Agent,
}

impl Line {
    fn new(tls: Arc<ClientConfig>) -> Self {
        Self { at_once: agent(&tls), polling: agent(&tls), tls }
    }
}

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No answer.
    #[error("cannot reach the server at {address}: {cause}")]
    Unreachable { address: String, cause: String },
    /// It does not know this computer, or does not let it.
    #[error("the server at {address} refuses this computer: {told}")]
    Refused { address: String, told: String },
    /// It is at another place than was thought.
    #[error("the server at {address} has other events than expected: {told}")]
    Conflict { address: String, told: String },
    /// It said something else.
    #[error("the server at {address} answered {status}: {told}")]
    Other { address: String, status: u16, told: String },
}

/// How one kind of exchange with the server goes: whether the server is reached at all concerns every kind, what it answers
/// only this one.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    server: &'a Subject,
    own: Subject,
    patience: Patience,
}

impl<'a> Course<'a> {
    /// `works` is said when the server takes this kind of exchange again.
    pub(crate) fn new(server: &'a Subject, works: &'static str) -> Self {
        Self { server, own: Subject::new(works), patience: Patience::default() }
    }

    /// It was done; there is no hurry if it led to nothing new.
    pub(crate) fn done(&mut self, progress: bool) {
        self.server.works();
        if progress {
            self.own.works();
            self.patience.reset();
        } else {
            self.patience.wait();
        }
    }

    /// It was not done: says so, once, and waits before the next try.
    pub(crate) fn failed(&mut self, error: &Error) {
        if matches!(error, Error::Unreachable { .. }) {
            self.server.fails(error);
            self.patience.wait_for(self.server);
        } else {
            self.server.works();
            self.own.fails(error);
            self.patience.wait();
        }
    }
}

impl Channel {
    /// To the server at `address`, `host:port`.
    pub(crate) fn to(address: &str, tls: Arc<ClientConfig>) -> Self {
        Self { address: address.to_owned(), line: Mutex::new(Line::new(tls)) }
    }

    /// Speaks with another certificate from now on. What is under way is answered on the old connections, but for the
    /// long-poll, which is asked anew.
    pub(crate) fn change(&self, tls: Arc<ClientConfig>) {
        std::mem::replace(&mut *self.line(), Line::new(tls)).polling.shutdown();
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_once(&self) -> Agent {
        self.line().at_once.clone()
    }

    /// Enrolls this computer.
    pub(crate) fn enroll(&self, enroll: &Enroll) -> Result<Enrolled, Error> {
        let request = self.at_once().post(self.url("enroll")).send_json(enroll);
        self.json(request, ANSWER_LIMIT)
    }

    /// What this computer should hold; none when that did not change in the time to wait.
    pub(crate) fn state(&self, question: &StateQuestion) -> Result<Option<State>, Error> {
        let agent = self.line().polling.clone();
        let mut request = agent
            .get(self.url("state"))
            .query("after", question.after.to_string())
            .query("wait", question.wait.to_string());
        if let Some(bundle) = question.bundle {
            request = request.query("bundle", bundle.to_string());
        }
        let patience = EXCHANGE + Duration::from_secs(question.wait);
        let config = request.config().timeout_recv_response(Some(patience)).timeout_per_read(Some(patience));
        let response = config.build().call();
        let response = self.accepted(response)?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        // JSON carries documents as base64, a third longer.
        self.read(response, 2 * UPLINK_LIMIT as u64).map(Some)
    }

    /// Ends the long-poll that is under way, if any; it fails.
    pub(crate) fn cut_poll(&self) {
        let mut line = self.line();
        let polling = agent(&line.tls);
        std::mem::replace(&mut line.polling, polling).shutdown();
    }

    /// Hands events over; without any it only asks how far the server is.
    pub(crate) fn events(&self, events: &Events) -> Result<Stored, Error> {
        let request = self.at_once().post(self.url("events")).send_json(events);
        self.json(request, ANSWER_LIMIT)
    }

    /// Asks for a new certificate.
    pub(crate) fn renew(&self, renew: &Renew) -> Result<Renewed, Error> {
        let request = self.at_once().post(self.url("certificate")).send_json(renew);
        self.json(request, ANSWER_LIMIT)
    }

    /// What time it is.
    pub(crate) fn time(&self, question: &TimeQuestion) -> Result<Signed, Error> {
        let request = self.at_once().post(self.url("time")).send_json(question);
        self.json(request, ANSWER_LIMIT)
    }

    fn url(&self, what: &str) -> String {
        format!("https://{}/channel/v1/{what}", self.address)
    }

    fn json<T: DeserializeOwned>(
        &self,
        response: Result<Response<Body>, ureq::Error>,
        limit: u64,
    ) -> Result<T, Error> {
        self.accepted(response).and_then(|response| self.read(response, limit))
    }

    fn read<T: DeserializeOwned>(&self, mut response: Response<Body>, limit: u64) -> Result<T, Error> {
        let status = response.status().as_u16();
        response.body_mut().with_config().limit(limit).read_json().map_err(|error| match error {
            ureq::Error::Json(error) => {
                let cause = elevon_policy::text::Text::new(error.to_string());
                let told = format!("this version cannot read it: {}", cause.visible());
                Error::Other { address: self.address.clone(), status, told }
            }
            other => self.unreachable(&other),
        })
    }

    fn accepted(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Error> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let (address, status) = (self.address.clone(), response.status());
        if status.is_success() {
            return Ok(response);
        }
        let told = problem(&mut response);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Refused { address, told },
            StatusCode::CONFLICT => Error::Conflict { address, told },
            status => Error::Other { address, status: status.as_u16(), told },
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Error {
        let address = self.address.clone();
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) if refuses_certificate(*alert) => {
                let told = "its certificate is not accepted (any more); enroll it again with a new token and --again";
                Error::Refused { address, told: told.into() }
            }
            Some(rustls::Error::General(told)) => Error::Unreachable { address, cause: told.clone() },
            Some(rustls::Error::InvalidCertificate(cause)) => {
                let cause = format!(
                    "its certificate does not do ({cause:?}); is this the server that this computer was enrolled with, and is the clock right?"
                );
                Error::Unreachable { address, cause }
            }
            Some(other) => Error::Unreachable { address, cause: other.to_string() },
            None => Error::Unreachable { address, cause: plain(error) },
        }
    }
}

fn agent(tls: &Arc<ClientConfig>) -> Agent {
    let config = Agent::config_builder()
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("elevon-agent/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(EXCHANGE))
        .timeout_per_read(Some(EXCHANGE))
        .timeout_per_write(Some(EXCHANGE))
        .input_buffer_size(32 << 10)
        .output_buffer_size(32 << 10)
        .max_idle_connections(2)
        .max_idle_connections_per_host(2)
        .max_idle_age(KEEP)
        .build();
    Agent::with_parts(config, Dialer { tls: Arc::clone(tls) }, Later)
}

/// RFC 9457 problem details, as far as they are wanted here.
#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

/// What the server says about its refusal, as text that is harmless in a log.
fn problem(response: &mut Response<Body>) -> String {
    let problem = response.body_mut().with_config().limit(64 << 10).read_json::<Problem>().ok();
    let told = problem.and_then(|problem| problem.detail.or(problem.title));
    let told = told.unwrap_or_else(|| "it does not say why".into());
    elevon_policy::text::Text::new(told).visible().to_string()
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn refuses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

/// Without the name of the library.
fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                "it closed the connection".into()
            }
            _ => error.to_string(),
        },
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::HostNotFound => "its name is not known".into(),
        other => other.to_string(),
    }
}
