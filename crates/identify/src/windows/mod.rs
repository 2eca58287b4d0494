//! Files of Windows: what a program or a package says of itself (`pe`, `version`, `msi`), who signed it (`authenticode`), and whether that can be
//! believed (`chain`). Every question is answered from the bytes and from what the caller trusts; the operating system is not
//! asked. A signature that cannot be followed to its end is refused, with its cause.
//!
//! Sources: "Windows Authenticode Portable Executable Signature Format" (Microsoft, 2008), the PE format (Microsoft Learn),
//! RFC 5652 (CMS), RFC 5280 (certificates), RFC 3161 (time stamps).

pub mod authenticode;
mod chain;
mod cms;
mod der;
pub mod facts;
pub mod msi;
pub mod pe;
mod refusal;
mod signer;
mod timestamp;
pub mod version;

pub use chain::{Revoked, Trust};
pub use refusal::Refusal;
