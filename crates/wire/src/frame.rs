//! Frames on a stream socket: one byte of kind, four bytes of length (big-endian), then that many bytes.

use std::fmt;

use elevon_policy::text::Text;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before a frame's payload.
pub const HEADER: usize = 5;

/// Longest JSON message between client and elevator, in bytes: enough for the longest command line Linux takes.
pub const MESSAGE_LIMIT: usize = 8 << 20;

/// Longest piece of terminal data, in bytes.
pub const DATA_LIMIT: usize = 64 << 10;

/// Longest JSON message between agent and elevator, in bytes: a bundle of 100,000 rules fits.
pub const UPLINK_LIMIT: usize = 64 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JSON message.
    Message,
    /// Bytes of a terminal.
    Data,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame that carries a message.
    pub fn message(message: &impl Serialize) -> Self {
        // A message of ours has string keys and finite numbers, so it always serialises.
        let payload = serde_json::to_vec(message).unwrap_or_default();
        Self { kind: Kind::Message, payload }
    }

    /// A frame that carries bytes of a terminal.
    pub fn data(bytes: &[u8]) -> Self {
        Self { kind: Kind::Data, payload: bytes.to_vec() }
    }

    /// As on the socket.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.push(match self.kind {
            Kind::Message => 0,
            Kind::Data => 1,
        });
        // Every sender stays far below 4 GiB; a longer payload would be refused by the receiver's limit.
        bytes.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads the message it carries.
    pub fn parse<M: DeserializeOwned>(&self) -> Result<M, Malformed> {
        match self.kind {
            Kind::Data => Err(Malformed::Unexpected),
            Kind::Message => {
                serde_json::from_slice(&self.payload).map_err(|error| Malformed::Json(error.to_string()))
            }
        }
    }
}

/// Puts frames together from whatever pieces the socket gives.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer was given out. It is cut off once a read, not once a frame: a flood of tiny frames must not
    /// cost a move of all that follows for each.
    taken: usize,
    limit: usize,
}

impl Decoder {
    /// Refuses messages longer than `limit` bytes, and terminal data longer than [`DATA_LIMIT`].
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), taken: 0, limit }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether part of a frame has arrived and the rest has not.
    pub fn is_midway(&self) -> bool {
        self.buffer.len() > self.taken
    }

    /// The next whole frame; `None` until the rest of it arrives. The length is checked before the payload is waited for.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let untaken = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = untaken.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = header;
        let (kind, limit) = match kind {
            0 => (Kind::Message, self.limit),
            1 => (Kind::Data, DATA_LIMIT),
            other => return Err(Malformed::Kind(*other)),
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Malformed::TooLong { length, limit });
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.taken += HEADER + length;
        Ok(Some(frame))
    }
}

/// What arrived is not what was agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// Neither message nor data.
    Kind(u8),
    /// Longer than is taken.
    TooLong {
        /// As announced, in bytes.
        length: usize,
        /// What is taken, in bytes.
        limit: usize,
    },
    /// Data where a message was expected.
    Unexpected,
    /// Not the JSON that was expected.
    Json(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => {
                write!(f, "expected a frame of kind 0 or 1, got {kind}; are both sides of one version?")
            }
            Self::TooLong { length, limit } => {
                write!(f, "expected a frame of at most {limit} bytes, got {length}")
            }
            Self::Unexpected => f.write_str("expected a message, got terminal data"),
            // It may quote what arrived.
            Self::Json(error) => {
                write!(f, "expected a message this version knows: {}", Text::new(error).visible())
            }
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_arrive_whole_however_they_are_cut(payload in proptest::collection::vec(any::<u8>(), 0..300), cut in 1usize..40) {
            let frames = [Frame::data(&payload), Frame { kind: Kind::Message, payload: payload.clone() }];
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let mut decoder = Decoder::new(1 << 10);
            let mut arrived = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    arrived.push(frame);
                }
            }
            prop_assert_eq!(&arrived[..], &frames[..]);
            prop_assert!(!decoder.is_midway());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_payload() {
        let mut decoder = Decoder::new(16);
        decoder.push(&[0, 0, 0, 0, 17]);
        assert_eq!(decoder.next_frame(), Err(Malformed::TooLong { length: 17, limit: 16 }));
        let mut decoder = Decoder::new(16);
        decoder.push(&[7, 0, 0, 0, 1]);
        assert_eq!(decoder.next_frame(), Err(Malformed::Kind(7)));
    }
}
