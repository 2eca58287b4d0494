//! What Elevon decides, and nothing else: recognising applications, deciding attempts, and moving requests and
//! grants through their lives.
//!
//! This crate is pure. It opens no file, asks no clock and draws no chance: time and randomness are arguments.
//! A "no" is a value that carries its reasons, never an error.

pub mod advice;
pub mod application;
pub mod bounds;
pub mod bundle;
pub mod capability;
pub mod decide;
pub mod event;
pub mod grant;
pub mod group;
pub mod id;
pub mod lint;
pub mod lists;
mod nothing_else;
pub mod pattern;
pub mod request;
pub mod risk;
pub mod rule;
pub mod rules;
pub mod sheet;
pub mod text;
pub mod time;
pub mod version;
