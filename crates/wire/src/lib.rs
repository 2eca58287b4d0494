//! What crosses a process boundary: frames and messages between client, elevator and agent, bodies between agent and
//! server, signed documents, and the chain of events. Pure: it opens nothing and asks no clock.

pub mod chain;
pub mod channel;
pub mod conversation;
pub mod display;
pub mod frame;
pub mod signed;
pub mod token;
pub mod uplink;
