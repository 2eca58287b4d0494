//! One connection on a socket of ours: frames, the descriptors that come with them, and the proof on each message that
//! the process that connected is still the one that speaks.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elevon_policy::time::Span;
use elevon_wire::frame::{DATA_LIMIT, Decoder, Frame, HEADER, Malformed};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::time::Timespec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Uptime;

/// More descriptors than a message may bring.
const MOST_DESCRIPTORS: usize = 9;

/// Whose messages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Speaker {
    /// The process.
    pub(crate) pid: u32,
    /// Its user.
    pub(crate) uid: u32,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    speaker: Option<Speaker>,
    descriptors: VecDeque<OwnedFd>,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The other side is gone.
    #[error("the other side closed the connection")]
    Closed,
    /// Something else than agreed arrived.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another process than the one that connected speaks.
    #[error("process {found} spoke on the connection of process {expected}")]
    OtherSpeaker {
        /// The one that connected.
        expected: u32,
        /// The one that spoke.
        found: u32,
    },
    /// More descriptors than a message may bring.
    #[error("a message brought more descriptors than it may")]
    TooManyDescriptors,
    /// The kernel says no.
    #[error("could not read from or write to the connection: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for Lost {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Closed,
            errno => Self::Io(errno.into()),
        }
    }
}

impl Connection {
    /// Takes messages up to `limit` bytes; where a speaker is named, from that one only.
    pub(crate) fn new(socket: OwnedFd, limit: usize, speaker: Option<Speaker>) -> Self {
        Self { socket, decoder: Decoder::new(limit), speaker, descriptors: VecDeque::new() }
    }

    /// Waits for the next message.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> Result<M, Lost> {
        Ok(self.receive_frame()?.parse()?)
    }

    /// Waits for the next message until then, however slowly it comes.
    pub(crate) fn receive_by<M: DeserializeOwned>(&mut self, by: Uptime) -> Result<M, Lost> {
        loop {
            if let Some(frame) = self.frame_at_hand()? {
                return Ok(frame.parse()?);
            }
            let left = by.left();
            let limit = Timespec::try_from(left.std()).map_err(io::Error::other)?;
            let mut ready = [PollFd::from_borrowed_fd(self.socket(), PollFlags::IN)];
            match poll(&mut ready, Some(&limit)) {
                Ok(0) if left == Span::ZERO => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                Err(rustix::io::Errno::INTR) => {}
                polled => drop(polled?),
            }
        }
    }

    /// Waits for the next frame.
    pub(crate) fn receive_frame(&mut self) -> Result<Frame, Lost> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            self.read(RecvFlags::empty())?;
        }
    }

    /// The next frame, if all of it is there; never waits.
    pub(crate) fn frame_at_hand(&mut self) -> Result<Option<Frame>, Lost> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.read(RecvFlags::DONTWAIT) {
                Err(Lost::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                read => read?,
            }
        }
    }

    /// The next message, if all of it is there; never waits.
    pub(crate) fn message_at_hand<M: DeserializeOwned>(&mut self) -> Result<Option<M>, Lost> {
        Ok(self.frame_at_hand()?.map(|frame| frame.parse()).transpose()?)
    }

    /// The descriptors that have arrived, in order.
    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.descriptors.drain(..).collect()
    }

    /// Sends a message whole.
    pub(crate) fn send(&self, message: &impl Serialize) -> Result<(), Lost> {
        self.send_with(message, &[])
    }

    /// Sends a message whole, with descriptors on its first byte.
    pub(crate) fn send_with(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), Lost> {
        let bytes = Frame::message(message).encode();
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let fds = if sent == 0 { fds } else { &[] };
            match send_some(self.socket.as_fd(), rest, fds, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                written => sent += written?,
            }
        }
        Ok(())
    }

    /// Sends as much of these bytes as goes without waiting.
    pub(crate) fn send_some(&self, bytes: &[u8]) -> Result<usize, Lost> {
        match send_some(self.socket.as_fd(), bytes, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            written => Ok(written?),
        }
    }

    /// The socket itself, to hand the conversation on.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets go of what was said ahead of time, so that whoever goes on with the socket finds the beginning of a frame.
    pub(crate) fn forget_what_came(&mut self) -> Result<(), Lost> {
        while self.frame_at_hand()?.is_some() {}
        match self.decoder.is_midway() {
            true => Err(Malformed::Unexpected.into()),
            false => Ok(()),
        }
    }

    /// Waits for one data frame, and takes not a byte beyond it. `None` for one that is longer than `limit`, of which nothing is
    /// kept. Messages before it are not for whoever asks, and are let go. For a connection on which nothing else was read.
    pub(crate) fn receive_secret(&mut self, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Lost> {
        loop {
            let mut header = [0; HEADER];
            self.fill(&mut header)?;
            let [kind, length @ ..] = header;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > DATA_LIMIT {
                return Err(Malformed::TooLong { length, limit: DATA_LIMIT }.into());
            }
            let mut payload = Zeroizing::new(vec![0; length]);
            self.fill(&mut payload)?;
            match kind {
                0 => {}
                1 => return Ok((length <= limit).then_some(payload)),
                other => return Err(Malformed::Kind(other).into()),
            }
        }
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), Lost> {
        while !bytes.is_empty() {
            let received = self.receive_bytes(bytes, RecvFlags::empty())?;
            bytes = bytes.get_mut(received..).unwrap_or_default();
        }
        Ok(())
    }

    fn read(&mut self, flags: RecvFlags) -> Result<(), Lost> {
        let mut bytes = [0; 4 << 10];
        let received = self.receive_bytes(&mut bytes, flags)?;
        self.decoder.push(bytes.get(..received).unwrap_or_default());
        Ok(())
    }

    fn receive_bytes(&mut self, bytes: &mut [u8], flags: RecvFlags) -> Result<usize, Lost> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmCredentials(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let pieces = &mut [IoSliceMut::new(bytes)];
            match recvmsg(&self.socket, pieces, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        if received.bytes == 0 {
            // Nobody spoke: what stands for the speaker here says nothing.
            return Err(Lost::Closed);
        }
        // To the end, whatever it holds: a buffer that is left half drained is read on from a place that is not aligned, and
        // the descriptors in it are lost.
        let mut speaks = Ok(());
        for message in ancillary.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(fds) => self.descriptors.extend(fds),
                RecvAncillaryMessage::ScmCredentials(found) => speaks = speaks.and(self.check(found)),
                _ => {}
            }
        }
        speaks?;
        if self.descriptors.len() > MOST_DESCRIPTORS
            || received.flags.contains(rustix::net::ReturnFlags::CTRUNC)
        {
            return Err(Lost::TooManyDescriptors);
        }
        Ok(received.bytes)
    }

    fn check(&self, found: rustix::net::UCred) -> Result<(), Lost> {
        let found_pid = u32::try_from(found.pid.as_raw_nonzero().get()).unwrap_or(0);
        match self.speaker {
            Some(expected) if expected.pid != found_pid || expected.uid != found.uid.as_raw() => {
                Err(Lost::OtherSpeaker { expected: expected.pid, found: found_pid })
            }
            _ => Ok(()),
        }
    }
}

/// A line to somebody who makes one thing after the other, each ahead of its need.
#[derive(Debug)]
pub(crate) struct Supply {
    line: Connection,
    /// Whether one was asked for that nobody has taken yet.
    asked: bool,
}

impl Supply {
    /// Nothing was asked for on this line yet.
    pub(crate) fn new(line: Connection) -> Self {
        Self { line, asked: false }
    }

    /// Asks for the next one in these words, where that was not done yet.
    pub(crate) fn order(&mut self, words: &impl Serialize) -> Result<(), Lost> {
        if !self.asked {
            self.line.send(words)?;
            self.asked = true;
        }
        Ok(())
    }

    /// Waits for the next one, which is asked for in these words where that was not done yet; and gives the descriptors that came
    /// with it.
    pub(crate) fn take<M: DeserializeOwned>(
        &mut self,
        words: &impl Serialize,
    ) -> Result<(M, Vec<OwnedFd>), Lost> {
        self.order(words)?;
        self.asked = false;
        let made = self.line.receive();
        // Also where it was cut short: what came with it belongs to no other.
        let descriptors = self.line.take_descriptors();
        Ok((made?, descriptors))
    }

    /// The socket itself, to see whether the maker is there.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.line.socket()
    }
}

fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}
