//! The `elevon` command at a real terminal and at real pipes. The elevator's side of the socket is played by the test, so
//! that it can be late, rude or gone; the two together are tried in `e2e`.

mod peer;
mod screen;

mod asking;
mod job;
mod machine;
mod pipes;
mod relay;
