//! The whole system, as root, with real users, programs, terminals and a browser.
#![allow(clippy::unwrap_used, missing_docs)]

mod scene;
mod slow;

mod applications;
mod away;
mod bounds;
mod browser;
mod certificates;
mod components;
mod crowd;
mod demo;
mod display;
mod endings;
mod environment;
mod explain;
mod failures;
mod layers;
mod matrix;
mod replicas;
mod rig;
mod status;
mod story;
mod streams;
mod terminals;
mod who;
