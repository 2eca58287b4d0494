//! What rules about vendors and products go by in files of Windows: the publisher whose signature holds, and what the file
//! says of itself. Without a signature that holds, nothing of it counts: what is claimed is kept only to be told.

use elevon_policy::application::{Package, PackageSystem, Vendor};
use elevon_policy::text::Text;

use super::authenticode::Signature;
use super::msi::Summary;
use super::version::Version;

/// Who is said to have made a file.
#[derive(Debug, Clone, Copy)]
pub enum Publisher<'a> {
    /// A signature that holds says so.
    Proven(&'a Signature),
    /// Somebody says so whose signature does not hold.
    Claimed(&'a Text),
    /// Nobody says.
    Unknown,
}

impl Publisher<'_> {
    fn vendor(self) -> Option<Vendor> {
        match self {
            Self::Proven(signature) => Some(Vendor { name: signature.publisher.clone(), verified: true }),
            Self::Claimed(name) => Some(Vendor { name: name.clone(), verified: false }),
            Self::Unknown => None,
        }
    }
}

/// Of a program or library, by its version resource.
pub fn of_program(version: &Version, by: Publisher<'_>) -> Package {
    let numbers = version.version.map(|numbers| numbers.map(|number| number.to_string()).join("."));
    let name = version.file_name.as_ref().or(version.product.as_ref());
    package(name, version.product.as_ref(), numbers.unwrap_or_default(), by)
}

/// Of a package of Windows Installer, by its summary.
pub fn of_installer(summary: &Summary, by: Publisher<'_>) -> Package {
    package(summary.package.as_ref(), summary.product.as_ref(), String::new(), by)
}

fn package(name: Option<&Text>, product: Option<&Text>, version: String, by: Publisher<'_>) -> Package {
    Package {
        system: PackageSystem::Windows,
        name: name.cloned().unwrap_or_default(),
        product: product.cloned().unwrap_or_default(),
        version: Text::new(version),
        vendor: by.vendor(),
        unmodified: matches!(by, Publisher::Proven(_)),
    }
}
