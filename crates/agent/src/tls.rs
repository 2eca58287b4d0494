//! TLS 1.3, and nobody but the server this computer was enrolled with.

use std::sync::Arc;

use anyhow::{Context, Result};
use elevon_policy::application::Sha256;
use elevon_wire::signed::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credentials::Credentials;

/// As an enrolled computer: with its certificate, and with its server's CA as the only one that counts.
pub(crate) fn enrolled(credentials: &Credentials) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.ca.clone()).context("take the server's CA certificate")?;
    let config = builder()?
        .with_root_certificates(roots)
        .with_client_auth_cert(credentials.certificate.clone(), credentials.key.clone_key())
        .context("use the agent's key with its certificate")?;
    Ok(Arc::new(config))
}

/// As a computer that wants to enroll: the CA is the one with this fingerprint, presented by the server itself.
pub(crate) fn enrolling(ca_fingerprint: Sha256) -> Result<Arc<ClientConfig>> {
    let verifier = Arc::new(PinnedCa { ca_fingerprint, provider: provider() });
    let config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("set up TLS 1.3")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Believes a server whose certificate is good by the one CA that has the fingerprint from the enrollment token.
#[derive(Debug)]
struct PinnedCa {
    ca_fingerprint: Sha256,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = intermediates.iter().find(|certificate| digest(certificate) == self.ca_fingerprint);
        let ca = presented.ok_or_else(|| {
            rustls::Error::General("its authority is not the one the enrollment token names; is this the right server, and the token a new one?".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        // From here on it is an ordinary verification: chain, time, use and the server's name.
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use ed25519_dalek::SigningKey;
    use elevon_policy::text::Text;
    use elevon_wire::channel::Enroll;
    use elevon_wire::signed::PublicKey;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::channel::{Channel, Error};

    /// A certificate authority.
    struct Authority {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).expect("signed").der().clone();
            Self { certificate, issuer: Issuer::new(params, key) }
        }

        fn fingerprint(&self) -> Sha256 {
            digest(&self.certificate)
        }
    }

    /// Starts a real TLS server for one connection that refuses whatever it is asked. Its certificate is by `signer`, for
    /// `name`; it presents `shown` as its authority.
    fn serve(
        signer: &Authority,
        shown: &Authority,
        name: &str,
        version: &'static SupportedProtocolVersion,
    ) -> String {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &signer.issuer).expect("signed").der().clone();
        let chain = vec![certificate, shown.certificate.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a client");
            let session = ServerConnection::new(Arc::new(config)).expect("a session");
            refuse(StreamOwned::new(session, socket));
        });
        format!("localhost:{port}")
    }

    fn refuse(stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                // The client wanted none of it.
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        assert!(serde_json::from_slice::<Enroll>(&body).is_ok());
        let problem = r#"{"title":"not allowed","detail":"the token was used up\u001b[31m"}"#;
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
            problem.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).expect("answered");
    }

    fn enroll(address: &str, fingerprint: Sha256) -> Error {
        let enroll = Enroll {
            secret: "s3cret".into(),
            certificate_request: String::new(),
            event_key: PublicKey::of(&SigningKey::from_bytes(&[1; 32])),
            host_name: Text::new("h"),
            operating_system: Text::new("o"),
        };
        let channel = Channel::to(address, enrolling(fingerprint).expect("a configuration"));
        channel.enroll(&enroll).expect_err("this server refuses everyone")
    }

    fn cause(error: Error) -> String {
        match error {
            Error::Unreachable { cause, .. } => cause,
            other => panic!("expected no connection, got: {other}"),
        }
    }

    const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

    #[test]
    fn the_server_of_the_token_is_spoken_with() {
        let ours = Authority::new();
        let error = enroll(&serve(&ours, &ours, "localhost", TLS13), ours.fingerprint());
        assert!(
            matches!(&error, Error::Refused { told, .. } if told == r"the token was used up\x1b[31m"),
            "{error}"
        );
    }

    #[test]
    fn another_authority_is_refused() {
        let (ours, other) = (Authority::new(), Authority::new());
        let told = cause(enroll(&serve(&other, &other, "localhost", TLS13), ours.fingerprint()));
        assert!(told.starts_with("its authority is not the one the enrollment token names"), "{told}");
    }

    #[test]
    fn showing_our_authority_is_not_enough() {
        let (ours, other) = (Authority::new(), Authority::new());
        let told = cause(enroll(&serve(&other, &ours, "localhost", TLS13), ours.fingerprint()));
        assert!(told.starts_with("its certificate does not do"), "{told}");
    }

    #[test]
    fn another_name_is_refused() {
        let ours = Authority::new();
        let told = cause(enroll(&serve(&ours, &ours, "elsewhere", TLS13), ours.fingerprint()));
        assert!(told.contains("NotValidForName"), "{told}");
    }

    #[test]
    fn an_older_version_is_refused() {
        let ours = Authority::new();
        cause(enroll(&serve(&ours, &ours, "localhost", &rustls::version::TLS12), ours.fingerprint()));
    }

    #[test]
    fn nobody_there_is_said_plainly() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = format!("127.0.0.1:{}", port.expect("a port").port());
        let error = enroll(&address, Sha256([0; 32]));
        assert_eq!(error.to_string(), format!("cannot reach the server at {address}: nobody listens there"));
    }
}
