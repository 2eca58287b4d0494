//! The control server: console, API, agents' channel, database. A library so that its tests can build a site; the
//! program is `main.rs`.

pub mod accounts;
pub mod app;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod channel;
pub mod clock;
pub mod computers;
pub mod config;
pub mod db;
pub mod doctor;
pub mod error;
pub mod grants;
pub mod groups;
pub mod keys;
pub mod launches;
pub mod listing;
pub mod openapi;
pub mod pages;
pub mod policies;
pub mod requests;
pub mod router;
pub mod serve;
pub mod sweep;
pub mod tls;
pub mod trials;
pub mod uploads;
