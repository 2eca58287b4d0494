//! TLS 1.3 for people and for agents.

use std::sync::Arc;

use elevon_policy::application::Sha256;
use elevon_wire::signed::digest;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::keys::Keys;

/// The fingerprint of the client certificate a connection came with; it stands in each request's extensions. That our
/// authority issued it was checked in the handshake.
#[derive(Debug, Clone, Copy)]
pub struct PeerCertificate(pub Sha256);

/// For browsers and API clients.
pub fn for_people(keys: &Keys) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = builder()?.with_no_client_auth();
    Ok(finish(config.with_cert_resolver(keys.own.clone())))
}

/// For agents: a certificate of our authority is asked for. One who has none yet gets no further than enrolling.
pub fn for_agents(keys: &Keys) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(keys.ca.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let config = builder()?.with_client_cert_verifier(verifier);
    let mut config = config.with_cert_resolver(keys.own.clone());
    // Ten thousand agents that reconnect at once would otherwise fill a cache that none of them uses.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(finish(config))
}

/// The certificate of the other side, once the handshake is done.
pub fn peer(connection: &ServerConnection) -> Option<PeerCertificate> {
    connection.peer_certificates()?.first().map(|certificate| PeerCertificate(digest(certificate)))
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])
}

fn finish(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
