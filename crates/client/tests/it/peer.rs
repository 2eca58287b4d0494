//! The elevator's side of the socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::id::{GrantId, LaunchId};
use elevon_policy::time::Timestamp;
use elevon_wire::conversation::{FromClient, Run, ToClient};
use elevon_wire::frame::{Decoder, Frame, Kind, MESSAGE_LIMIT};
use tempfile::TempDir;

/// Longer than anything takes here, shorter than anyone's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A socket to connect to.
pub(crate) struct Site {
    folder: TempDir,
    listener: UnixListener,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("elevator.sock")).expect("a socket");
        Self { folder, listener }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("elevator.sock")
    }

    pub(crate) fn accept(&self) -> Peer {
        let (socket, _) = self.listener.accept().expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Peer { socket, decoder: Decoder::new(MESSAGE_LIMIT) }
    }

    /// Takes a client and what it wants to run.
    pub(crate) fn accept_run(&self) -> (Peer, Run) {
        let mut peer = self.accept();
        match peer.message() {
            FromClient::Run(run) => (peer, *run),
            other => panic!("expected a run, got {other:?}"),
        }
    }
}

/// One client.
pub(crate) struct Peer {
    socket: UnixStream,
    decoder: Decoder,
}

impl Peer {
    /// The next frame; `None` when the client is gone.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("well formed") {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.decoder.push(&bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the client says nothing: {error}"),
            }
        }
    }

    pub(crate) fn message(&mut self) -> FromClient {
        let frame = self.frame().expect("the client is there");
        frame.parse().expect("a message")
    }

    /// The next message that is no news of the terminal's size.
    pub(crate) fn message_but_size(&mut self) -> FromClient {
        loop {
            match self.message() {
                FromClient::Resize(_) => {}
                other => return other,
            }
        }
    }

    /// What was typed, until all of it is there; messages in between are passed over.
    pub(crate) fn typed(&mut self, expected: &[u8]) {
        let mut typed = Vec::new();
        while typed.len() < expected.len() {
            let frame = self.frame().expect("the client is there");
            if frame.kind == Kind::Data {
                typed.extend(frame.payload);
            }
        }
        assert_eq!(typed, expected);
    }

    /// Waits until the client has gone.
    pub(crate) fn gone(&mut self) {
        while self.frame().is_some() {}
    }

    pub(crate) fn say(&mut self, message: &ToClient) {
        self.socket.write_all(&Frame::message(message).encode()).expect("the client takes it");
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.socket.write_all(&Frame::data(bytes).encode()).expect("the client takes it");
    }

    pub(crate) fn start(&mut self, terminal: bool) {
        let now = Timestamp::from_millis(0);
        let (launch, grant) = (LaunchId::new(now, [1; 10]), GrantId::new(now, [2; 10]));
        self.say(&ToClient::Starting { launch, grant, end: now, terminal });
    }

    pub(crate) fn finish(&mut self, exit: Exit) {
        self.say(&ToClient::Finished { exit, reason: EndReason::Exited });
    }
}
