//! The conversation with the elevator's socket, without any face: connect, hand over what a launch needs, exchange
//! frames. The terminal face (`main.rs`) and the graphical one speak through it.

mod caller;
mod conversation;

pub use caller::{Caller, cookie, environment, umask, window};
pub use conversation::{Conversation, Error, Received, has_hung_up};

/// Where the elevator listens for users unless it is told otherwise.
pub const SOCKET: &str = "/run/elevon/elevator.sock";
