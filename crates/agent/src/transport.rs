//! Connections to the server: TCP that notices when the other end is gone, under TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::sockopt;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// After this long without a word the other end is asked whether it is still there, this often, so many times.
const QUIET: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_TIMES: u32 = 3;

/// What was sent and not acknowledged for this long is lost, in milliseconds.
const UNACKNOWLEDGED: u32 = 30_000;

/// Opens connections to the server.
pub(crate) struct Dialer {
    pub(crate) tls: Arc<ClientConfig>,
}

impl Connector<()> for Dialer {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        let addresses = DefaultResolver::default().resolve(details.uri, details.config, details.timeout)?;
        let socket = Arc::new(dial(&addresses, details.timeout)?);
        let handle: Weak<dyn ShutdownHandle> = Arc::downgrade(&socket) as Weak<dyn ShutdownHandle>;
        (details.register_shutdown)(handle)?;
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| ureq::Error::Tls("the server's name cannot be used"))?;
        let session = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut stream = StreamOwned::new(session, Socket(socket));
        stream.sock.limit(details.timeout)?;
        // Now rather than with the first bytes, so that a certificate that does not do is told from a lost connection.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| timed_out(error, details.timeout))?;
        }
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Line { stream, buffers }))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

/// Leaves looking up the server's name to the dialer: it matters only when a connection is made, and with one at hand it
/// would hold up what is to leave at once.
#[derive(Debug)]
pub(crate) struct Later;

impl Resolver for Later {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut unused = self.empty();
        unused.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(unused)
    }
}

/// Connects to the first address that answers.
fn dial(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, ureq::Error> {
    let patience = timeout.not_zero().map_or(Duration::from_secs(10), |patience| *patience);
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(address, share).and_then(settle) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(ureq::Error::HostNotFound, ureq::Error::Io))
}

fn settle(stream: TcpStream) -> io::Result<TcpStream> {
    sockopt::set_tcp_nodelay(&stream, true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, QUIET)?;
    sockopt::set_tcp_keepintvl(&stream, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(&stream, ASK_TIMES)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED)?;
    Ok(stream)
}

/// One connection.
pub(crate) struct Line {
    stream: StreamOwned<ClientConnection, Socket>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.stream.sock.limit(timeout)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let sent = self.stream.write_all(output).and_then(|()| self.stream.flush());
        sent.map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.sock.limit(timeout)?;
        let input = self.buffers.input_append_buf();
        let length = self.stream.read(input).map_err(|error| timed_out(error, timeout))?;
        self.buffers.input_appended(length);
        Ok(length > 0)
    }

    fn is_open(&mut self) -> bool {
        // An idle connection has nothing to say; whatever is there is a farewell.
        let socket = &self.stream.sock.0;
        let silent = || {
            socket.set_nonblocking(true)?;
            let peeked = socket.peek(&mut [0]);
            socket.set_nonblocking(false)?;
            peeked
        };
        matches!(silent(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_tls(&self) -> bool {
        true
    }
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => ureq::Error::Io(error),
    }
}

/// A socket that can be shut down from another thread.
struct Socket(Arc<TcpStream>);

impl Socket {
    fn limit(&self, timeout: NextTimeout) -> io::Result<()> {
        let limit = timeout.not_zero().map(|limit| *limit);
        self.0.set_read_timeout(limit)?;
        self.0.set_write_timeout(limit)
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
