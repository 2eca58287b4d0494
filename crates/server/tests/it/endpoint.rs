//! A computer as the server sees one: its certificate, its event key, its chain.

use axum::body::Body;
use axum::http::{Method, Request, header};
use ed25519_dalek::SigningKey;
use elevon_policy::application::{Application, Lane, Sha256, User};
use elevon_policy::bounds::Bounds;
use elevon_policy::event::{Event, Layers, What};
use elevon_policy::grant::{Grant, PolicyReference};
use elevon_policy::id::{ComputerId, GrantId, LaunchId, PolicyId, RequestId, Version};
use elevon_policy::lists::RunsAs;
use elevon_policy::request::ElevationRequest;
use elevon_policy::sheet::{ChainHead, Sheet};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_server::app::chance;
use elevon_server::computers;
use elevon_server::tls::PeerCertificate;
use elevon_wire::chain::{self, Record};
use elevon_wire::channel::{Enrolled, State};
use elevon_wire::signed::{PublicKey, Purpose, Signed, digest};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::site::{Answer, Site, answer};

pub(crate) struct Endpoint {
    pub(crate) id: ComputerId,
    pub(crate) key: SigningKey,
    pub(crate) certificate: Sha256,
    pub(crate) head: ChainHead,
    pub(crate) server: PublicKey,
}

/// The body that enrolls a computer, and its keys.
pub(crate) fn enrollment(secret: &str, host_name: &str) -> (Value, SigningKey, KeyPair) {
    let key = SigningKey::from_bytes(&chance());
    let tls = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&tls).unwrap().pem().unwrap();
    let body = json!({
        "secret": secret,
        "certificate_request": request,
        "event_key": PublicKey::of(&key).to_string(),
        "host_name": host_name,
        "operating_system": "Debian GNU/Linux 13 (trixie)",
    });
    (body, key, tls)
}

impl Endpoint {
    pub(crate) async fn enroll(site: &Site, host_name: &str) -> Self {
        let token = computers::create_token(&site.app, &site.administrator(), 1, Span::from_hours(1), None)
            .await
            .unwrap();
        let (body, key, _) = enrollment(&token.secret, host_name);
        let enrolled = send(site, None, Method::POST, "/channel/v1/enroll", Some(body)).await.ok();
        let enrolled: Enrolled = serde_json::from_value(enrolled).unwrap();
        let certificate = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap();
        Self {
            id: enrolled.computer,
            key,
            certificate: digest(&certificate),
            head: ChainHead::START,
            server: enrolled.server_key,
        }
    }

    // ---- what it should hold ----

    pub(crate) async fn ask(&self, site: &Site, query: &str) -> Answer {
        let path = format!("/channel/v1/state?{query}");
        send(site, Some(self.certificate), Method::GET, &path, None).await
    }

    pub(crate) async fn state(&self, site: &Site) -> State {
        serde_json::from_value(self.ask(site, "after=0&wait=0").await.ok()).unwrap()
    }

    pub(crate) async fn sheet(&self, site: &Site) -> Sheet {
        self.state(site).await.sheet.open(&self.server, Purpose::Sheet).unwrap()
    }

    // ---- what it has to say ----

    /// The next record of its chain, signed.
    pub(crate) fn record(&mut self, site: &Site, what: What) -> Signed {
        let record = Record::encode(self.head, &Event::new(site.now(), what));
        self.head = chain::head(self.head, &record);
        Signed::seal_bytes(&self.key, Purpose::Event, record)
    }

    pub(crate) async fn send(&self, site: &Site, records: &[Signed]) -> Answer {
        let body = json!({ "records": records });
        send(site, Some(self.certificate), Method::POST, "/channel/v1/events", Some(body)).await
    }

    pub(crate) async fn report(&mut self, site: &Site, what: What) {
        let record = self.record(site, what);
        let answer = self.send(site, &[record]).await.ok();
        assert_eq!(answer["head"]["number"], self.head.number);
    }

    /// A user asks for /usr/sbin/tool.
    pub(crate) async fn asks(&mut self, site: &Site, user: &str, policy: &str) -> RequestId {
        let request = self.request(site, user, policy);
        let id = request.id;
        self.report(site, What::RequestMade { request: Box::new(request) }).await;
        id
    }

    pub(crate) fn request(&self, site: &Site, user: &str, policy: &str) -> ElevationRequest {
        let policy: PolicyId = policy.parse().unwrap();
        ElevationRequest {
            id: RequestId::new(site.now(), chance()),
            computer: self.id,
            user: alias(user),
            application: tool(),
            argv: vec![OsText::from("tool"), OsText::from("--now")],
            working_directory: OsText::from("/home/alice"),
            runs_as: RunsAs::Root,
            bounds: Bounds::default(),
            origin: None,
            duration: Span::from_mins(30),
            justification: Text::new("to see whether it works"),
            policy: PolicyReference { policy, version: Version::FIRST, rule: None },
            made: site.now(),
            lapses: site.now().after(Span::from_hours(24)),
        }
    }

    pub(crate) async fn launches(&mut self, site: &Site, grant: &Grant) -> LaunchId {
        let launch = LaunchId::new(site.now(), chance());
        self.report(site, launch_started(site, launch, grant.id, grant)).await;
        launch
    }
}

pub(crate) fn launch_started(site: &Site, launch: LaunchId, id: GrantId, grant: &Grant) -> What {
    What::LaunchStarted {
        launch,
        grant: id,
        user: grant.user.clone(),
        path: OsText::from("/usr/sbin/tool"),
        sha256: Sha256([7; 32]),
        argv: vec![OsText::from("tool")],
        policy: grant.policy,
        end: site.now().after(Span::from_mins(10)),
        runs_as: RunsAs::Root,
        layers: Layers { cgroup: true, subreaper: true, own_deadline: true, ..Layers::default() },
        login: None,
        origin: None,
    }
}

pub(crate) fn alias(name: &str) -> User {
    User { uid: 1000, name: Text::new(name) }
}

pub(crate) fn tool() -> Application {
    Application {
        path: OsText::from("/usr/sbin/tool"),
        sha256: Sha256([7; 32]),
        size: 12_345,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: None,
        package_database: true,
        component: None,
    }
}

pub(crate) async fn send(
    site: &Site,
    certificate: Option<Sha256>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).unwrap();
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(PeerCertificate(certificate));
    }
    answer(site.agents.clone(), request).await
}
