//! The whole system as real processes: real root, real users, real terminals, real TLS, a real browser. Nothing is
//! simulated, and nothing is left behind.

pub mod abandoned;
pub mod api;
pub mod balancer;
pub mod binaries;
pub mod browser;
pub mod clock;
pub mod console;
pub mod corpus;
pub mod database;
pub mod demo;
pub mod disk;
pub mod form;
pub mod journal;
pub mod leftovers;
pub mod person;
pub mod policy;
pub mod polkit;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod program;
pub mod proxy;
pub mod site;
pub mod terminal;
pub mod wall;
pub mod watch;
