//! The two ports as they really are: TLS 1.3, and client certificates for agents.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use elevon_policy::time::Span;
use elevon_server::clock::Clock;
use elevon_server::computers;
use elevon_server::keys::Keys;
use elevon_server::serve::{Ports, serve};
use elevon_wire::channel::Enrolled;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::enrollment;
use crate::site::Site;

pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

pub(crate) fn client(
    site: &Site,
    identity: Option<&Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let builder = trusting(&site.app.keys, versions);
    match identity {
        None => builder.with_no_client_auth(),
        Some(it) => builder.with_client_auth_cert(vec![it.certificate.clone()], it.key.clone_key()).unwrap(),
    }
}

async fn connect(config: ClientConfig, port: u16) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Of the site's authority alone.
fn trusting(
    keys: &Keys,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(keys.ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots)
}

/// One request on a connection of its own: status and body, or why there was none.
pub(crate) async fn speak(config: ClientConfig, port: u16, request: &str) -> std::io::Result<(u16, String)> {
    converse(connect(config, port).await?, request).await
}

async fn converse(mut stream: TlsStream<TcpStream>, request: &str) -> std::io::Result<(u16, String)> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Ok((status, body.to_owned()))
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[tokio::test]
async fn an_agent_enrolls_and_comes_back_with_its_certificate() {
    let site = Site::on_sqlite().await;
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let ports = Ports::listen(local, local).await.unwrap();
    let (people, agents) = (ports.people().unwrap().port(), ports.agents().unwrap().port());
    let taken = Ports::listen(local, std::net::SocketAddr::from(([127, 0, 0, 1], agents))).await.unwrap_err();
    assert!(taken.contains("is taken by another program"), "{taken}");
    let (stop, end) = tokio::sync::watch::channel(false);
    let server = tokio::spawn(serve(site.app.clone(), ports, end));

    let token = computers::create_token(&site.app, &site.administrator(), 2, Span::from_hours(1), None)
        .await
        .unwrap();
    let (body, _, key) = enrollment(&token.secret, "web1");
    let nobody = || client(&site, None, TLS13);
    let (status, answer) = speak(nobody(), agents, &post("/channel/v1/enroll", &body)).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let enrolled: Enrolled = serde_json::from_str(&answer).unwrap();
    let ca = CertificateDer::from_pem_slice(enrolled.ca.as_bytes()).unwrap();
    assert_eq!(elevon_wire::signed::digest(&ca), token.ca_fingerprint);
    let identity = Identity {
        certificate: CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    };

    let state = get("/channel/v1/state?after=0&wait=0");
    let (status, answer) = speak(client(&site, Some(&identity), TLS13), agents, &state).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = speak(nobody(), agents, &state).await.unwrap();
    assert_eq!(status, 401, "{answer}");

    // A certificate that says the same but that another authority issued.
    let other = rcgen::KeyPair::generate().unwrap();
    let forged = rcgen::CertificateParams::default().self_signed(&other).unwrap();
    let forger = Identity {
        certificate: forged.der().clone(),
        key: PrivateKeyDer::from_pem_slice(other.serialize_pem().as_bytes()).unwrap(),
    };
    speak(client(&site, Some(&forger), TLS13), agents, &state).await.expect_err("the handshake fails");

    // People's port knows no computers, and nothing speaks TLS 1.2.
    let (status, _) = speak(client(&site, Some(&identity), TLS13), people, &state).await.unwrap();
    assert_eq!(status, 404);
    speak(client(&site, None, &[&rustls::version::TLS12]), people, &get("/")).await.expect_err("no TLS 1.2");

    computers::revoke(&site.app, &site.administrator(), enrolled.computer).await.unwrap();
    let (status, answer) = speak(client(&site, Some(&identity), TLS13), agents, &state).await.unwrap();
    assert_eq!(status, 403, "{answer}");

    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), server).await.expect("it ends").unwrap().unwrap();
}

/// A server that runs for years is never shown with a certificate that has ended.
#[tokio::test]
async fn the_server_renews_its_own_certificate_while_it_serves() {
    let site = Site::on_sqlite().await;
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let state = tempfile::TempDir::new().unwrap();
    let names = site.app.config.host_names();
    // Made so long ago that it ends in 59 days; good as yet, as the client's clock is the real one.
    let keys = Keys::open(state.path(), &names, site.now().before(Span::from_days(339))).unwrap();
    let app = site.with_keys(keys).await;
    let (shown, signing) = (app.keys.own.certificate(), app.keys.public());
    let ports = Ports::listen(local, local).await.unwrap();
    let port = ports.people().unwrap().port();
    let (stop, end) = tokio::sync::watch::channel(false);
    let nobody = || trusting(&app.keys, TLS13).with_no_client_auth();

    let server = tokio::spawn(serve(app.clone(), ports, end));
    let renewed = tokio::time::timeout(Duration::from_secs(10), async {
        while app.keys.own.certificate() == shown {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        app.keys.own.certificate()
    });
    let renewed = renewed.await.expect("it is made anew");
    let connection = connect(nobody(), port).await.unwrap();
    assert_eq!(connection.get_ref().1.peer_certificates().unwrap()[0], renewed);
    assert_eq!(converse(connection, &get("/sign-in")).await.unwrap().0, 200);

    // It is the one that the next start finds, and nothing is made where there is no need.
    assert!(!app.keys.renew(site.now()).unwrap());
    assert_eq!(app.keys.own.certificate(), renewed);
    let again = Keys::open(state.path(), &names, site.now()).unwrap();
    assert_eq!((again.own.certificate(), again.public()), (renewed, signing));
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), server).await.expect("it ends").unwrap().unwrap();
}

/// Everything in the folder of keys, by name.
fn files(state: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let all = std::fs::read_dir(state.join("keys")).unwrap().map(Result::unwrap);
    all.map(|file| (file.file_name(), std::fs::read(file.path()).unwrap())).collect()
}

fn names() -> Vec<String> {
    vec!["localhost".to_owned()]
}

#[test]
fn a_certificate_that_was_made_while_the_clock_was_ahead_is_made_anew() {
    let state = tempfile::TempDir::new().unwrap();
    let now = Clock::System.now();
    let keys = Keys::open(state.path(), &names(), now).unwrap();
    assert!(keys.renew(now.after(Span::from_days(365))).unwrap());
    let ahead = keys.own.certificate();
    assert!(keys.renew(now).unwrap());
    let right = keys.own.certificate();
    let (_, parsed) = x509_parser::parse_x509_certificate(&right).unwrap();
    assert!(parsed.validity().is_valid());
    assert_ne!(ahead, right);
    // A clock that is set back a little is no reason.
    assert!(!keys.renew(now.before(Span::from_mins(30))).unwrap());
    assert_eq!(Keys::open(state.path(), &names(), now).unwrap().own.certificate(), right);
}

#[tokio::test]
async fn a_command_beside_the_server_makes_no_keys_but_the_first() {
    let state = tempfile::TempDir::new().unwrap();
    let run = async |url: &'static str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_elevon-server"));
        command.arg("--state-dir").arg(state.path()).args(["--public-url", url]);
        let out = command.args(["api-token", "create", "x", "--role", "auditor"]).output().await.unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (done, told) = run("https://localhost:8443").await;
    assert!(done, "{told}");
    let before = files(state.path());
    assert_eq!(before.len(), 6, "{:?}", before.keys());
    let (done, told) = run("https://elsewhere.example:8443").await;
    assert!(done, "{told}");
    assert!(files(state.path()) == before, "other names");
    std::fs::remove_file(state.path().join("keys/tls.pem")).unwrap();
    let (done, told) = run("https://localhost:8443").await;
    assert!(!done && told.contains("start `elevon-server serve`, which makes it"), "{told}");
    assert_eq!(files(state.path()).len(), 5);
}

#[test]
fn a_lost_authority_is_not_made_anew() {
    let state = tempfile::TempDir::new().unwrap();
    let now = Clock::System.now();
    let opened = || Keys::open(state.path(), &names(), now).map(|keys| keys.ca_fingerprint());
    let fingerprint = opened().unwrap();
    let whole = files(state.path());
    let path = |name| state.path().join("keys").join(name);
    for lost in ["ca.key", "ca.pem"] {
        std::fs::remove_file(path(lost)).unwrap();
        let left = files(state.path());
        let told = opened().unwrap_err().to_string();
        assert!(told.contains(lost) && told.contains("from a copy"), "{told}");
        assert!(files(state.path()) == left, "{lost}");
        std::fs::write(path(lost), &whole[OsStr::new(lost)]).unwrap();
        assert_eq!(opened().unwrap(), fingerprint);
    }
    // Whoever wants another takes both away.
    ["ca.key", "ca.pem"].iter().for_each(|name| std::fs::remove_file(path(name)).unwrap());
    assert_ne!(opened().unwrap(), fingerprint);
}
