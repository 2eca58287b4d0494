//! Frames to and from the elevator's socket.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use elevon_wire::conversation::{FromClient, ToClient};
use elevon_wire::frame::{Decoder, Frame, Kind, MESSAGE_LIMIT, Malformed};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// As many bytes as are asked of the socket at once.
const PIECE: usize = 64 << 10;

/// One connection to the elevator.
#[derive(Debug)]
pub struct Conversation {
    socket: UnixStream,
    decoder: Decoder,
}

/// What came from the elevator.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A message.
    Message(ToClient),
    /// Bytes of the application's terminal.
    Data(Vec<u8>),
}

impl Conversation {
    /// Connects to the elevator's socket.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let socket = UnixStream::connect(path)
            .map_err(|cause| Error::NotReachable { socket: path.to_owned(), cause })?;
        Ok(Self::over(socket))
    }

    /// Speaks over a socket that is already connected.
    pub fn over(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::new(MESSAGE_LIMIT) }
    }

    /// Sends a message. Where the elevator has hung up, nobody hears it, and what it said before is read next.
    pub fn send(&mut self, message: &FromClient) -> Result<(), Error> {
        heard(self.socket.write_all(&Frame::message(message).encode()))
    }

    /// Answers a prompt, as [`Self::send`] does: the bytes go from this buffer to the socket, and are copied nowhere else.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let [a, b, c, d] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        heard(self.socket.write_all(&[1, a, b, c, d]).and_then(|()| self.socket.write_all(bytes)))
    }

    /// Sends a message, as [`Self::send`] does; the descriptors travel with its first bytes.
    pub fn send_with(&mut self, message: &FromClient, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let bytes = Frame::message(message).encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "no message takes more than four descriptors");
        let sent =
            rustix::net::sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        let rest = |sent| self.socket.write_all(bytes.get(sent..).unwrap_or_default());
        heard(sent.map_err(io::Error::from).and_then(rest))
    }

    /// Waits for the next message or piece of terminal data.
    pub fn receive(&mut self) -> Result<Received, Error> {
        loop {
            if let Some(received) = self.next_received()? {
                return Ok(received);
            }
            self.read()?;
        }
    }

    /// Reads what has arrived; on a blocking socket it waits for something. `false` when nothing has.
    pub fn read(&mut self) -> Result<bool, Error> {
        let mut piece = [0; PIECE];
        match self.socket.read(&mut piece) {
            Ok(0) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.decoder.push(piece.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(error) => Err(Error::Lost(error)),
        }
    }

    /// The next whole frame among what was read.
    pub fn next_received(&mut self) -> Result<Option<Received>, Error> {
        let Some(frame) = self.decoder.next_frame().map_err(Error::Malformed)? else {
            return Ok(None);
        };
        match frame.kind {
            Kind::Data => Ok(Some(Received::Data(frame.payload))),
            Kind::Message => {
                frame.parse().map(|message| Some(Received::Message(message))).map_err(Error::Malformed)
            }
        }
    }

    /// The socket itself, for a loop that sends by itself and does not want to wait.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the elevator hung up: nobody hears what is said, and what was said before is worth more.
pub fn has_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn heard(sent: io::Result<()>) -> Result<(), Error> {
    match sent {
        Err(error) if has_hung_up(&error) => Ok(()),
        sent => sent.map_err(Error::Lost),
    }
}

/// The conversation cannot begin, or broke off.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens.
    NotReachable {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The connection ended.
    Lost(io::Error),
    /// What came is not what was agreed.
    Malformed(Malformed),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReachable { socket, cause } if cause.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "cannot connect to {}: permission denied; ask an administrator to look at its mode",
                    socket.display()
                )
            }
            Self::NotReachable { socket, cause } => {
                let cause = match cause.kind() {
                    io::ErrorKind::NotFound => "no such socket".to_owned(),
                    io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
                    _ => cause.to_string(),
                };
                write!(
                    f,
                    "Elevon is not running here: {} ({cause}); ask an administrator to start elevon-elevator",
                    socket.display()
                )
            }
            Self::Lost(cause) if cause.kind() == io::ErrorKind::UnexpectedEof || has_hung_up(cause) => {
                f.write_str(
                    "the elevator closed the connection; try again, and if it happens again, its log says why",
                )
            }
            Self::Lost(cause) => write!(f, "the connection to the elevator broke off ({cause}); try again"),
            Self::Malformed(malformed) => {
                write!(
                    f,
                    "cannot understand the elevator: {malformed}; elevon and elevon-elevator should be of one version"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    #[test]
    fn descriptors_travel_with_the_first_bytes() {
        let (mine, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut conversation = Conversation::over(mine);
        conversation.send_with(&FromClient::Status, &[writer.as_fd(), writer.as_fd()]).expect("sent");
        drop(writer);

        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [io::IoSliceMut::new(&mut bytes)];
        let received = rustix::net::recvmsg(&theirs, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
            .expect("received");
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(descriptors.len(), 2);
        rustix::io::write(&descriptors[1], b"x").expect("the descriptor is the pipe");
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(1));

        let mut decoder = Decoder::new(MESSAGE_LIMIT);
        decoder.push(&bytes[..received.bytes]);
        let frame = decoder.next_frame().expect("well formed").expect("whole");
        assert_eq!(frame.parse::<FromClient>(), Ok(FromClient::Status));
    }

    #[test]
    fn a_long_message_arrives_whole() {
        let (mine, theirs) = UnixStream::pair().expect("a pair of sockets");
        let long = FromClient::Explain {
            command: "x".repeat(1 << 20).as_str().into(),
            arguments: Vec::new(),
            component: false,
        };
        let sent = long.clone();
        let sender = std::thread::spawn(move || {
            let mut conversation = Conversation::over(mine);
            let directory = std::fs::File::open("/").expect("the root directory");
            conversation.send_with(&sent, &[directory.as_fd()]).expect("sent");
        });
        let mut decoder = Decoder::new(MESSAGE_LIMIT);
        let frame = loop {
            let mut bytes = [0; 4096];
            let length = (&theirs).read(&mut bytes).expect("read");
            decoder.push(&bytes[..length]);
            if let Some(frame) = decoder.next_frame().expect("well formed") {
                break frame;
            }
        };
        sender.join().expect("the sender ends");
        assert_eq!(frame.parse::<FromClient>(), Ok(long));
    }

    #[test]
    fn nobody_there_is_one_line_that_says_what_to_do() {
        let error =
            Conversation::connect(Path::new("/nonexistent/elevator.sock")).expect_err("nobody listens");
        assert_eq!(
            error.to_string(),
            "Elevon is not running here: /nonexistent/elevator.sock (no such socket); ask an administrator to start elevon-elevator"
        );
    }

    #[test]
    fn the_end_of_the_connection_is_an_error() {
        let (mine, theirs) = UnixStream::pair().expect("a pair of sockets");
        drop(theirs);
        assert!(matches!(Conversation::over(mine).receive(), Err(Error::Lost(_))));
    }
}
