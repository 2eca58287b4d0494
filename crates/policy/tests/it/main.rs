//! What the core promises, from outside: data cases through one `check`, properties over many cases, whole tables, and
//! the shape of every document.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod advice;
mod applications;
mod bounds;
mod components;
mod decisions;
mod documents;
mod lint;
mod lives;
mod properties;
mod samples;
