//! From bytes to facts: what an ELF program asks for before it starts, and who reads a script. Pure: it never opens a
//! file; whoever holds one passes its bytes, or a way to read pieces of it.

pub mod elf;
pub mod script;
