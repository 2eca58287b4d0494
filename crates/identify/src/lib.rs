//! From bytes to facts: what an ELF program asks for before it starts, who reads a script, and what package databases say of
//! a file. Pure: it never opens a file; whoever holds one passes its bytes, or a way to read pieces of it.

pub mod apt;
pub mod dpkg;
pub mod elf;
pub mod package;
pub mod polkit;
pub mod rpm;
pub mod script;
#[cfg(feature = "upload")]
pub mod upload;
#[cfg(feature = "windows")]
pub mod windows;
