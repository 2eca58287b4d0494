//! `elevon-server serve`: two ports, a few tasks, and a clean end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::app::App;
use crate::{audit, channel, computers, router, sweep, tls, uploads};

/// A handshake that takes longer is given up.
const IMPATIENCE: Duration = Duration::from_secs(15);
/// A connection without a whole head of a request for this long is closed; clients give up idle ones earlier.
const IDLE: Duration = Duration::from_secs(45);
/// The most connections of a port at once.
const CONNECTIONS: usize = 40_000;
/// At the end, requests under way have this long.
const FAREWELL: Duration = Duration::from_secs(5);
/// The read buffer of a connection: ten thousand agents wait, so it is the smallest there is.
const BUFFER: usize = 8 * 1024;

/// One server at a time works on a state folder; held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, or says in a sentence who has it.
    pub fn take(state_dir: &Path) -> Result<Self, String> {
        let path = state_dir.join("serve.lock");
        let failed = |error: io::Error| format!("could not lock {}: {error}", path.display());
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "another elevon-server serves from {}; stop that one first, or give this one its own state_dir",
                state_dir.display()
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// The two ports, listening.
#[derive(Debug)]
pub struct Ports {
    people: TcpListener,
    agents: TcpListener,
}

impl Ports {
    /// Listens on both, or says in a sentence which one is taken.
    pub async fn listen(people: SocketAddr, agents: SocketAddr) -> Result<Self, String> {
        Ok(Self { people: listen("listen", people).await?, agents: listen("agents_listen", agents).await? })
    }

    /// Where people are listened to.
    pub fn people(&self) -> io::Result<SocketAddr> {
        self.people.local_addr()
    }

    /// Where agents are listened to.
    pub fn agents(&self) -> io::Result<SocketAddr> {
        self.agents.local_addr()
    }
}

async fn listen(name: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is taken by another program; stop it, or set {name} to another address")
        }
        _ => format!("could not listen on {address}: {error}; set {name} to another address"),
    })
}

/// Serves until `end` changes, then lets requests under way finish.
pub async fn serve(app: App, ports: Ports, end: watch::Receiver<bool>) -> Result<(), rustls::Error> {
    match audit::checkpoints::contradiction(&app).await {
        Ok(None) => {}
        Ok(Some(told)) => tracing::error!("{told}"),
        Err(error) => tracing::warn!(%error, "could not compare the database with its checkpoints"),
    }
    if let Err(error) = uploads::clear(&app.config.state_dir) {
        tracing::warn!(%error, "could not take away what was left of uploads");
    }
    let people = tls::for_people(&app.keys)?;
    let agents = tls::for_agents(&app.keys)?;
    let tasks = [
        tokio::spawn(sweep::keep_sweeping(app.clone())),
        tokio::spawn(sweep::keep_tidying(app.clone())),
        tokio::spawn(audit::checkpoints::keep(app.clone())),
        tokio::spawn(channel::news::watch(app.clone())),
        tokio::spawn(computers::seen::keep_writing(app.clone())),
    ];
    let mut over = end.clone();
    let last_word = async {
        let _ = over.changed().await;
        app.news.end();
    };
    tokio::join!(
        last_word,
        accept(ports.people, people, router::people(app.clone()), end.clone()),
        accept(ports.agents, agents, router::agents(app.clone()), end),
    );
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    if let Err(error) = computers::seen::write(&app).await {
        tracing::warn!(%error, "could not write down when computers were heard from");
    }
    if let Err(error) = audit::checkpoints::now(&app).await {
        tracing::warn!(%error, "could not make a last checkpoint of the audit trail");
    }
    app.db.close().await;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    mut end: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end.changed() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("too many connections; one was closed");
            continue;
        };
        let (acceptor, router, end) = (acceptor.clone(), router.clone(), end.clone());
        tokio::spawn(async move {
            converse(stream, address, acceptor, router, end).await;
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(FAREWELL, places.acquire_many(all)).await;
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    mut end: watch::Receiver<bool>,
) {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(IMPATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(peer = %address, %error, "a handshake failed"),
        Err(_) => return tracing::debug!(peer = %address, "a handshake took too long"),
    };
    let peer = tls::peer(stream.get_ref().1);
    let service = router.map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request.map(axum::body::Body::new)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %address, %error, "a connection broke off");
    }
}
